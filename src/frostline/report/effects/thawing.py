"""Effects on what thawing costs: overfitting, forgetting, and what remedies save."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from frostline.errors import FrostlineError
from frostline.measures.statistics import Interval, paired_difference, resampled_means, t_interval
from frostline.report.arms import Arm, names
from frostline.report.effects.evidence import Effect, arm_of, difference, ends, percent_of, scores, shared_seeds, statistic
from frostline.runs.sweep import read_config, value_of

RETENTION = "similarity_correlation_change"  # what the encoder was pretrained for, without any training
MATCHED = 0.02  # of validation accuracy: a remedy that learned less forgets less by construction


def gap_of_small_data(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how many nats the gap between validation and training loss is wider on the fewest than on the most sentences."""
    few, many = ends(_tuned(arms), sweep_dir, "data.train_size")
    return difference(
        sweep_dir, _tuned(arms), "overfitting", "loss_gap", {"data__train_size": few}, {"data__train_size": many}, "gap"
    )


def gap_per_tenfold_parameters(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how many nats the gap between validation and training loss grows with ten times the trained parameters."""
    tuned = [arm for arm in arms if arm.strategy != "frozen"]
    sizes = [np.log10(arm.trained_parameters) for arm in tuned]
    if len(set(sizes)) < 2:
        raise FrostlineError("Two numbers of trained parameters are needed.")
    seeds = shared_seeds([dict(zip(arm.seeds, arm.runs, strict=True)) for arm in tuned])
    gaps = [statistic(sweep_dir, dict(zip(a.seeds, a.runs, strict=True)), "overfitting", "loss_gap", seeds) for a in tuned]
    slopes = np.array([np.polyfit(sizes, of_seed, 1)[0] for of_seed in np.array(gaps).T])
    told = ", ".join(f"{name} {gap.mean():.3f}" for name, gap in zip(names(tuned), gaps, strict=True))
    return Effect(t_interval(slopes), len(seeds), f"gaps in nats: {told}")


def frozen_over_full(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much the best arm with frozen blocks (chosen on validation) beats full fine-tuning on test."""
    full = arm_of(arms, "full")
    frozen = max((arm for arm in arms if arm.depth > 0), key=lambda arm: (arm.val_accuracy, -arm.val_loss), default=None)
    if frozen is None:
        raise FrostlineError("No run with frozen blocks has finished.")
    of_frozen, of_full = scores(frozen, full)
    detail = f"{frozen.short} {percent_of(of_frozen)}, full {percent_of(of_full)}"
    return Effect(paired_difference(of_frozen, of_full), len(of_full), detail)


def forgetting_with_rate(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much more the highest learning rate forgets than the lowest one, in correlation."""
    low, high = ends(_tuned(arms), sweep_dir, "optimizer.lr")
    return difference(sweep_dir, _tuned(arms), "forgetting", RETENTION, {"optimizer__lr": low}, {"optimizer__lr": high}, "change")


def forgetting_with_scarcity(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much more a run on the fewest sentences forgets than one on the most, in correlation."""
    few, many = ends(_tuned(arms), sweep_dir, "data.train_size")
    return difference(
        sweep_dir, _tuned(arms), "forgetting", RETENTION, {"data__train_size": many}, {"data__train_size": few}, "change"
    )


def forgetting_with_narrowness(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much more a run on one domain forgets than one on a mix of domains, in correlation."""
    mixed, narrow = {"data__domain": "mixed"}, {"data__domain": "narrow"}
    return difference(sweep_dir, _tuned(arms), "forgetting", RETENTION, mixed, narrow, "change")


def compromise(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return how far partial fine-tuning lies above the line from frozen to full, in shares of accuracy gained and skill kept.

    ``(partial - frozen) / (full - frozen)`` of test accuracy, plus ``(partial - full) / (frozen - full)`` of the retained skill,
    minus 1: 0 is on the line between the two ends.
    """
    of = [arm_of(arms, name) for name in ("frozen", "partial", "full")]
    accuracy = scores(*of)
    seeds = [seed for seed in of[0].seeds if all(seed in arm.seeds for arm in of)]
    kept = [statistic(sweep_dir, dict(zip(a.seeds, a.runs, strict=True)), "forgetting", RETENTION, seeds) for a in of]
    tables = np.stack([*accuracy, *(np.broadcast_to(k[:, None], accuracy[0].shape) for k in kept)]).astype(float)

    def above_the_line(means: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        frozen, partial, full, kept_frozen, kept_partial, kept_full = means.T
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = (partial - frozen) / (full - frozen) + (kept_partial - kept_full) / (kept_frozen - kept_full) - 1  # type: ignore[type-arg]
        return found

    observed = float(above_the_line(tables.mean(axis=(1, 2))[None])[0])
    if not np.isfinite(observed) or accuracy[2].mean() <= accuracy[0].mean():
        raise FrostlineError("There is nothing to trade: full fine-tuning does not beat the probe.")
    draws = above_the_line(resampled_means(tables))
    low, high = np.quantile(np.nan_to_num(draws, nan=0.0), [0.025, 0.975], method="nearest")
    detail = "; ".join(
        f"{arm.short}: {percent_of(right)} on test, {change.mean():+.3f} of similarity, {arm.fit_seconds:.0f} s"
        for arm, right, change in zip(of, accuracy, kept, strict=True)
    )
    return Effect(Interval(observed, float(low), float(high)), len(seeds), detail)


def probe_first_out_of_domain(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return by how much linear probing, then fine-tuning beats plain fine-tuning on domains that neither was trained on."""
    plain, first = {"strategy__name": "full"}, {"strategy__name": "lp_ft"}
    return difference(sweep_dir, _best(arms), "forgetting", "out_of_domain_accuracy", first, plain, "accuracy")


def best_remedy(arms: Sequence[Arm], sweep_dir: Path) -> Effect:
    """Return how much less the best remedy forgets than plain full fine-tuning, of those that match its validation accuracy.

    The interval is Student's over seeds with Bonferroni's correction for the number of remedies compared.
    """
    plain = next((arm for arm in arms if arm.strategy == "full" and not _remedies(sweep_dir, arm)), None)
    if plain is None:
        raise FrostlineError("No plain run of full fine-tuning has finished.")
    others = [arm for arm in arms if arm is not plain and arm.strategy != "frozen"]
    matched = [arm for arm in others if arm.val_accuracy >= plain.val_accuracy - MATCHED]
    if not matched:
        raise FrostlineError(f"No remedy reaches plain fine-tuning's validation accuracy to within {100 * MATCHED:g} points.")
    runs = [dict(zip(arm.seeds, arm.runs, strict=True)) for arm in (plain, *matched)]
    seeds = shared_seeds(runs)
    of_plain, *of_others = (statistic(sweep_dir, of, "forgetting", RETENTION, seeds) for of in runs)
    saved = [of - of_plain for of in of_others]
    best = int(np.argmax([s.mean() for s in saved]))
    half = stats.t.ppf(1 - 0.025 / len(matched), len(seeds) - 1) * stats.sem(saved[best])
    mean = float(saved[best].mean())
    told = ", ".join(f"{_label(sweep_dir, arm)} {s.mean():+.3f}" for arm, s in zip(matched, saved, strict=True))
    detail = f"of {len(others)} compared {len(matched)} match its accuracy; correlation kept against plain fine-tuning: {told}"
    return Effect(Interval(mean, mean - float(half), mean + float(half)), len(seeds), detail)


# --- internals ------------------------------------------------------------------------------------------------------------


def _sizes(arms: Sequence[Arm], sweep_dir: Path) -> tuple[dict[str, object], dict[str, object]]:
    """The settings of the runs on the fewest and on the most sentences."""
    few, many = ends(_tuned(arms), sweep_dir, "data.train_size")
    return {"data__train_size": few}, {"data__train_size": many}


def _tuned(arms: Sequence[Arm]) -> list[Arm]:
    """The arms that train something of the encoder."""
    return [arm for arm in arms if arm.strategy != "frozen"]


def _best(arms: Sequence[Arm]) -> list[Arm]:
    """The arms with their runs of the learning rate that validation chose only."""
    return [dataclasses.replace(arm, tried=arm.runs) for arm in arms]


def _remedies(sweep_dir: Path, arm: Arm) -> list[str]:
    """What an arm does against forgetting beyond its strategy: remedies, and the rates and schedules that are meant as one."""
    config = read_config(sweep_dir / arm.runs[0])
    found = sorted(value_of(config, "remedy") or {})
    if (value_of(config, "optimizer.layer_decay") or 1.0) != 1.0:
        found.append("layer_decay")
    if value_of(config, "scheduler.name") == "slanted_triangular":
        found.append("slanted_triangular")
    return found


def _label(sweep_dir: Path, arm: Arm) -> str:
    return " + ".join([*([] if arm.strategy == "full" else [arm.strategy]), *_remedies(sweep_dir, arm)])
