"""Uncertainty over two things at once: which seeds were run, and which sentences were in the test set.

Sources: McCullagh (2000), "Resampling and exchangeable arrays", Bernoulli 6(2), shows that no bootstrap is exact for a
crossed table; Owen (2007), "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), that drawing rows and columns
independently is consistent in the mean. With few seeds (below about 5) no resampling can see how much seeds really
vary, and the interval is too short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CHUNK_CELLS = 2_000_000  # resamples x distinct sentences held at once: about 16 MB an array


class Interval(NamedTuple):
    """An observed mean with a confidence interval, in the unit of the values (accuracies: 0 … 1)."""

    mean: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Return whether all of the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def hierarchical_bootstrap(
    correct: NDArray[Any],
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean of ``correct`` and its percentile bootstrap interval over seeds and sentences.

    Each resample draws seeds with replacement and, independently, sentences with replacement; a drawn sentence is the
    same sentence under every seed, because all seeds were scored on one test set. With a single seed this is the
    ordinary bootstrap over sentences.

    A resample's mean is ``w_seeds @ correct @ w_sentences`` with multinomial weights. Sentences with equal columns are
    interchangeable, so the weights are drawn for the distinct columns only (at most 2^seeds for right or wrong), which
    has exactly the same distribution.

    Args:
        correct: whether each sentence was classified correctly, or any score of it, [seeds, sentences].
        resamples: how many resamples to draw, at least 1.
        confidence: coverage of the interval, in (0, 1).
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        Mean, lower and upper bound, in the unit of ``correct``.

    Raises:
        ValueError: ``correct`` is not a table with at least one seed and one sentence, holds values that are not
            finite, or ``resamples`` or ``confidence`` are out of range.
    """
    scores = np.asarray(correct, dtype=np.float64)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"expected a table [seeds, sentences] with at least one cell, but its shape is {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("expected finite scores, but some are NaN or infinite")
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"expected resamples >= 1 and 0 < confidence < 1, but got {resamples} and {confidence}")
    seeds, sentences = scores.shape
    columns, counts = np.unique(scores, axis=1, return_counts=True)  # [seeds, distinct], [distinct]
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // len(counts))
    means = np.empty(resamples)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size) / seeds  # [size, seeds]
        sentence_weights = rng.multinomial(sentences, counts / sentences, size=size) / sentences  # [size, distinct]
        means[start : start + size] = np.einsum("rd,rd->r", seed_weights @ columns, sentence_weights)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(scores.mean()), float(low), float(high))


def paired_difference(
    a: NDArray[Any], b: NDArray[Any], resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return ``mean(a) - mean(b)`` and its interval, with the same seeds and sentences drawn for both arms.

    Drawing the same cells of two tables and subtracting their means is drawing cells of the table of differences, so
    this is :func:`hierarchical_bootstrap` of ``a - b``.

    Args:
        a: scores of one arm, [seeds, sentences].
        b: scores of the other arm for the same seeds and sentences in the same order, [seeds, sentences].
        resamples: how many resamples to draw, at least 1.
        confidence: coverage of the interval, in (0, 1).
        seed: of the resampling.

    Raises:
        ValueError: the two tables differ in shape, or one is not valid for :func:`hierarchical_bootstrap`.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"expected the same seeds and sentences, but the shapes are {first.shape} and {second.shape}")
    return hierarchical_bootstrap(first - second, resamples, confidence, seed)


def jackknife(statistic: Callable[..., float], arrays: Sequence[NDArray[Any]], groups: int = 10, seed: int = 0) -> Interval:
    """Return a statistic of paired rows with its 95 % delete-a-group jackknife interval (Kott 2001).

    The statistic is computed again without each of ``groups`` random groups of rows; ``(G - 1) / G`` times the summed squares of
    these values around their mean estimates its variance, and Student's t with ``G - 1`` degrees of freedom the interval. It
    holds for smooth statistics of independent rows: not for medians, nor for rows that come in clusters.

    Args:
        statistic: takes ``arrays`` and returns one number.
        arrays: of equal length, row by row the same sentences, ``[sentences, …]`` each.
        groups: how many, 2 … sentences; of equal size up to one row.
        seed: of the groups.

    Returns:
        The statistic of all rows, lower and upper bound; NaN where the statistic is, for all rows or without a group.

    Raises:
        ValueError: the arrays differ in length, or ``groups`` is out of range.
    """
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1:
        raise ValueError(f"expected arrays of the same sentences, but their lengths are {sorted(lengths)}")
    (sentences,) = lengths
    if not 2 <= groups <= sentences:
        raise ValueError(f"expected 2 <= groups <= {sentences} (the number of sentences), but groups is {groups}")
    left_out = np.array_split(np.random.default_rng(seed).permutation(sentences), groups)
    without = np.array([statistic(*(np.delete(array, rows, axis=0) for array in arrays)) for rows in left_out])
    half = stats.t.ppf(0.975, groups - 1) * np.sqrt((groups - 1) * without.var())
    whole = statistic(*arrays)
    return Interval(float(whole), float(whole - half), float(whole + half))
