"""The one form that every measure's numbers have: a row a value."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

from frostline.errors import FrostlineError
from frostline.measures.statistics import Interval
from frostline.runs.measured import COLUMNS

log = logging.getLogger(__name__)


class MeasureTable:
    """Collects the rows of one measure.

    Args:
        measure: its name.
    """

    def __init__(self, measure: str):
        self.measure = measure
        self.rows: list[dict[str, Any]] = []

    def add(
        self,
        statistic: str,
        value: float | Interval | None,
        layer: int | None = None,
        pooling: str | None = None,
        null: float | None = None,
        n: int | None = None,
    ) -> None:
        """Add a row.

        Args:
            statistic: a speaking name.
            value: with an interval or without; None or NaN where it is not defined, which leaves the cell empty.
            layer: 0 (embeddings) … L; None for what concerns the whole encoder.
            pooling: of the states, or None.
            null: what the statistic would be if nothing were there.
            n: how many sentences (or words) it rests on.
        """
        low = high = None
        if isinstance(value, Interval):
            value, low, high = value
        row = (self.measure, layer, pooling, statistic, value, low, high, null, n)
        self.rows.append(dict(zip(COLUMNS, row, strict=True)))

    @contextmanager
    def leaving_out(self, part: str) -> Iterator[None]:
        """Turn an error about one part of the measure into a warning, so that the others go on."""
        try:
            yield
        except FrostlineError as error:
            log.warning("measure=%s leaves out %s: %s", self.measure, part, error)

    def frame(self) -> pd.DataFrame:
        """Return the table, with the columns of :data:`frostline.runs.measured.COLUMNS`."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        numbers = {name: "float64" for name in ("value", "low", "high", "null")}
        return table.astype({"layer": "Int64", "n": "Int64"} | numbers)
