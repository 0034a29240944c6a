"""Taking a concept out of representations, so that no linear probe finds it (a group that is no cause of the label, say).

Least-squares concept erasure (Belrose et al. 2023, "LEACE", theorem 4.3): of all affine maps after which features and concept are
uncorrelated, the one that moves the features least. Here they are uncorrelated *within classes*: where concept and class go
together, erasing all that tells of the one would erase the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from frostline.errors import FrostlineError

SMALLEST = 1e-7  # directions with less than this share of the largest variance count as constant


class Eraser(NamedTuple):
    """``x -> center + projection (x - center)``.

    Attributes:
        projection: ``[width, width]``, float64.
        center: the features' mean, ``[width]``, float64.
    """

    projection: Tensor
    center: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return features without the concept, ``[…, width]``, of their own dtype."""
        erased: Tensor = self.center + (features.double() - self.center) @ self.projection.T
        return erased.to(features.dtype)


def fit_eraser(features: Tensor, concept: Sequence[object], labels: Tensor) -> Eraser:
    """Fit an eraser on training sentences.

    Args:
        features: ``[sentences, width]``, floating point.
        concept: a value of any kind a sentence, of at least two values.
        labels: class numbers, ``[sentences]``, int64.

    Raises:
        FrostlineError: all sentences have the same value.
    """
    names, numbers = np.unique([str(value) for value in concept], return_inverse=True)
    if len(names) < 2:
        raise FrostlineError(f"strategy.erase: all training sentences have the value '{names[0]}', so there is nothing to erase.")
    center = features.double().mean(dim=0)
    x = features.double() - center
    z, classes = F.one_hot(torch.from_numpy(numbers)).double(), F.one_hot(labels).double()
    z = z - classes @ ((classes.T @ z) / classes.sum(dim=0).clamp(min=1)[:, None])  # what the class does not say of it
    variances, axes = torch.linalg.eigh(x.T @ x / len(x))
    kept = variances > SMALLEST * variances.max()
    size, axes = variances[kept].sqrt(), axes[:, kept]
    whitened = (axes / size).T @ (x.T @ z / len(x))  # [directions, values]
    directions, strengths, _ = torch.linalg.svd(whitened, full_matrices=False)
    found = directions[:, strengths > SMALLEST * strengths.max().clamp(min=1e-300)]
    removed = (axes * size) @ found @ found.T @ (axes / size).T
    return Eraser(torch.eye(x.shape[1], dtype=torch.float64) - removed, center)


def fold(weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, eraser: Eraser) -> dict[str, Tensor]:
    """Return the probe that gives on plain features the logits that ``weight`` and ``bias`` give on erased ones.

    Args:
        weight: on erased, standardised features, ``[classes, width]``.
        bias: ``[classes]``.
        mean: of the erased features, ``[width]``.
        scale: likewise.
        eraser: what erased them.
    """
    on_erased = weight.double() / scale.double()
    center = eraser.center - mean.double() - eraser.projection @ eraser.center
    return {
        "head.weight": (on_erased @ eraser.projection).to(weight.dtype),
        "head.bias": (bias.double() + on_erased @ center).to(bias.dtype),
        "mean": torch.zeros_like(mean),
        "scale": torch.ones_like(scale),
    }
