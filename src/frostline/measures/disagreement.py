"""On which sentences two arms disagree, against how much two seeds of one arm do (methods notes, 9.6).

Fine-tuning twice with two seeds gives two models that disagree, too. Without that baseline a disagreement between methods says
nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from frostline.measures.statistics import Interval, hierarchical_bootstrap


class ErrorOverlap(NamedTuple):
    """On which share of the sentences two arms are both wrong, and on which they would be if errors were independent."""

    both_wrong: float
    expected: float


def churn(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the share of sentences that a run of one arm and a run of the other classify differently, mean over all pairs.

    Args:
        a: predicted classes, ``[seeds, sentences]``.
        b: predicted classes of the other arm for the same sentences, ``[seeds', sentences]``.

    Raises:
        ValueError: the two are not of the same sentences.
    """
    first, second = _tables(a, b)
    return float((first[:, None] != second[None]).mean())


def seed_churn(a: NDArray[Any]) -> float:
    """Return the share of sentences that two seeds of one arm classify differently, mean over pairs; NaN for a single seed.

    Args:
        a: predicted classes, ``[seeds, sentences]``.
    """
    table, _ = _tables(a, a)
    return float(_between_seeds(table, table).mean()) if len(table) > 1 else math.nan


def excess_churn(a: NDArray[Any], b: NDArray[Any], shared_seeds: bool = True, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Return the churn between two arms minus the mean of their own seeds' churn: what the method adds to the seed.

    An arm against itself has 0 exactly. For that, where seeds are shared only runs of different seeds are compared, as within
    arms: runs of one seed have the training subset and the order in common and would agree more.

    Args:
        a: predicted classes, ``[seeds, sentences]``.
        b: predicted classes of the other arm for the same sentences, ``[seeds', sentences]``.
        shared_seeds: whether row ``i`` is the same seed in both.
        resamples: of the interval.
        seed: of the resampling.

    Returns:
        The excess with a 95 % bootstrap interval over sentences, for these seeds; NaN if an arm has one seed.

    Raises:
        ValueError: the two are not of the same sentences, or do not have the same number of seeds though they share them.
    """
    first, second = _tables(a, b)
    if shared_seeds and len(first) != len(second):
        raise ValueError(f"expected as many seeds where they are shared, but there are {len(first)} and {len(second)}")
    if min(len(first), len(second)) < 2:
        return Interval(math.nan, math.nan, math.nan)
    across = _between_seeds(first, second) if shared_seeds else (first[:, None] != second[None]).mean(axis=(0, 1))
    within = (_between_seeds(first, first) + _between_seeds(second, second)) / 2
    return hierarchical_bootstrap(np.round(across - within, 12)[None], resamples, seed=seed)  # rounded, few values are distinct


def cohen_kappa(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the agreement of two arms beyond what their classes' frequencies give (Cohen 1960), mean over all pairs of runs.

    1 is full agreement, 0 that of independent predictions; NaN if both runs of a pair predict one and the same class throughout.

    Args:
        a: predicted classes, ``[seeds, sentences]``.
        b: predicted classes of the other arm for the same sentences, ``[seeds', sentences]``.

    Raises:
        ValueError: the two are not of the same sentences.
    """
    first, second = _tables(a, b)
    return float(np.mean([math.nan if _is_constant(x, y) else cohen_kappa_score(x, y) for x in first for y in second]))


def error_overlap(a_correct: NDArray[Any], b_correct: NDArray[Any]) -> ErrorOverlap:
    """Return how often both arms are wrong, mean over all pairs of runs, beside ``e1 e2``, the product of their error rates.

    Sentences that are hard for any model make the overlap larger than independence would; an ensemble gains the more the closer
    the two are.

    Args:
        a_correct: whether each sentence was classified correctly, ``[seeds, sentences]``.
        b_correct: likewise of the other arm, ``[seeds', sentences]``.

    Raises:
        ValueError: the two are not of the same sentences.
    """
    first, second = (1 - table.astype(bool).mean(axis=0) for table in _tables(a_correct, b_correct))
    return ErrorOverlap(float((first * second).mean()), float(first.mean() * second.mean()))


def _between_seeds(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Per sentence the share of pairs of different rows that disagree, ``[sentences]``."""
    differ = a[:, None] != b[None]  # [seeds, seeds, sentences]
    return np.asarray(differ[~np.eye(len(a), dtype=bool)].mean(axis=0))


def _is_constant(x: NDArray[Any], y: NDArray[Any]) -> bool:
    return bool((x == x[0]).all() and (y == x[0]).all())


def _tables(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    first, second = np.asarray(a), np.asarray(b)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or 0 in (first.size, second.size):
        raise ValueError(f"expected tables of the same sentences, but the shapes are {first.shape} and {second.shape}")
    return first, second
