"""Rows of the table, and the few ways in which a side is put into words."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness import Measured

Result = dict[str, Any]
Value = Callable[[Result], float]


@dataclass
class Row:
    """One comparison.

    Attributes:
        key: its name for comparisons with an earlier run; unique within a case.
        peer: what a user would pick instead, or the expectation, in words.
        own: Frostline, in words.
        ratio: how many times better Frostline is; None where there is nothing to compare.
        low, high: of the single rounds.
        repeats: of the peer and of Frostline.
        unit: of the ratio.
    """

    key: str
    peer: str
    own: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    repeats: str = ""
    unit: str = "×"


def versus(
    measured: Measured,
    key: str,
    peer: tuple[str, Callable[[list[Result]], str]],
    own: tuple[str, Callable[[list[Result]], str]],
    peer_value: Value | None = None,
    own_value: Value | None = None,
    what: str = "",
) -> Row:
    """Compare two sides by a value of which less is better; a side without results says why.

    Args:
        measured: what the case's jobs returned.
        key: of the row.
        peer: the side and how to show its results.
        own: the same for Frostline.
        peer_value: what is compared; None for no ratio.
        own_value: the same for Frostline, if its results look different.
        what: words before both sides.
    """
    cells = []
    for side, show in (peer, own):
        results = measured.results.get(side)
        words = show(results) if results else measured.reason(side)
        cells.append(f"{side}: {words}")
    theirs, ours = measured.results.get(peer[0], []), measured.results.get(own[0], [])
    row = Row(key, what + cells[0], cells[1], repeats=f"{len(theirs)} / {len(ours)}")
    if theirs and ours and peer_value:
        fill_ratio(row, [peer_value(r) for r in theirs], [(own_value or peer_value)(r) for r in ours])
    return row


def fill_ratio(row: Row, theirs: list[float], ours: list[float]) -> Row:
    """Set the ratio of medians, and the least and largest of the rounds; the side with fewer repeats is used again."""
    rounds = max(len(theirs), len(ours))
    pairs = list(itertools.islice(zip(itertools.cycle(theirs), itertools.cycle(ours), strict=False), rounds))
    row.ratio = statistics.median(theirs) / statistics.median(ours)
    row.low, row.high = min(t / o for t, o in pairs), max(t / o for t, o in pairs)
    return row


def median(results: list[Result], value: Value | str) -> float:
    """Return the median of a value over repeats."""
    return statistics.median(r[value] if isinstance(value, str) else value(r) for r in results)


def seconds(key: str = "seconds") -> Callable[[list[Result]], str]:
    """Show a median time."""
    return lambda results: duration(median(results, key))


def duration(value: float) -> str:
    """Write seconds with three digits."""
    return (
        f"{value * 1000:.0f} ms"
        if value < 0.1
        else f"{value:.2f} s"
        if value < 10
        else f"{value:.1f} s"
        if value < 100
        else f"{value:.0f} s"
    )


def rate(results: list[Result]) -> str:
    """Show training sentences per second, and the accuracy that was reached."""
    return f"{median(results, lambda r: r['sentences'] * r['epochs'] / r['seconds']):.0f} sentences/s, {accuracy(results)}"


def accuracy(results: list[Result]) -> str:
    """Show the median accuracy on validation."""
    return f"accuracy {100 * median(results, 'accuracy'):.1f} %"


def timed(results: list[Result]) -> str:
    """Show the time and the accuracy."""
    return f"{duration(median(results, 'seconds'))}, {accuracy(results)}"
