"""Effects on what thawing costs, on synthetic runs of which the truth is known."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy import stats

from frostline.errors import FrostlineError
from frostline.measures.table import MeasureTable
from frostline.report.arms import Arm, summarise
from frostline.report.effects import EFFECTS, Effect
from frostline.report.learning import crossing, learning_curves, spread
from frostline.runs.files import write_csv, write_json
from frostline.runs.reading import read_json
from frostline.runs.sweep import collect

SYNTHETIC = runpy.run_path(str(Path(__file__).with_name("test_table.py")))
write_run = SYNTHETIC["write_run"]
SEEDS = (0, 1, 2)


def add(folder: Path, measure: str, **statistics: float) -> None:
    table = MeasureTable(measure)
    for name, value in statistics.items():
        table.add(name, value)
    write_csv(folder / "measures" / f"{measure}.csv", table.frame())


def arms_of(folder: Path) -> list[Arm]:
    return summarise(folder, collect(folder))


def effect(name: str, folder: Path) -> Effect:
    return EFFECTS[name](arms_of(folder), folder)


def expected(values: list[float]) -> tuple[float, float]:
    """Mean and half width of Student's interval."""
    return float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def check(found: Effect, values: list[float]) -> None:
    mean, half = expected(values)
    assert found.interval == pytest.approx((mean, mean - half, mean + half))
    assert found.seeds == len(values)


@pytest.mark.parametrize(
    ("name", "measure", "statistic", "sign"),
    [
        ("gap_of_small_data", "overfitting", "loss_gap", 1),
        ("forgetting_with_scarcity", "forgetting", "similarity_correlation_change", -1),
    ],
)
def test_effects_of_size_are_paired_by_seed(tmp_path: Path, name: str, measure: str, statistic: str, sign: int) -> None:
    of = {100: [0.5, 0.4, 0.45], 800: [0.1, 0.15, 0.12]}
    for size, values in of.items():
        for seed in SEEDS:
            run = tmp_path / f"{size + seed}"
            write_run(run, "full", seed, overrides={"data.train_size": size})
            add(run, measure, **{statistic: sign * values[seed]})
    check(effect(name, tmp_path), [few - many for few, many in zip(of[100], of[800], strict=True)])


def test_more_forgetting_at_a_higher_rate_is_a_positive_effect(tmp_path: Path) -> None:
    of = {2e-5: [-0.01, -0.02, -0.01], 1e-4: [-0.1, -0.1, -0.1], 3e-4: [-0.3, -0.4, -0.35]}
    for number, (rate, values) in enumerate(of.items()):
        for seed in SEEDS:
            run = tmp_path / f"{10 * number + seed}"
            write_run(run, "full", seed, lr=rate)
            add(run, "forgetting", similarity_correlation_change=values[seed])
    check(effect("forgetting_with_rate", tmp_path), [low - high for low, high in zip(of[2e-5], of[3e-4], strict=True)])


def test_a_compromise_is_measured_from_the_line_between_the_ends(tmp_path: Path) -> None:
    kept = {"frozen": 0.0, "partial": -0.1, "full": -0.4}
    for number, (strategy, test) in enumerate({"frozen": 0.6, "partial": 0.75, "full": 0.8}.items()):
        for seed in SEEDS:
            run = tmp_path / f"{10 * number + seed}"
            write_run(run, strategy, seed, lr=None if strategy == "frozen" else 1e-4, test=test)
            add(run, "forgetting", similarity_correlation_change=kept[strategy])
    probe, partial, full = (next(a.test.mean for a in arms_of(tmp_path) if a.strategy == s and a.test) for s in kept)
    found = effect("compromise", tmp_path)
    assert found.interval.mean == pytest.approx((partial - probe) / (full - probe) + 0.3 / 0.4 - 1)
    assert found.interval.low < found.interval.mean < found.interval.high


def test_what_was_not_measured_is_told(tmp_path: Path) -> None:
    for seed in SEEDS:
        write_run(tmp_path / f"{seed}", "full", seed, lr=1e-4)
        write_run(tmp_path / f"{10 + seed}", "full", seed, lr=3e-4)
    with pytest.raises(FrostlineError, match=r"forgetting\.csv' is missing; frostline measure"):
        effect("forgetting_with_rate", tmp_path)
    with pytest.raises(FrostlineError, match=r"two values of data\.train_size"):
        effect("gap_of_small_data", tmp_path)


def test_curves_cross_where_thawing_overtakes_and_seeds_are_told(tmp_path: Path) -> None:
    accuracies = {"frozen": {100: 0.7, 400: 0.72, 1600: 0.74}, "full": {100: 0.55, 400: 0.68, 1600: 0.85}}
    number = 0
    for strategy, by_size in accuracies.items():
        for size, test in by_size.items():
            for seed in SEEDS:
                run = tmp_path / f"{number}"
                write_run(
                    run, strategy, seed, None if strategy == "frozen" else 1e-4, test=test, overrides={"data.train_size": size}
                )
                manifest = run / "manifest.json"
                write_json(manifest, read_json(manifest) | {"sentences": {"train": size}})
                number += 1
    arms = arms_of(tmp_path)
    curves = learning_curves(tmp_path, arms)
    assert set(curves) == {"frozen", "full"} and list(curves["full"]) == [100, 400, 1600]
    at, low, high = crossing(curves["frozen"], curves["full"])
    assert 100 < at < 1600
    assert 100 <= low <= at <= high
    table = spread(tmp_path, arms)
    assert (table["seeds"] == 3).all() and len(table) == 6
    assert (table["min"] <= table["mean"]).all() and table["failed"].between(0, 3).all()


def test_the_best_remedy_is_compared_with_plain_fine_tuning_and_only_where_it_is_as_accurate(tmp_path: Path) -> None:
    none: dict[str, Any] = {"remedy": {}, "scheduler": {"name": "linear_warmup"}}
    kept = {  # what is set, validation accuracy, similarity kept in each seed
        "decay": ({**none, "optimizer": {"layer_decay": 0.85}}, 0.80, [0.85, 0.86, 0.85]),
        "plain": (none, 0.80, [0.80, 0.79, 0.81]),
        "slanted": ({**none, "scheduler": {"name": "slanted_triangular"}}, 0.80, [0.81, 0.80, 0.82]),
        "l2_sp": ({**none, "remedy": {"l2_sp": {}}}, 0.79, [0.88, 0.86, 0.90]),
        "ewc": ({**none, "remedy": {"ewc": {}}}, 0.75, [0.95, 0.95, 0.95]),  # too inaccurate to count
    }
    for number, (name, (settings, validation, values)) in enumerate(kept.items()):
        for seed in SEEDS:
            run = tmp_path / f"{10 * number + seed}"
            write_run(run, "full", seed, validation=validation, overrides={"strategy.told": name})
            config = OmegaConf.merge(OmegaConf.load(run / "config.yaml"), settings)
            OmegaConf.save(config, run / "config.yaml")
            add(run, "forgetting", similarity_correlation_change=values[seed] - 0.9)
    found = effect("best_remedy", tmp_path)
    saved = [with_it - without for with_it, without in zip(kept["l2_sp"][2], kept["plain"][2], strict=True)]
    half = float(stats.t.ppf(1 - 0.025 / 3, 2) * stats.sem(saved))  # of three remedies as accurate
    assert found.interval == pytest.approx((np.mean(saved), np.mean(saved) - half, np.mean(saved) + half))
    assert "of 4 compared 3 match" in found.detail
    assert all(name in found.detail for name in ("l2_sp +0.080", "layer_decay +0.053", "slanted_triangular +0.010"))
