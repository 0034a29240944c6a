"""How well the classes are separated in a representation space, and how near that is to neural collapse.

Measure on sentences that were not trained on: on training sentences this is overfitting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

from frostline.errors import FrostlineError

SILHOUETTE_SENTENCES = 2000
RANK_TOLERANCE = 1e-10  # relative to the largest singular value of the class means


@dataclass(frozen=True)
class NeuralCollapse:
    """The four properties of Papyan et al. (2020); each is 0 at full collapse.

    Attributes:
        nc1: variability within classes against that between them, ``tr(Sigma_W Sigma_B^+) / C``; NaN where all class means
            are equal.
        nc2_equinorm: standard deviation of the class means' lengths divided by their mean; None for two classes.
        nc2_equiangle: mean of ``|cos + 1/(C - 1)|`` over pairs of class means; None for two classes, whose angle is always 180°.
        nc3: ``||W / ||W|| - M / ||M|| ||_F`` of the head's weight and the class means, 0 … 2; None without a head of this width.
        nc4: share of sentences whose class by the head is not that of the nearest class mean; None likewise.
    """

    nc1: float
    nc2_equinorm: float | None
    nc2_equiangle: float | None
    nc3: float | None
    nc4: float | None


def fisher_ratio(x: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return ``tr(S_B) / tr(S_W)``: squared distances of class means to the mean over those of sentences to their class mean.

    Free of scale. Null: ``(C - 1) / (n - C)`` for labels that have nothing to do with ``x``. Infinite where every class is one
    point, NaN where all sentences are.

    Args:
        x: ``[sentences, width]``.
        labels: ``[sentences]``; any numbers.

    Raises:
        ValueError: ``x`` and ``labels`` differ in length.
    """
    values, classes = _checked(x, np.unique(labels, return_inverse=True)[1])
    means = _class_means(values, classes, np.bincount(classes))
    between = np.square(means[classes] - values.mean(axis=0)).sum()
    within = np.square(values - means[classes]).sum()
    if within > 0:
        return float(between / within)
    return float("inf") if between > 0 else float("nan")


def silhouette(x: NDArray[Any], labels: NDArray[Any], seed: int = 0) -> float:
    """Return the mean silhouette by Euclidean distance, -1 … 1 (Rousseeuw 1987), of at most 2,000 sentences.

    Null: about 0. NaN where there is only one class, or no class of two sentences.

    Args:
        x: ``[sentences, width]``.
        labels: ``[sentences]``; any numbers.
        seed: of the subsample where there are more than 2,000 sentences.

    Raises:
        ValueError: ``x`` and ``labels`` differ in length.
    """
    values, classes = _checked(x, labels)
    if len(values) > SILHOUETTE_SENTENCES:
        rows = np.random.default_rng(seed).choice(len(values), SILHOUETTE_SENTENCES, replace=False)
        values, classes = values[rows], classes[rows]
    if not 2 <= len(np.unique(classes)) < len(values):
        return float("nan")
    return float(silhouette_score(values, classes))


def neural_collapse(
    x: NDArray[Any], labels: NDArray[Any], weight: NDArray[Any] | None, bias: NDArray[Any] | None = None
) -> NeuralCollapse:
    """Return how near features and head are to neural collapse (Papyan et al. 2020).

    Class means ``M`` are centred at their own mean, every class counting the same, so the frequency of classes does not enter
    ``Sigma_B = M'M / C``; ``Sigma_W`` is averaged over sentences.

    Args:
        x: the features that the head reads, ``[sentences, width]``.
        labels: ``[sentences]``, 0 … classes-1.
        weight: of the head, ``[classes, width]``; None where there is none.
        bias: of the head, ``[classes]``; None for zeros.

    Raises:
        FrostlineError: a class has no sentence, a label is not one of the head's classes, or there is only one class.
        ValueError: ``x`` and ``labels`` differ in length.
    """
    values, classes = _checked(x, labels)
    values = values - values.mean(axis=0)  # distances to class means keep their digits
    counts = np.bincount(classes, minlength=0 if weight is None else len(weight))
    _check_classes(counts, weight)
    means = _class_means(values, classes, counts)
    centred_means = means - means.mean(axis=0)
    inverse = np.linalg.pinv(centred_means / np.sqrt(len(counts)), rcond=RANK_TOLERANCE)  # inverse inverse' is Sigma_B^+
    within = np.square((values - means[classes]) @ inverse).sum() / len(values)
    norms = np.linalg.norm(centred_means, axis=1)
    nc1 = float(within / len(counts)) if norms.any() else float("nan")
    equinorm, equiangle = _simplex(centred_means, norms) if len(counts) > 2 else (None, None)
    if weight is None or weight.shape[1] != values.shape[1]:
        return NeuralCollapse(nc1, equinorm, equiangle, None, None)
    head = np.asarray(weight, dtype=np.float64)
    logits = np.asarray(x, dtype=np.float64) @ head.T + (0 if bias is None else bias)
    nearest = (np.square(means).sum(axis=1) - 2 * values @ means.T).argmin(axis=1)
    disagreement = float(np.mean(logits.argmax(axis=1) != nearest))
    distance = float(np.linalg.norm(_normalised(head) - _normalised(centred_means)))
    return NeuralCollapse(nc1, equinorm, equiangle, distance, disagreement)


def _simplex(means: NDArray[np.float64], norms: NDArray[np.float64]) -> tuple[float, float]:
    """Return how far centred class means ``[classes, width]`` are from equal lengths and from the angles of a simplex."""
    if not norms.all():
        return (float(norms.std() / norms.mean()) if norms.any() else float("nan")), float("nan")
    units = means / norms[:, None]
    cosines = (units @ units.T)[np.triu_indices(len(means), 1)]
    return float(norms.std() / norms.mean()), float(np.abs(cosines + 1 / (len(means) - 1)).mean())


def _normalised(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.linalg.norm(matrix)
    return matrix / norm if norm > 0 else np.full_like(matrix, np.nan)


def _class_means(x: NDArray[np.float64], classes: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``[classes, width]``."""
    return np.eye(len(counts))[classes].T @ x / counts[:, None]


def _checked(x: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    values, classes = np.asarray(x, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2 or classes.shape != values.shape[:1]:
        raise ValueError(
            f"expected [sentences, width] and a label a sentence, but the shapes are {values.shape}, {classes.shape}"
        )
    return values, classes


def _check_classes(counts: NDArray[np.int64], weight: NDArray[Any] | None) -> None:
    if weight is not None and len(counts) > len(weight):
        raise FrostlineError(
            f"A sentence has the label {len(counts) - 1}, but the head has {len(weight)} classes only: measure it on the "
            "data that the head was trained for."
        )
    if len(counts) < 2:
        raise FrostlineError("Neural collapse compares classes, but there is only one: choose data with two classes or more.")
    if not counts.all():
        raise FrostlineError(
            f"Class {int(counts.argmin())} has no sentence here, so it has no mean for neural collapse: measure more sentences."
        )
