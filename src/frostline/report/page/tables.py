"""The tables of the page: which columns are shown, in which words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from frostline.report.arms import Arm, distinctions
from frostline.report.figures import colours
from frostline.report.page.shown import Column, Table, count, number, p_value, points, share, text_of
from frostline.report.table import scientific

MAX_UNSURE = 50  # training sentences of an arm that are shown


def comparison_table(arms: Sequence[Arm], data: pd.DataFrame) -> Table:
    """Return what the arms reach and cost; ``data`` as :func:`frostline.report.comparison.comparison` has it."""
    told = distinctions(arms)
    settings = pd.DataFrame(
        {
            "strategy": [arm.strategy if arm.layer is None else f"{arm.strategy}, layer {arm.layer}" for arm in arms],
            **told,
            "frozen_depth": [arm.depth for arm in arms],
            "blocks": [arm.blocks for arm in arms],
            "learning_rate": [arm.lr for arm in arms],
        }
    )
    columns = (
        Column("strategy", "strategy", is_text=True),
        *(Column(key, key) for key in told),
        Column("frozen depth", "frozen_depth", lambda row: f"{row['frozen_depth']} of {row['blocks']}"),
        Column("learning rate", "learning_rate", lambda row: _rate(row["learning_rate"])),
        Column("test accuracy, % (95 % CI)", "accuracy", share("accuracy")),
        Column("macro F1, %", "macro_f1", share("macro_f1")),
        Column("NLL, nats", "nll", number("nll")),
        Column("seeds", "seeds"),
        Column("time, s", "fit_seconds", lambda row: f"{row['fit_seconds']:.{0 if row['fit_seconds'] >= 10 else 1}f}"),
        Column("memory, MB", "peak_memory_mb", lambda row: _whole(row["peak_memory_mb"])),
        Column("trained", "trained_parameters", count("trained_parameters")),
        Column("checkpoint, MB", "checkpoint_mb", lambda row: _size(row["checkpoint_mb"])),
    )
    shown = tuple(column for column in columns if column.key in settings or data.get(column.key, pd.Series()).notna().any())
    return Table("comparison", pd.concat([settings, data], axis=1), shown, colours=tuple(colours(arms)))


def differences_table(data: pd.DataFrame) -> Table:
    """Return how sure differences are; ``data`` as :func:`frostline.report.differences.differences` has it."""
    reference = data["reference"].iloc[0]
    columns = (
        Column("arm", "arm", is_text=True),
        Column("difference, points (95 % CI)", "difference", points("difference")),
        Column("seeds", "seeds"),
        Column("effect size, sd", "effect_size"),
        Column("p over seeds", "p_seeds", p_value("p_seeds") if "p_seeds" in data else None),
        Column("p, Holm", "p_seeds_holm", p_value("p_seeds_holm") if "p_seeds_holm" in data else None),
        Column("ASO", "aso"),
        Column("p, first seed's models", "p_mcnemar", p_value("p_mcnemar")),
        Column("seeds needed", "seeds_needed", lambda row: _whole(row["seeds_needed"])),
    )
    note = (
        f"Test accuracy minus that of {reference}. The interval resamples shared seeds and sentences. p over seeds: a t-test "
        "whose unit is the seed (Holm: corrected for the number of arms). ASO: almost stochastic order, at most 0.2 if the arm "
        "is the better one (below 0.5 happens to equal arms, too). First seed's models: McNemar's exact test, "
        "which compares these weights, not the methods. Seeds needed: for a power of 0.8 if the observed difference were the "
        "true one."
    )
    few = " With fewer than 5 seeds all of this is rough." if data["seeds"].min() < 5 else ""
    return Table("differences", data, tuple(c for c in columns if c.key in data), note + few)


def seeds_table(data: pd.DataFrame) -> Table:
    """Return how much seeds vary; ``data`` as :func:`frostline.report.learning.spread` has it."""
    columns = (
        Column("arm", "arm", is_text=True),
        Column("seeds", "seeds"),
        Column("mean, %", "mean", share("mean")),
        Column("sd, points", "sd", lambda row: text_of(None) if pd.isna(row["sd"]) else f"{100 * row['sd']:.1f}"),
        Column("worst, %", "min", share("min")),
        Column("failed", "failed"),
    )
    return Table("seeds", data, columns, "Test accuracy over seeds. Failed: at most 3 points above the majority class.")


def disagreement_table(data: pd.DataFrame) -> Table:
    """Return how often arms disagree; ``data`` as :func:`frostline.report.errors.disagreement` has it."""
    columns = (
        Column("first", "first", is_text=True),
        Column("second", "second", is_text=True),
        Column("churn, %", "churn", share("churn")),
        Column("two seeds of one arm, %", "seed_churn", share("seed_churn")),
        Column("beyond seeds, points", "excess_churn", points("excess_churn")),
        Column("kappa", "kappa"),
        Column("both wrong, %", "both_wrong", share("both_wrong")),
        Column("… if independent, %", "expected_both_wrong", share("expected_both_wrong")),
        Column("second fixes", "fixed"),
        Column("second breaks", "broken"),
    )
    note = (
        "Churn: how often a seed of the one and a seed of the other predict differently; beyond seeds: minus how often two seeds "
        "of one arm do. Fixes and breaks: sentences that most seeds get right under one of the two only."
    )
    return Table("disagreement", data, columns, note)


def slices_table(data: pd.DataFrame) -> Table:
    """Return accuracy by slice; ``data`` has ``arm`` and the columns of :func:`frostline.measures.slices.slice_scores`."""
    columns = (
        Column("arm", "arm", is_text=True),
        Column("slice", "slice", is_text=True),
        Column("sentences", "n"),
        Column("accuracy, % (95 % CI)", "accuracy", share("accuracy")),
        Column("against the rest, points", "difference", points("difference")),
        Column("p", "p", p_value("p")),
        Column("p, Holm", "p_holm", p_value("p_holm")),
    )
    note = "Slices were declared before looking. Fewer than 30 sentences: the count, and no number."
    return Table("slices", data, columns, note)


def found_slices_table(data: pd.DataFrame, arm: str) -> Table:
    """Return slices that were found; ``data`` as :func:`frostline.measures.slices.found_slices` has it."""
    columns = (
        Column("slice", "slice", is_text=True),
        Column("sentences", "n"),
        Column("errors in it, %", "error_rate", share("error_rate")),
        Column("in the rest, %", "error_rate_of_rest", share("error_rate_of_rest")),
        Column("p", "p", p_value("p")),
        Column("p, corrected", "p_fdr", p_value("p_fdr")),
        Column("confirmed", "confirmed"),
    )
    note = (
        f"Where {arm} errs: found by a tree of depth 2 on one half of the test sentences, tested on the other half (false "
        "discovery rate 5 %). All numbers are of the half that confirms."
    )
    return Table("found_slices", data, columns, note)


def calibration_table(data: pd.DataFrame) -> Table:
    """Return how well probabilities are calibrated; ``data`` as :func:`frostline.report.calibration.calibration` has it."""
    columns = (
        Column("arm", "arm", is_text=True),
        Column("ECE", "ece", number("ece")),
        Column("ECE by chance, mean", "ece_if_calibrated", number("ece_if_calibrated")),
        Column("ECE by chance, 95th percentile", "ece_if_calibrated_p95", number("ece_if_calibrated_p95")),
        Column("NLL, nats", "nll", number("nll")),
        Column("temperature", "temperature"),
        Column("ECE after it", "ece_scaled", number("ece_scaled") if "ece_scaled" in data else None),
        Column("NLL after it", "nll_scaled", number("nll_scaled") if "nll_scaled" in data else None),
    )
    note = (
        "Expected calibration error, 15 bins of equal mass, mean over seeds; by chance: what calibrated probabilities would give "
        "on as many sentences. The temperature was fitted on validation; above 1 the arm was too sure."
    )
    return Table("calibration", data, tuple(c for c in columns if c.key in data), note)


def dynamics_table(data: pd.DataFrame) -> Table:
    """Return training sentences by confidence; ``data`` as :func:`frostline.report.dynamics.dynamics_table` has it."""
    columns = (
        Column("arm", "arm", is_text=True),
        Column("text", "text", is_text=True),
        Column("label", "label", is_text=True),
        Column("confidence", "confidence"),
        Column("variability", "variability"),
        Column("right, %", "correctness", lambda row: f"{100 * row['correctness']:.0f}"),
        Column("seeds", "seeds"),
        Column("judges' spread", "rating_sd"),
        Column("flipped on purpose", "flipped"),
    )
    first = data.groupby("arm", sort=False).head(MAX_UNSURE)
    note = (
        f"The {MAX_UNSURE} training sentences of each arm that it is least sure of, over its epochs and seeds; the file has all. "
        "Judges' spread: standard deviation of the ratings that people gave."
    )
    return Table("dynamics", data, tuple(c for c in columns if c.key in data), note, shown=first)


def results_table(data: pd.DataFrame) -> Table:
    """Return all runs."""

    def column(name: str) -> Column:
        is_text = not pd.api.types.is_numeric_dtype(data[name])
        return Column(name, name, lambda row: _cell(row[name], name), is_text)

    return Table("results", data, tuple(column(str(name)) for name in data))


def _rate(rate: Any) -> str:
    return "–" if pd.isna(rate) else scientific(rate)


def _whole(value: Any) -> str:
    return "–" if pd.isna(value) else f"{value:,.0f}"


def _size(megabytes: Any) -> str:
    return "–" if pd.isna(megabytes) else f"{megabytes:.3f}" if megabytes < 0.1 else f"{megabytes:.1f}"


def _cell(value: Any, column: str) -> str:
    """A cell of the table of all runs: numbers with four digits, whole numbers whole, nothing for nothing."""
    if pd.isna(value):
        return ""
    if column == "optimizer.lr":
        return scientific(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)
