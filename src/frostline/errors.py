"""Errors for people: one sentence that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FrostlineError(Exception):
    """A user's mistake or a fault of the surroundings, told in one sentence; shown without a stack trace."""


class DivergedError(FrostlineError):
    """The training loss became NaN or infinite; the run ends, the rest of a sweep goes on."""


class PrunedError(FrostlineError):
    """A search has given a run up before its last epoch; that is no failure."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return the hint ``"; did you mean 'x'?"`` for the valid word closest to ``word``, or ``""`` if none is near.

    Of a dotted key the last part counts most: the group before it is spelled right more often than not.
    """
    candidates = sorted(valid)
    parent, _, last = word.rpartition(".")
    siblings = [key for key in candidates if key.rpartition(".")[0] == parent]
    for pool in (siblings, candidates):
        by_last = {key.rpartition(".")[2]: key for key in pool}
        match = difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)
        if match:
            return f"; did you mean '{by_last[match[0]]}'?"
    match = [] if siblings and parent else difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return f"; did you mean '{match[0]}'?" if match else ""


def choices(valid: Iterable[object]) -> str:
    """Return ``valid`` as a readable list: ``a, b or c``."""
    words = [str(v) for v in valid]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
