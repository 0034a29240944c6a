"""The tidy table: what a measure adds is what a reader gets back."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from frostline.errors import FrostlineError
from frostline.measures.statistics import Interval
from frostline.measures.table import MeasureTable
from frostline.runs.files import write_csv
from frostline.runs.measured import COLUMNS, read_table, summary


def some_table() -> MeasureTable:
    table = MeasureTable("layers")
    table.add("probe_accuracy", Interval(0.75, 0.7, 0.8), layer=0, pooling="mean", null=0.5, n=200)
    table.add("expected_layer", 2.5, pooling="mean")
    table.add("expected_layer", 3.5, pooling="cls")
    table.add("majority_accuracy", 0.5, n=200)
    table.add("tense.majority_accuracy", 0.5, n=100)
    table.add("best_layer", 4, pooling="mean")
    table.add("nothing", float("nan"), layer=1)
    return table


def test_a_table_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "layers.csv"
    write_csv(path, some_table().frame())
    table = read_table(path)
    assert tuple(table.columns) == COLUMNS
    first = table.iloc[0]
    assert (first["layer"], first["value"], first["low"], first["high"], first["null"], first["n"]) == (
        0,
        0.75,
        0.7,
        0.8,
        0.5,
        200,
    )
    assert table["layer"].isna().sum() == 5
    assert path.read_text().splitlines()[-1] == "layers,1,,nothing,,,,,"


def test_the_summary_of_a_run_holds_what_concerns_its_whole_encoder_and_its_own_task(tmp_path: Path) -> None:
    write_csv(tmp_path / "measures" / "layers.csv", some_table().frame())
    assert summary(tmp_path) == {
        "layers/expected_layer.mean": 2.5,
        "layers/expected_layer.cls": 3.5,
        "layers/majority_accuracy": 0.5,
        "layers/best_layer": 4,
        "layers/best_pooling": "mean",
    }
    assert summary(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\0\0\0"])
def test_a_damaged_table_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "layers.csv"
    path.write_text(content)
    with pytest.raises(FrostlineError, match="is damaged"):
        read_table(path)


def test_one_part_that_fails_leaves_the_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    table = MeasureTable("geometry")
    with caplog.at_level(logging.WARNING), table.leaving_out("attention"):
        raise FrostlineError("There are no maps.")
    table.add("spread", 1.0)
    assert caplog.messages == ["measure=geometry leaves out attention: There are no maps."]
    assert len(table.frame()) == 1
    with pytest.raises(ZeroDivisionError), table.leaving_out("attention"):
        raise ZeroDivisionError
