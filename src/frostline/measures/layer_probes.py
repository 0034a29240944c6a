"""A linear probe on every layer: the exact logistic regression, its strength chosen on validation, read on test once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from frostline.strategies.probe import C_GRID, choose_strength, standardised
from frostline.strategies.probes import exact_probes


@dataclass(frozen=True)
class LayerProbe:
    """One probe.

    Attributes:
        C: the strength that validation chose.
        validation_accuracy: 0 … 1.
        validation_loss: mean cross-entropy, nats.
        correct: which test sentences it got right, ``[sentences]``.
    """

    C: float
    validation_accuracy: float
    validation_loss: float
    correct: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        """On test, 0 … 1."""
        return float(self.correct.mean())

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better on validation: accuracy, then the lower loss."""
        return (self.validation_accuracy, -self.validation_loss)


def fit_probes(
    features: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    classes: int,
    C_grid: Sequence[float] = C_GRID,
    standardize: bool = True,
) -> list[LayerProbe]:
    """Fit a probe on every feature set (a layer under a pooling) by itself (Alain & Bengio 2016).

    Strengths are compared at a looser tolerance; the probe of the chosen one is then fitted exactly.

    Args:
        features: of ``train``, ``validation`` and ``test``, each ``[sets, sentences, width]``, float32.
        labels: of the same splits, ``[sentences]``, int64 in 0 … classes-1.
        classes: how many.
        C_grid: inverse strengths of the L2 penalty to try; the grid grows while its edge is best.
        standardize: scale features to mean 0 and variance 1 on the training split.

    Returns:
        a probe a set, in their order.

    Raises:
        FrostlineError: a probe does not converge.
    """
    return [
        _fit({name: split[i] for name, split in features.items()}, labels, classes, C_grid, standardize)
        for i in range(len(features["train"]))
    ]


def _fit(
    features: dict[str, Tensor], labels: Mapping[str, Tensor], classes: int, C_grid: Sequence[float], standardize: bool
) -> LayerProbe:
    train, validation, test = standardised(*(features[name] for name in ("train", "validation", "test")), standardize=standardize)
    C = choose_strength(train, validation, labels["train"], labels["validation"], C_grid, True, classes).C
    (((weight,),), ((bias,),)) = exact_probes(train[None], labels["train"], classes, [C])
    logits = F.linear(validation, weight, bias)
    accuracy = (logits.argmax(dim=1) == labels["validation"]).double().mean().item()
    correct = F.linear(test, weight, bias).argmax(dim=1) == labels["test"]
    return LayerProbe(C, accuracy, F.cross_entropy(logits, labels["validation"]).item(), correct.numpy())
