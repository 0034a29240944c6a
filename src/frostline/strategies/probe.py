"""The exact linear probe: L2-regularised logistic regression, and which layer and strength are best on validation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

C_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
MAX_WIDENINGS = 3  # how often a grid whose best value lies on its edge grows tenfold
MAX_ITERATIONS = 2_000


@dataclass(frozen=True)
class Choice:
    """A layer and a regularisation with what they reach on validation."""

    layer: int
    C: float
    accuracy: float
    loss: float

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: accuracy, then the lower loss."""
        return (self.accuracy, -self.loss)


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
    """Return mean and standard deviation of every feature, each ``[width]``; 1 where a feature is constant.

    Args:
        features: of the training split, ``[sentences, width]``.
    """
    mean, scale = features.double().mean(dim=0), features.double().std(dim=0, correction=0)
    return mean, torch.where(scale > 1e-12, scale, torch.ones_like(scale))


def logistic_regression(
    features: Tensor, labels: Tensor, classes: int, C: float, start: tuple[Tensor, Tensor] | None = None, tolerance: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Solve L2-regularised multinomial logistic regression (convex, so there is one solution) by L-BFGS in float64.

    Args:
        features: ``[sentences, width]``.
        labels: ``[sentences]``, int64 in 0 … classes-1.
        classes: how many.
        C: inverse strength of the penalty, as in scikit-learn; the bias is not penalised.
        start: weight and bias to begin from; zeros by default.
        tolerance: stop when no component of the gradient is larger.

    Returns:
        weight ``[classes, width]`` and bias ``[classes]``, float64.
    """
    features = features.double()
    if start is None:
        start = (features.new_zeros(classes, features.shape[1]), features.new_zeros(classes))
    weight, bias = (t.clone().requires_grad_() for t in start)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MAX_ITERATIONS,
        max_eval=100 * MAX_ITERATIONS,
        tolerance_grad=tolerance,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(features, weight, bias), labels) + penalty(weight, C, len(labels))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


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
        scaled = _scaled(train[i], validation[i], standardize)
        best.append(_choose_strength(layer, *scaled, train_labels, validation_labels, C_grid, widen, classes))
    return max(best, key=lambda choice: choice.rank)


def _scaled(train: Tensor, validation: Tensor, standardize: bool) -> tuple[Tensor, Tensor]:
    if not standardize:
        return train.double(), validation.double()
    mean, scale = standardisation(train)
    return (train.double() - mean) / scale, (validation.double() - mean) / scale


def _choose_strength(
    layer: int,
    train: Tensor,
    validation: Tensor,
    labels: Tensor,
    validation_labels: Tensor,
    C_grid: tuple[float, ...],
    widen: bool,
    classes: int,
) -> Choice:
    tried: dict[float, Choice] = {}
    solution: tuple[Tensor, Tensor] | None = None
    grid = sorted(C_grid)
    for _ in range(MAX_WIDENINGS + 1 if widen else 1):
        for C in grid:
            if C in tried:
                continue
            solution = logistic_regression(train, labels, classes, C, start=solution, tolerance=1e-4)
            logits = F.linear(validation, *solution)
            accuracy = (logits.argmax(dim=1) == validation_labels).double().mean().item()
            tried[C] = Choice(layer, C, accuracy, F.cross_entropy(logits, validation_labels).item())
        best = max(tried.values(), key=lambda choice: choice.rank)
        if grid[0] == best.C:
            grid = [grid[0] / 10, *grid]
        elif grid[-1] == best.C:
            grid = [*grid, grid[-1] * 10]
        else:
            break
    return best
