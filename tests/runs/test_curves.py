"""Curves survive a kill: read back, rewound, written on."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from frostline.runs.curves import CurvesLogger


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def log(logger: CurvesLogger, steps: range, scale: float = 1.0) -> None:
    """As Lightning does: a row a step, with validation in the row of an epoch's last step."""
    for step in steps:
        logger.log_metrics({"train/loss": scale / (step + 1), "epoch": step // 3}, step)
        if step % 3 == 2:
            logger.log_metrics({"val/loss": scale * step, "epoch": step // 3}, step)
            logger.save()


def test_a_row_a_step_with_all_that_was_logged_then(tmp_path: Path) -> None:
    logger = CurvesLogger(tmp_path / "curves.csv")
    log(logger, range(6))
    rows = read(logger.path)
    assert [int(row["step"]) for row in rows] == list(range(6))
    assert list(rows[0]) == ["step", "epoch", "train/loss", "val/loss"]
    assert [float(row["train/loss"]) for row in rows] == [1 / (step + 1) for step in range(6)]
    assert [row["val/loss"] for row in rows] == ["", "", "2.0", "", "", "5.0"]
    assert [row["epoch"] for row in rows] == ["0", "0", "0", "1", "1", "1"]


def test_a_resumed_curve_equals_an_undisturbed_one(tmp_path: Path) -> None:
    whole = CurvesLogger(tmp_path / "whole.csv")
    log(whole, range(12))
    killed = CurvesLogger(tmp_path / "killed.csv")
    log(killed, range(6))
    log(killed, range(6, 8), scale=99)
    killed.save()  # killed in step 8; its last checkpoint is from step 6
    resumed = CurvesLogger(tmp_path / "killed.csv")
    resumed.rewind(6)
    assert sorted(resumed.rows) == list(range(6))
    log(resumed, range(6, 12))
    assert resumed.path.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize("step", [0, 1, 5, 100])
def test_rewinding_keeps_exactly_what_came_before(step: int, tmp_path: Path) -> None:
    logger = CurvesLogger(tmp_path / "curves.csv")
    log(logger, range(6))
    logger.rewind(step)
    logger.save()
    assert [int(row["step"]) for row in read(logger.path)] == list(range(min(step, 6)))


def test_reading_back_and_saving_changes_nothing(tmp_path: Path) -> None:
    logger = CurvesLogger(tmp_path / "curves.csv")
    log(logger, range(6))
    before = logger.path.read_bytes()
    CurvesLogger(logger.path).save()
    assert logger.path.read_bytes() == before


def test_rows_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    logger = CurvesLogger(tmp_path / "curves.csv")
    for step in (10, 2, 9, 0):
        logger.log_metrics({"x": step}, step)
    logger.finalize("failed")
    assert [int(row["step"]) for row in read(logger.path)] == [0, 2, 9, 10]


def test_a_fresh_logger_ignores_nothing_and_writes_a_header_only(tmp_path: Path) -> None:
    logger = CurvesLogger(tmp_path / "curves.csv")
    logger.save()
    assert logger.path.read_text().strip() == "step,epoch"
    assert CurvesLogger(logger.path).rows == {}
    assert list(tmp_path.iterdir()) == [logger.path]
