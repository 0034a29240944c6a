"""Figures of what thawing costs, drawn from synthetic runs."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from frostline.report.arms import summarise
from frostline.report.costs import forgetting_figure, tradeoff_figure
from frostline.report.measures import read_measures
from frostline.runs.sweep import collect

HELPERS = runpy.run_path(str(Path(__file__).with_name("test_thawing_effects.py")))
add, write_run = HELPERS["add"], HELPERS["write_run"]
CHANGES = {"frozen": [0.0, 0.0], "full": [-0.1, -0.2]}


def runs(folder: Path, **statistics: float) -> None:
    for number, (strategy, changes) in enumerate(CHANGES.items()):
        for seed, change in enumerate(changes):
            run = folder / f"{10 * number + seed}"
            write_run(run, strategy, seed)
            add(run, "forgetting", similarity_correlation_change=change, **statistics)


@pytest.mark.parametrize(
    ("statistics", "panels"),
    [
        ({}, ["skills"]),
        ({"fixed_probe_accuracy_change": -0.1}, ["probing", "skills"]),
        ({"reading_loss_change": 0.1}, ["skills", "masked"]),
    ],
)
def test_only_what_was_measured_has_a_panel(tmp_path: Path, statistics: dict[str, float], panels: list[str]) -> None:
    runs(tmp_path, **statistics)
    arms = summarise(tmp_path, collect(tmp_path))
    figure = forgetting_figure(read_measures(tmp_path, arms, "forgetting"))
    assert [axes.get_xlabel().split()[0].strip(",") for axes in figure.axes] == panels
    assert [label.get_text()[:4] for label in figure.axes[0].get_yticklabels()] == ["froz", "full"]


def test_the_tradeoff_stands_where_accuracy_and_skill_are(tmp_path: Path) -> None:
    runs(tmp_path)
    arms = summarise(tmp_path, collect(tmp_path))
    figure = tradeoff_figure(arms, read_measures(tmp_path, arms, "forgetting"))
    assert figure is not None
    places = np.array([disc.get_offsets()[0] for disc in figure.axes[0].collections])
    assert places[:, 0] == pytest.approx([np.mean(changes) for changes in CHANGES.values()])
    assert places[:, 1] == pytest.approx([100 * arm.test.mean for arm in arms if arm.test])


def test_one_arm_trades_nothing(tmp_path: Path) -> None:
    runs(tmp_path)
    arms = summarise(tmp_path, collect(tmp_path))
    assert tradeoff_figure(arms[:1], read_measures(tmp_path, arms, "forgetting")) is None
