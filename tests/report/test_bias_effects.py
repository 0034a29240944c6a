"""Effects on bias, on synthetic runs of which the truth is known."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frostline.errors import FrostlineError
from frostline.measures.table import MeasureTable
from frostline.report.effects import EFFECTS
from frostline.report.measures import measured_figures
from frostline.runs.files import write_csv
from frostline.words import read_words

HELPERS = runpy.run_path(str(Path(__file__).with_name("test_thawing_effects.py")))
add, arms_of, check, effect, write_run = (HELPERS[name] for name in ("add", "arms_of", "check", "effect", "write_run"))
SEEDS = (0, 1, 2)


def runs(folder: Path, strategy: str, gaps: dict[Any, list[float]], key: str, **others: float) -> None:
    for value, of in gaps.items():
        for seed in SEEDS:
            run = folder / f"{len(list(folder.iterdir()))}"
            settings = {key: list(value) if isinstance(value, tuple) else value}
            write_run(run, strategy, seed, None if strategy == "frozen" else 1e-4, overrides=settings)
            add(run, "amplification", balanced_rate_gap=of[seed], bayes_rate_gap=of[seed] / 2, **others)


def test_the_smallest_step_of_any_strategy_decides_on_a_rise(tmp_path: Path) -> None:
    runs(tmp_path, "frozen", {0.5: [0.0, 0.01, -0.01], 0.7: [0.2, 0.22, 0.19], 0.9: [0.5, 0.52, 0.51]}, "data.skew")
    full = {0.5: [0.0, 0.02, 0.0], 0.7: [0.1, 0.1, 0.13], 0.9: [0.14, 0.12, 0.15]}
    runs(tmp_path, "full", full, "data.skew")
    found = effect("least_step_with_skew", tmp_path)
    check(found, [after - before for before, after in zip(full[0.7], full[0.9], strict=True)])
    assert "gap at skew 0.5, 0.7, 0.9: frozen +0.000, +0.203, +0.510; full" in found.detail
    with pytest.raises(FrostlineError, match=r"two values of data\.skew"):
        EFFECTS["least_step_with_skew"](arms_of(tmp_path)[:1], tmp_path)


@pytest.mark.parametrize(
    ("name", "key", "wider", "narrower"),
    [
        ("gap_with_scarcity", "data.train_size", 200, 1600),
        ("gap_with_annotation_bias", "data.label_noise", 0.4, 0.0),
        ("gap_with_imbalance", "data.class_balance", (0.8, 0.2), (0.5, 0.5)),
    ],
)
def test_what_widens_the_gap_is_paired_by_seed(tmp_path: Path, name: str, key: str, wider: Any, narrower: Any) -> None:
    gaps = {wider: [0.4, 0.5, 0.45], narrower: [0.3, 0.35, 0.36]}
    runs(tmp_path, "full", gaps, key)
    found = effect(name, tmp_path)
    check(found, [a - b for a, b in zip(*gaps.values(), strict=True)])
    assert "rational at its accuracy" in found.detail


def test_strategies_are_compared_above_what_is_rational(tmp_path: Path) -> None:
    over = {"frozen": [0.05, 0.04, 0.06], "full": [0.15, 0.1, 0.12]}
    for number, (strategy, of) in enumerate(over.items()):
        for seed in SEEDS:
            run = tmp_path / f"{10 * number + seed}"
            write_run(run, strategy, seed, None if strategy == "frozen" else 1e-4)
            add(run, "amplification", rate_gap_over_bayes=of[seed], balanced_rate_gap=0.5)
    check(effect("gap_of_full_over_frozen", tmp_path), [a - b for a, b in zip(over["full"], over["frozen"], strict=True)])


def associations(run: Path, passed: float, size: float, layer: int = 6, pooling: str = "mean") -> None:
    table = MeasureTable("association")
    for number, name in enumerate(read_words("associations")):
        table.add(f"{name}_effect_size", size + 0.1 * number, layer, pooling)
        table.add(f"{name}_effect_size", size + 0.1 * number)
    table.add("controls_passed", passed)
    write_csv(run / "measures" / "association.csv", table.frame())


def test_stereotypes_count_only_where_the_controls_came_out(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "frozen", 0, None)
    associations(tmp_path / "0", passed=1.0, size=0.3)
    social = [0.3 + 0.1 * i for i, given in enumerate(read_words("associations").values()) if not given["control"]]
    found = effect("stereotypes_in_the_encoder", tmp_path)
    assert found.interval.mean == pytest.approx(np.mean(social)) and found.seeds == 1
    associations(tmp_path / "0", passed=0.5, size=0.3)
    with pytest.raises(FrostlineError, match="instrument is broken"):
        effect("stereotypes_in_the_encoder", tmp_path)


@pytest.mark.parametrize("sign", [1, -1])
def test_upstream_and_downstream_are_ranked_over_layers(tmp_path: Path, sign: int) -> None:
    for layer in range(7):
        for number, pooling in enumerate(("cls", "mean")):
            run = tmp_path / f"{2 * layer + number}"
            write_run(run, "frozen", 0, None, overrides={"strategy.layer": layer, "model.pooling": pooling})
            associations(run, 1.0, 0.1 * layer + 0.01 * number, layer, pooling)
            add(run, "counterfactual", **{"women_men.mean_change": sign * (1 + 0.1 * layer + 0.01 * number) - 2 * (sign - 1)})
    found = effect("upstream_downstream_correlation", tmp_path)
    assert found.interval.mean == pytest.approx(sign) and "over 14 layers and poolings" in found.detail


def test_a_fall_of_the_probability_is_a_misreading(tmp_path: Path) -> None:
    changes = [-0.05, -0.02, -0.04]
    for seed in SEEDS:
        write_run(tmp_path / f"{seed}", "full", seed)
        add(
            tmp_path / f"{seed}",
            "counterfactual",
            **{"dialect_mean_change": changes[seed], "dialect.habitual_be.mean_change": -0.1},
        )
    found = effect("misreading_of_dialect", tmp_path)
    check(found, [-change for change in changes])
    assert "habitual be -0.100" in found.detail


def test_figures_are_drawn_for_what_was_measured(tmp_path: Path) -> None:
    runs(tmp_path, "frozen", {0.5: [0.0, 0.0, 0.0], 0.8: [0.2, 0.2, 0.2]}, "data.skew")
    for run in tmp_path.iterdir():
        associations(run, 1.0, 0.3)
        add(run, "counterfactual", **{"women_men.mean_change": 0.1})
    figures = measured_figures(tmp_path, arms_of(tmp_path))
    assert {"amplification", "association", "counterfactual"} <= set(figures)
    line = figures["amplification"].axes[0].lines[0]
    assert line.get_xdata().tolist() == [0.5, 0.8] and line.get_ydata() == pytest.approx([0.0, 0.2])
    assert len(figures["association"].axes[0].get_yticks()) == len(read_words("associations"))
