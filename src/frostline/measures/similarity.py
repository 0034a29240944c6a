"""How similar two representations of the same sentences are, from linear CKA to shared neighbours.

Arrays are ``[sentences, width]``, float32 or float64, row by row the same sentences; all is computed in float64. A similarity
to a constant representation (every sentence at one place) is not defined and comes out as NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import squareform
from sklearn.metrics import pairwise_distances

from frostline.measures.shape import centred, unit_rows
from frostline.measures.statistics import Interval, jackknife_groups, jackknife_interval

COSINE_STEPS = 1e10  # cosines that agree to ten digits are tied: the others are rounding
CHUNK_CELLS = 4_000_000  # cosines held at once: 32 MB


@dataclass(frozen=True)
class Procrustes:
    """The squared distance ``||Y - X||^2`` in four parts that add up to ``total``, none of them negative.

    Attributes:
        translation: ``n ||mean(y) - mean(x)||^2``.
        rotation: what the best orthogonal map of the centred rows takes away.
        scale: what the best scaling after it takes away.
        residual: what is left, ``||Y_c - c X_c R||^2``.
        total: their sum.
        scaling: ``c``; NaN where ``x`` is constant.
        rotation_matrix: ``R``, ``[width, width]``, float64.
    """

    translation: float
    rotation: float
    scale: float
    residual: float
    total: float
    scaling: float
    rotation_matrix: NDArray[np.float64]


def cka(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return linear CKA, ``||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F)`` of centred columns, 0 … 1 (Kornblith et al. 2019, eq. 2).

    It is biased: independent Gaussian features have ``d / (n + d)`` (of two widths ``sqrt(d_1 d_2 / ((n + d_1) (n + d_2)))``),
    not 0. See :func:`cka_debiased`.

    Args:
        x: ``[sentences, width]``.
        y: ``[sentences, width']``.

    Raises:
        ValueError: the numbers of sentences differ.
    """
    first, second = _paired(x, y)
    return _ratio(*(_cross_product(a, b) for a, b in ((first, second), (first, first), (second, second))))


def cka_debiased(x: NDArray[Any], y: NDArray[Any], batch_size: int | None = None) -> float:
    """Return linear CKA with the unbiased HSIC_1 in place of HSIC (Song et al. 2007; Nguyen et al. 2021, eq. 3-5).

    Null: 0 for independent features of any width; it can be negative. One shared dimension of large variance brings it near
    1 whatever the others do: compare with :func:`frostline.measures.shape.without_dimensions`.

    Args:
        x: ``[sentences, width]``.
        y: ``[sentences, width']``.
        batch_size: average the three HSIC_1 over batches of at least so many sentences before taking the ratio; None for
            one batch. Batches are every ``b``-th row, so that sentences sorted by class do no harm.

    Raises:
        ValueError: the numbers of sentences differ, or there are fewer than 4 of them (in a batch).
    """
    first, second = _paired(x, y)
    sentences = len(first)
    size = sentences if batch_size is None else min(batch_size, sentences)
    if size < 4:
        raise ValueError(f"unbiased CKA needs at least 4 sentences (in a batch), but got {size}")
    batches = sentences // size
    parts = [(centred(first[i::batches]), centred(second[i::batches])) for i in range(batches)]
    return _ratio(*np.mean([(_hsic(a, b), _hsic(a, a), _hsic(b, b)) for a, b in parts], axis=0))


def cka_debiased_interval(x: NDArray[Any], y: NDArray[Any], groups: int = 10, seed: int = 0) -> Interval:
    """Return debiased CKA with its 95 % interval, as :func:`frostline.measures.statistics.jackknife` of it would, in less time.

    What the products of all rows and of one group have in common is multiplied once.

    Args:
        x: ``[sentences, width]``.
        y: ``[sentences, width']``.
        groups: how many.
        seed: of the groups.

    Raises:
        ValueError: as :func:`cka_debiased`; too few sentences for the groups.
    """
    first, second = _paired(x, y)
    if len(first) < 2 * groups or len(first) < 8:
        raise ValueError(f"an interval from {groups} groups needs at least {max(2 * groups, 8)} sentences, but got {len(first)}")
    left_out = jackknife_groups(len(first), groups, seed)
    hsics = []
    for a, b in ((first, second), (first, first), (second, second)):
        products = np.stack([a[rows].T @ b[rows] for rows in left_out])
        whole = products.sum(axis=0)
        of_all = _hsic(a, b, _squared(whole))
        without = []
        for rows, product in zip(left_out, products, strict=True):
            kept_a, kept_b = np.delete(a, rows, axis=0), np.delete(b, rows, axis=0)
            shift_a, shift_b = kept_a.mean(axis=0), kept_b.mean(axis=0)
            cross = whole - product - len(kept_a) * np.outer(shift_a, shift_b)
            without.append(_hsic(kept_a - shift_a, kept_b - shift_b, _squared(cross)))
        hsics.append([of_all, *without])
    whole_ratio, *ratios = (_ratio(*parts) for parts in zip(*hsics, strict=True))
    return jackknife_interval(whole_ratio, np.array(ratios))


def procrustes(x: NDArray[Any], y: NDArray[Any]) -> Procrustes:
    """Split ``||Y - X||^2`` into translation, rotation, scale and residual (orthogonal Procrustes, Schönemann 1966).

    With centred ``X, Y`` and ``X'Y = U S V'``: ``R = U V'``, ``c = sum S / ||X||^2``. Null: the residual of independent
    features is well below ``||Y||^2`` where there are not many more sentences than dimensions; see
    :func:`procrustes_held_out`. A rotation means something only where the coordinates of the two spaces correspond.

    Args:
        x: ``[sentences, width]``.
        y: ``[sentences, width]``.

    Raises:
        ValueError: the shapes differ.
    """
    first, second = _paired(x, y, same_width=True)
    size = _squared(first)
    same = size > 0 and np.array_equal(first, second)  # as in a frozen layer, where the decomposition takes its longest
    rotation_matrix, singular_sum = (np.eye(first.shape[1]), size) if same else orthogonal_procrustes(first, second)
    scaling = float(singular_sum / size) if size > 0 else float("nan")
    rotated: NDArray[np.float64] = first @ rotation_matrix
    distance = _squared(second - first)
    after_rotation = _squared(second - rotated)
    residual = _squared(second - rotated * scaling) if size > 0 else after_rotation
    shift = np.asarray(y, dtype=np.float64).mean(axis=0) - np.asarray(x, dtype=np.float64).mean(axis=0)
    translation = len(first) * float(np.square(shift).sum())
    rotation, scale = max(distance - after_rotation, 0.0), max(after_rotation - residual, 0.0)
    total = translation + rotation + scale + residual
    return Procrustes(translation, rotation, scale, residual, total, scaling, rotation_matrix)


def procrustes_held_out(x: NDArray[Any], y: NDArray[Any], seed: int) -> float:
    """Return the share of ``||Y_c||^2`` in one half of the sentences that a fit on the other half leaves unexplained.

    The fit is the translation, rotation and scale of :func:`procrustes`. 0 where a similarity transformation turns ``x`` into
    ``y``; 1 is what the mean alone leaves. Null: above 1 for independent features, as an overfitted rotation does worse than
    none. NaN where ``y`` (or the half of ``x`` that is fitted) is constant.

    Args:
        x: ``[sentences, width]``.
        y: ``[sentences, width]``.
        seed: of the halves.

    Raises:
        ValueError: the shapes differ, or there are fewer than 4 sentences.
    """
    _paired(x, y, same_width=True)
    if len(x) < 4:
        raise ValueError(f"a fit on half of the sentences needs at least 4 of them, but got {len(x)}")
    fitted, held_out = np.array_split(np.random.default_rng(seed).permutation(len(x)), 2)
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    fit = procrustes(first[fitted], second[fitted])
    mapped = fit.scaling * (first[held_out] - first[fitted].mean(axis=0)) @ fit.rotation_matrix
    unexplained = _squared(second[held_out] - second[fitted].mean(axis=0) - mapped)
    size = _squared(centred(second[held_out]))
    return unexplained / size if size > 0 else float("nan")


def rsa(
    x: NDArray[Any],
    y: NDArray[Any],
    distance: Literal["cosine", "euclidean"] = "cosine",
    method: Literal["spearman", "pearson"] = "spearman",
) -> float:
    """Return the correlation of all sentence distances in one space with those in the other, -1 … 1 (Kriegeskorte et al. 2008).

    Null: 0 for independent features. The pairs are not independent of one another, so no interval follows from their number.

    Args:
        x: ``[sentences, width]``.
        y: ``[sentences, width']``.
        distance: between two sentences.
        method: Spearman's rank correlation or Pearson's.

    Raises:
        ValueError: the numbers of sentences differ, or there are fewer than 3 of them.
    """
    spaces = _paired(x, y)
    if len(x) < 3:
        raise ValueError(f"the correlation of distances needs at least 3 sentences, but got {len(x)}")
    if not all(space.any() for space in spaces):
        return float("nan")
    correlation = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}[method]
    return float(correlation(*(_distances(space, distance) for space in (x, y))).statistic)


def neighbour_overlap(x: NDArray[Any], y: NDArray[Any], k: int = 10) -> float:
    """Return the mean Jaccard overlap of every sentence's ``k`` nearest neighbours by cosine in the two spaces, 0 … 1.

    Neighbours whose cosines agree to ten digits (duplicate texts) are taken in the order of their rows, so identical spaces
    have exactly 1. Null: ``s / (2 k - s)`` with ``s = k^2 / (n - 1)`` for random neighbours.

    Args:
        x: ``[sentences, width]``.
        y: ``[sentences, width']``.
        k: how many neighbours, 1 … n - 1.

    Raises:
        ValueError: the numbers of sentences differ, or ``k`` is out of range.
    """
    spaces = _paired(x, y)
    if not 1 <= k < len(x):
        raise ValueError(f"expected 1 <= k < {len(x)} (the number of sentences), but k is {k}")
    if not all(space.any() for space in spaces):
        return float("nan")
    both = np.sort(np.concatenate([_neighbours(x, k), _neighbours(y, k)], axis=1), axis=1)
    shared = (both[:, 1:] == both[:, :-1]).sum(axis=1)
    return float(np.mean(shared / (2 * k - shared)))


def _paired(x: NDArray[Any], y: NDArray[Any], same_width: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check that rows correspond, and return both spaces with centred columns."""
    if np.ndim(x) != 2 or np.ndim(y) != 2 or len(x) != len(y) or len(x) == 0:
        raise ValueError(f"expected [sentences, width] of the same sentences, but the shapes are {np.shape(x)} and {np.shape(y)}")
    if same_width and np.shape(x) != np.shape(y):
        raise ValueError(f"expected spaces of the same width, but the widths are {np.shape(x)[1]} and {np.shape(y)[1]}")
    return centred(x), centred(y)


def _cross_product(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return ``||Y'X||_F^2``, which is ``tr(K L)`` of the Gram matrices, by the way that multiplies less."""
    if len(x) < min(x.shape[1], y.shape[1]):
        return float(np.vdot(x @ x.T, y @ y.T))
    return _squared(y.T @ x)


def _hsic(x: NDArray[np.float64], y: NDArray[np.float64], cross_product: float | None = None) -> float:
    """Return HSIC_1 of two linear kernels on centred columns, whose shift it does not see; ``cross_product`` if it is known.

    Then the row sums of a Gram matrix without its diagonal ``k`` are ``-k``, and all terms but the first come down to the two
    diagonals.
    """
    n = len(x)
    k, l = np.square(x).sum(axis=1), np.square(y).sum(axis=1)  # noqa: E741 — the names of the paper
    cross = _cross_product(x, y) if cross_product is None else cross_product
    return float((cross - n / (n - 2) * (k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2))) / (n * (n - 3)))


def _ratio(between: float, first: float, second: float) -> float:
    return float(between / np.sqrt(first * second)) if first > 0 and second > 0 else float("nan")


def _squared(x: NDArray[np.float64]) -> float:
    """Return the squared Frobenius norm."""
    return float(np.vdot(x, x))


def _distances(x: NDArray[Any], distance: str) -> NDArray[np.float64]:
    """Return the distances of all pairs, ``[sentences (sentences - 1) / 2]``."""
    square = pairwise_distances(np.asarray(x, dtype=np.float64), metric=distance)
    condensed: NDArray[np.float64] = squareform(square, checks=False)
    return condensed


def _neighbours(x: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Return the rows of the ``k`` nearest neighbours by cosine, ``[sentences, k]``, in no order."""
    units = unit_rows(x)
    n = len(units)
    found = np.empty((n, k), dtype=np.int64)
    step = max(1, CHUNK_CELLS // n)
    for start in range(0, n, step):
        chunk = np.arange(start, min(start + step, n))
        order = units[chunk] @ units.T
        order *= -COSINE_STEPS
        np.rint(order, out=order)
        order *= n
        order += np.arange(n)  # distance first, then row: whole numbers, no two of them equal
        order[chunk - start, chunk] = np.inf  # nobody is a neighbour of oneself
        found[chunk] = np.argpartition(order, k - 1, axis=1)[:, :k]
    return found
