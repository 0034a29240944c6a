"""A table of the page: what is shown, what it sorts by, and the file that it downloads as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from frostline.report.table import compact, percent

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a shown table.

    Attributes:
        title: its header.
        key: of the data: what it sorts by, and what is shown if there are no ``words``.
        words: a row in words.
        is_text: set to the left.
    """

    title: str
    key: str
    words: Callable[[Row], str] | None = None
    is_text: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        name: of its file, without ending.
        data: all columns in full precision, as the file has them.
        columns: what is shown.
        note: what a reader must know to read it.
        colours: a dot before each row's first cell; none if empty.
        shown: the rows that are shown, if not all.
    """

    name: str
    data: pd.DataFrame
    columns: tuple[Column, ...]
    note: str = ""
    colours: tuple[str, ...] = ()
    shown: pd.DataFrame | None = None

    @property
    def rows(self) -> list[list[tuple[str, Any]]]:
        """What is shown and what it sorts by, a list of cells a row."""
        rows: Any = (self.data if self.shown is None else self.shown).to_dict("records")
        return [[(c.words(row) if c.words else text_of(row[c.key]), _sortable(row[c.key])) for c in self.columns] for row in rows]


def text_of(value: Any) -> str:
    """Return a value as a cell: nothing is a dash, counts have separators, other numbers three digits."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)


def share(key: str) -> Callable[[Row], str]:
    """Return the words of a share in per cent, with its interval if the row has ``<key>_low`` and ``<key>_high``."""
    return _with_interval(key, percent)


def points(key: str) -> Callable[[Row], str]:
    """Return the words of a difference of shares in points, signed, with its interval."""
    return _with_interval(key, lambda value: f"{100 * value:+.1f}")


def number(key: str) -> Callable[[Row], str]:
    """Return the words of a number with three decimals, with its interval."""
    return _with_interval(key, lambda value: f"{value:.3f}")


def p_value(key: str) -> Callable[[Row], str]:
    """Return the words of a p-value."""
    return lambda row: "–" if pd.isna(row[key]) else "< 0.001" if row[key] < 0.001 else f"{row[key]:.3f}"


def count(key: str) -> Callable[[Row], str]:
    """Return the words of a large count: 385k, 22.7M."""
    return lambda row: "–" if pd.isna(row[key]) else compact(int(row[key]))


def _with_interval(key: str, words: Callable[[float], str]) -> Callable[[Row], str]:
    def told(row: Row) -> str:
        if pd.isna(row.get(key)):
            return "–"
        low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
        interval = "" if pd.isna(low) or pd.isna(high) else f" ({words(low)}\u00a0…\u00a0{words(high)})"  # type: ignore[arg-type]
        return f"{words(row[key])}{interval}"

    return told


def _sortable(value: Any) -> Any:
    return "" if value is None or pd.isna(value) else value
