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
    means = resampled_means(scores[None], resamples, confidence, seed)[:, 0]
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


def ratio_of_differences(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], d: NDArray[Any] | float, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return ``(mean(a) - mean(c)) / (mean(b) - mean(d))`` with its 95 % bootstrap interval: which share of a gain is reached.

    The same seeds and sentences are drawn for all tables. Where resampled denominators come near 0 the interval grows without
    bound, as it should.

    Args:
        a: scores of the arm in question, [seeds, sentences].
        b: scores of the arm that reaches the whole gain, likewise.
        c: scores from which the arm in question gains, likewise.
        d: scores from which the whole gain is counted, likewise; usually ``c``.
        resamples: how many.
        seed: of the resampling.

    Raises:
        ValueError: tables differ in shape or are not valid for :func:`hierarchical_bootstrap`; the whole gain is not above 0.
    """
    tables = np.broadcast_arrays(*(np.asarray(table, dtype=np.float64) for table in (a, b, c, d)))
    scores = np.stack([tables[0] - tables[2], tables[1] - tables[3]])
    part, whole = scores.mean(axis=(1, 2))
    if whole <= 0:
        raise ValueError(f"the whole gain is {whole:.4f}, not above 0, so there is no share of it")
    means = resampled_means(scores, resamples, 0.95, seed)
    parts, wholes = means.T
    shares = np.where(wholes > 0, parts / np.where(wholes > 0, wholes, 1), np.where(parts >= 0, np.inf, -np.inf))
    low, high = np.quantile(shares, [0.025, 0.975], method="nearest")
    return Interval(float(part / whole), float(low), float(high))


def t_interval(values: NDArray[Any], confidence: float = 0.95) -> Interval:
    """Return the mean of independent values, one a seed, with Student's interval.

    Args:
        values: ``[seeds]``.
        confidence: coverage, in (0, 1).

    Raises:
        ValueError: there are fewer than two values, or some are not finite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) < 2 or not np.isfinite(numbers).all():
        raise ValueError(f"expected at least two finite values, but got {values}")
    mean, error = numbers.mean(), stats.sem(numbers)
    half = stats.t.ppf((1 + confidence) / 2, len(numbers) - 1) * error
    return Interval(float(mean), float(mean - half), float(mean + half))


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
    left_out = jackknife_groups(sentences, groups, seed)
    without = np.array([statistic(*(np.delete(array, rows, axis=0) for array in arrays)) for rows in left_out])
    return jackknife_interval(statistic(*arrays), without)


def jackknife_groups(sentences: int, groups: int, seed: int) -> list[NDArray[np.int64]]:
    """Return the rows of each group of :func:`jackknife`."""
    return np.array_split(np.random.default_rng(seed).permutation(sentences), groups)


def jackknife_interval(whole: float, without: NDArray[np.float64]) -> Interval:
    """Return the interval of :func:`jackknife` from the statistic of all rows and those without each group, ``[groups]``."""
    half = stats.t.ppf(0.975, len(without) - 1) * np.sqrt((len(without) - 1) * without.var())
    return Interval(float(whole), float(whole - half), float(whole + half))


def resampled_means(
    scores: NDArray[np.float64], resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> NDArray[np.float64]:
    """Return the means of some tables ``[tables, seeds, sentences]`` under the same draws, ``[resamples, tables]``."""
    if scores.ndim != 3 or scores.size == 0:
        raise ValueError(f"expected a table [seeds, sentences] with at least one cell, but its shape is {scores.shape[1:]}")
    if not np.isfinite(scores).all():
        raise ValueError("expected finite scores, but some are NaN or infinite")
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"expected resamples >= 1 and 0 < confidence < 1, but got {resamples} and {confidence}")
    _, seeds, sentences = scores.shape
    columns, counts = np.unique(scores, axis=2, return_counts=True)  # [tables, seeds, distinct], [distinct]
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // len(counts))
    means = np.empty((resamples, len(scores)))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size) / seeds  # [size, seeds]
        sentence_weights = rng.multinomial(sentences, counts / sentences, size=size) / sentences  # [size, distinct]
        means[start : start + size] = np.einsum("rs,tsd,rd->rt", seed_weights, columns, sentence_weights, optimize=True)
    return means
