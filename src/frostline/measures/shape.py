"""The shape of one representation space: how directed, how flat, and how many-dimensional a cloud of sentences is.

All functions take ``[sentences, width]``, float32 or float64, and compute in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

CONSTANT = 1e-6  # spread relative to size below which float32 shows its own rounding only


@dataclass(frozen=True)
class IntrinsicDimension:
    """What TwoNN found.

    Attributes:
        dimension: the estimate; NaN where there are fewer than three distinct rows.
        distinct: how many distinct rows it rests on.
    """

    dimension: float
    distinct: int


def centred(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``x`` minus its column means, ``[sentences, width]``, float64.

    A space in which all sentences stand at one place up to float32's rounding (such as the first token at layer 0) comes out
    as exactly 0, so that nobody measures the rounding.
    """
    values = np.asarray(x, dtype=np.float64)
    deviations: NDArray[np.float64] = values - values.mean(axis=0)
    if np.linalg.norm(deviations) <= CONSTANT * np.linalg.norm(values):
        return np.zeros_like(values)
    return deviations


def unit_rows(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rows of ``x`` scaled to length 1, ``[sentences, width]``, float64; rows of zeros stay."""
    values = np.asarray(x, dtype=np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths > 0, lengths, 1)


def anisotropy(x: NDArray[Any]) -> float:
    """Return the mean cosine between two different sentences, -1/(n-1) … 1 (Ethayarajh 2019, without subsampling).

    ``(||sum_i u_i||^2 - n) / (n (n - 1))`` of the unit vectors ``u_i``, which needs no pair. Null: 0 for directions that are
    spread evenly; of a centred space about ``-1/(n-1)``. The common mean and a few outlier dimensions dominate it.

    Args:
        x: ``[sentences, width]``. A row of zeros has cosine 0 with every other.

    Raises:
        ValueError: there are fewer than two sentences.
    """
    if len(x) < 2:
        raise ValueError(f"anisotropy needs at least 2 sentences, but got {len(x)}")
    units = unit_rows(x)
    return float((np.square(units.sum(axis=0)).sum() - np.square(units).sum()) / (len(x) * (len(x) - 1)))


def participation_ratio(x: NDArray[Any]) -> float:
    """Return ``(sum lambda)^2 / sum lambda^2`` of the covariance's eigenvalues: over how many directions variance is spread.

    1 … min(n - 1, d); NaN where the sentences do not differ. Null: ``n d / (n + d)`` for independent Gaussian features.

    Args:
        x: ``[sentences, width]``.
    """
    deviations = centred(x)
    sentences, width = deviations.shape
    gram = deviations.T @ deviations if width <= sentences else deviations @ deviations.T  # the same eigenvalues
    return float(np.trace(gram) ** 2 / np.square(gram).sum()) if gram.any() else float("nan")


def isoscore(x: NDArray[Any]) -> float:
    """Return how evenly the variance fills all dimensions, 0 (one direction) … 1 (Rudman et al. 2022, IsoScore).

    Their definition in seven steps is ``(PR - 1) / (d - 1)`` of the :func:`participation_ratio`. Null: ``n / (n + d)`` for
    independent Gaussian features, so divide by it to compare different numbers of sentences.

    Args:
        x: ``[sentences, width]``; NaN for a width of 1 and where the sentences do not differ.
    """
    width = np.shape(x)[1]
    return (participation_ratio(x) - 1) / (width - 1) if width > 1 else float("nan")


def intrinsic_dimension(x: NDArray[Any]) -> IntrinsicDimension:
    """Return the dimension of the surface that the sentences lie on, by the TwoNN estimator (Facco et al. 2017).

    The ratio of a row's distances to its second and first neighbour is Pareto distributed with the dimension as exponent, so
    ``(N - 1) / sum ln(r_2 / r_1)`` is its unbiased maximum likelihood estimate. Equal rows are counted once. Null: none; for
    Gaussian features it comes out far below the width, as it underestimates dimensions beyond about 10.

    Args:
        x: ``[sentences, width]``.
    """
    values = np.unique(np.asarray(x, dtype=np.float64), axis=0)
    if len(values) < 3:
        return IntrinsicDimension(float("nan"), len(values))
    values = values - values.mean(axis=0)
    near = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(values).kneighbors(return_distance=False)
    # The search expands squares, which loses digits of small distances: those of the two it found are taken again.
    distances = np.linalg.norm(values[near] - values[:, None], axis=2)  # [distinct, 2]
    total = np.abs(np.log(distances[:, 1] / distances[:, 0])).sum()
    return IntrinsicDimension(float((len(values) - 1) / total) if total > 0 else float("inf"), len(values))


def outlier_dimensions(x: NDArray[Any], sds: float = 3.0) -> NDArray[np.int64]:
    """Return the dimensions of unusual magnitude, ascending.

    A dimension is an outlier where its mean absolute value lies more than ``sds`` standard deviations above the mean over all
    dimensions. The rule of three standard deviations is that of Kovaleva et al. (2021); as absolute values are averaged, both
    dimensions with a large mean (which dominate cosines, Timkey and van Schijndel 2021) and those with a large variance
    (which dominate CKA) are found. Null: about 0.1 % of dimensions of equal scale.

    Args:
        x: ``[sentences, width]``.
        sds: how many standard deviations.
    """
    magnitudes = np.abs(np.asarray(x, dtype=np.float64)).mean(axis=0)
    return np.flatnonzero(magnitudes > magnitudes.mean() + sds * magnitudes.std())


def without_dimensions(x: NDArray[Any], dims: NDArray[np.int64]) -> NDArray[Any]:
    """Return ``x`` without the columns ``dims``, ``[sentences, width - len(dims)]``, in its own precision.

    Args:
        x: ``[sentences, width]``.
        dims: column numbers, such as those of :func:`outlier_dimensions`.
    """
    return np.delete(np.asarray(x), dims, axis=1)
