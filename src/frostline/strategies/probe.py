"""The exact linear probe's conventions, and which layer and strength are best on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from frostline.strategies.probes import exact_probes

C_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
ROUGH_TOLERANCE = 1e-5  # of the gradient, while a strength is chosen
MAX_WIDENINGS = 3  # how often a grid whose best value lies on its edge grows tenfold


@dataclass(frozen=True)
class Strength:
    """A regularisation and what it reaches on validation.

    Attributes:
        C: inverse strength.
        accuracy: on validation, 0 … 1.
        loss: likewise, mean cross-entropy in nats.
    """

    C: float
    accuracy: float
    loss: float

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: accuracy, then the lower loss."""
        return (self.accuracy, -self.loss)


@dataclass(frozen=True)
class Choice(Strength):
    """A strength with the layer that it was chosen for."""

    layer: int


def penalty(weight: Tensor, C: float, sentences: int) -> Tensor:
    """Return the L2 term that is added to the *mean* cross-entropy over ``sentences``.

    ``||W||^2 / (2 C n)``, which makes the optimum that of scikit-learn's ``LogisticRegression(C=C)``. For two classes
    scikit-learn penalises the one vector ``w = W_1 - W_0``; at the optimum ``W_1 = -W_0``, so ``||w||^2 = 2 ||W||^2``.

    Args:
        weight: ``[classes, width]``.
        C: inverse strength.
        sentences: training sentences n.
    """
    factor = 2.0 if len(weight) == 2 else 1.0
    return factor * weight.square().sum() / (2 * C * sentences)


def standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every feature, each ``[width]``; 1 where a feature is (almost) constant.

    Args:
        features: of the training split, ``[sentences, width]``.
    """
    mean = features.double().mean(dim=0)
    scale = torch.linalg.vector_norm(features.double() - mean, dim=0) / len(features) ** 0.5  # std takes three times as long
    # A millionth of the others' size is constant: a probe's undone scaling would multiply what is hardly there by millions.
    return mean, torch.where(scale > 1e-6 * scale.max() + 1e-12, scale, torch.ones_like(scale))


def choose_probe(
    train: Tensor,
    train_labels: Tensor,
    validation: Tensor,
    validation_labels: Tensor,
    layers: list[int],
    standardize: bool,
    C_grid: tuple[float, ...] = C_GRID,
    widen: bool = True,
    classes: int | None = None,
) -> Choice:
    """Fit the exact probe on every layer with every ``C`` and return what is best on validation.

    Args:
        train: ``[layers, sentences, width]``.
        train_labels: ``[sentences]``, int64.
        validation: ``[layers, sentences', width]``.
        validation_labels: ``[sentences']``, int64.
        layers: the layers' numbers.
        standardize: scale features by the training split's mean and standard deviation.
        C_grid: strengths to try.
        classes: how many; None for those that the training labels have.
        widen: while a layer's best lies on the edge of its grid, the grid grows tenfold, three times at most.
    """
    classes = classes or int(train_labels.max()) + 1
    best = []
    for i, layer in enumerate(layers):
        fit, check = standardised(train[i], validation[i], standardize=standardize)
        strength = choose_strength(fit, check, train_labels, validation_labels, C_grid, widen, classes)
        best.append(Choice(**vars(strength), layer=layer))
    return max(best, key=lambda choice: choice.rank)


def standardised(train: Tensor, *others: Tensor, standardize: bool = True) -> list[Tensor]:
    """Return the features of all splits in float64, scaled by the training split's mean and deviation if that is wanted."""
    if not standardize:
        return [features.double() for features in (train, *others)]
    mean, scale = standardisation(train)
    return [(features.double() - mean) / scale for features in (train, *others)]


def choose_strength(
    train: Tensor,
    validation: Tensor,
    labels: Tensor,
    validation_labels: Tensor,
    C_grid: Sequence[float],
    widen: bool,
    classes: int,
) -> Strength:
    """Fit the probe with every strength, as exactly as a choice needs it, and return what is best on validation.

    Args:
        train: as the probe sees them, ``[sentences, width]``, float64.
        validation: likewise, ``[sentences', width]``.
        labels: ``[sentences]``, int64.
        validation_labels: ``[sentences']``, int64.
        C_grid: strengths to try.
        widen: while the best lies on the edge of the grid, the grid grows tenfold, three times at most.
        classes: how many.
    """
    tried: dict[float, Strength] = {}
    new = sorted(set(C_grid))
    for _ in range(MAX_WIDENINGS + 1 if widen else 1):
        (weights,), (biases,) = exact_probes(train[None], labels, classes, new, ROUGH_TOLERANCE)
        for C, weight, bias in zip(new, weights, biases, strict=True):
            logits = F.linear(validation, weight, bias)
            accuracy = (logits.argmax(dim=1) == validation_labels).double().mean().item()
            tried[C] = Strength(C, accuracy, F.cross_entropy(logits, validation_labels).item())
        best = max(tried.values(), key=lambda strength: strength.rank)
        lowest, highest = min(tried), max(tried)
        if lowest == best.C:
            new = [lowest / 10]
        elif highest == best.C:
            new = [highest * 10]
        else:
            break
    return best
