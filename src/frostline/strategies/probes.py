"""Many linear probes at once: exact ones, and ones trained by AdamW; each comes out as it would alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from frostline.data.batching import LengthGroupedBatches
from frostline.errors import FrostlineError
from frostline.optim import build_schedule
from frostline.schema import AdamW, SchedulerConfig

MAX_ITERATIONS = 20_000  # of conjugate gradients; tens are usual
FLOAT32_ITERATIONS = 200  # before those in float64
MAX_LINE_STEPS = 40
LINE_TOLERANCE = 0.3  # a line search ends once the slope has fallen to this share


def exact_probes(
    features: Tensor, labels: Tensor, classes: int, strengths: Sequence[float], tolerance: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Solve L2-regularised multinomial logistic regression for every feature set with every strength.

    The objective is the mean cross-entropy with :func:`frostline.strategies.probe.penalty`, that is scikit-learn's
    ``LogisticRegression(C=C)``. It is convex, so there is one solution. All strengths of a feature set descend together,
    by preconditioned nonlinear conjugate gradients: two products of matrices an iteration. Feature sets follow one
    another, so that each stays in the processor's cache meanwhile; a batched product over all of them takes twice as long.

    Args:
        features: ``[sets, sentences, width]``, floating point.
        labels: ``[sentences]``, int64 in 0 … classes-1.
        classes: how many, at least 2.
        strengths: inverse strengths C of the penalty, each > 0; the bias is not penalised.
        tolerance: no component of the gradient with respect to weights and bias is larger in the end.

    Returns:
        weight ``[sets, strengths, classes, width]`` and bias ``[sets, strengths, classes]``, float64.

    Raises:
        FrostlineError: the tolerance is out of reach.
    """
    solutions = [_solve(one, labels, classes, strengths, tolerance) for one in features]
    return torch.stack([weight for weight, _ in solutions]), torch.stack([bias for _, bias in solutions])


@dataclass(frozen=True)
class _Problem:
    """What all strengths of a feature set share.

    Classes are described by ``classes - 1`` contrasts in place of as many logits as classes: at the optimum the classes'
    weights sum to 0. For two classes that halves the work.

    Attributes:
        design: centred features and a last column of ones, which carries the bias, ``[sentences, width + 1]``.
        mean: of the features, ``[width]``.
        one_hot: the labels, ``[classes, sentences]``.
        contrasts: an orthonormal basis of what sums to 0 over the classes, ``[classes, classes - 1]``.
        axes: columns are the principal axes of ``design``, ``[width + 1, width + 1]``.
        spectrum: mean square of ``design`` along each axis, ``[width + 1]``.
    """

    design: Tensor
    mean: Tensor
    one_hot: Tensor
    contrasts: Tensor
    axes: Tensor
    spectrum: Tensor

    def to(self, dtype: torch.dtype) -> _Problem:
        """Return the same problem in another precision."""
        return _Problem(**{name: tensor.to(dtype) for name, tensor in vars(self).items()})


def _solve(features: Tensor, labels: Tensor, classes: int, strengths: Sequence[float], tolerance: float) -> tuple[Tensor, Tensor]:
    sentences, width = features.shape
    mean = features.double().mean(dim=0)
    design = F.pad(features.double() - mean, (0, 1), value=1.0)
    centred = design[:, :-1].float()
    covariance = centred.T @ centred / sentences
    spectrum, axes = torch.linalg.eigh(covariance)  # in float32: it only preconditions
    contrasts = torch.linalg.qr(torch.eye(classes, dtype=torch.float64)[:, 1:] - 1 / classes).Q
    problem = _Problem(
        design,
        mean,
        F.one_hot(labels, classes).T.contiguous(),
        contrasts,
        F.pad(axes, (0, 1, 0, 1)) + F.pad(torch.ones(1, 1), (width, 0, width, 0)),
        F.pad(spectrum.clamp(min=0), (0, 1), value=1.0),
    )
    ridge = torch.tensor([(2.0 if classes == 2 else 1.0) / (C * sentences) for C in strengths], dtype=torch.float64)
    ridge = F.pad(ridge[:, None, None].expand(-1, 1, width), (0, 1))
    weights = torch.zeros(len(strengths), classes - 1, width + 1, dtype=torch.float64)
    # float32 is twice as fast, but resolves no gradient much below 1e-6 of the features' size; float64 does the rest.
    size = (covariance.diagonal() + mean.square()).max().sqrt().clamp(min=1).item()
    rough = max(tolerance, 1e-6 * size)
    weights, _ = _descend(problem.to(torch.float32), ridge.float(), weights.float(), rough, FLOAT32_ITERATIONS)
    weights, error = _descend(problem.to(torch.float64), ridge, weights.double(), tolerance, MAX_ITERATIONS)
    if not error <= tolerance:
        raise FrostlineError(
            f"The exact probe did not converge: a component of its gradient is {error:.1e}, more than {tolerance:.1e}; "
            "set strategy.standardize=true or take a smaller optimizer.C."
        )
    whole = contrasts @ weights
    return whole[..., :-1], whole[..., -1] - whole[..., :-1] @ mean


def _descend(problem: _Problem, ridge: Tensor, weights: Tensor, tolerance: float, iterations: int) -> tuple[Tensor, float]:
    """Minimise by nonlinear conjugate gradients (Polak & Ribière 1969), never uphill (Gilbert & Nocedal 1992).

    The preconditioner takes every sentence's curvature for the mean curvature, which makes the Hessian the Kronecker product
    of one matrix over classes and one over features, and so diagonal on the axes of both for every strength.

    Args:
        problem: in the precision to compute in.
        ridge: coefficients of the penalty's gradient, ``[strengths, 1, width + 1]``.
        weights: where to begin, ``[strengths, classes - 1, width + 1]``.
        tolerance: of every component of the gradient.
        iterations: stop after that many in any case.

    Returns:
        the weights and the largest component of any gradient.
    """
    design, contrasts = problem.design, problem.contrasts
    solution, error, numbers = weights, weights.new_zeros(0), torch.arange(len(weights))
    logits = contrasts @ (weights @ design.T)
    probabilities = logits.softmax(dim=1)
    direction = last_gradient = torch.zeros_like(weights)
    last_decrement = weights.new_full((len(weights),), torch.inf)
    stuck = torch.zeros(len(weights), dtype=torch.bool)
    for _ in range(iterations):
        gradient = contrasts.T @ (probabilities - problem.one_hot) @ design / len(design) + ridge * weights
        solution = solution.index_copy(0, numbers, weights)
        uncentred = contrasts @ gradient
        uncentred[..., :-1] += problem.mean * uncentred[..., -1:]
        error = uncentred.abs().amax(dim=(1, 2))
        going = ~(error <= tolerance) & ~stuck
        if not going.any():
            break
        if not going.all():
            state = (numbers, ridge, weights, logits, probabilities, gradient, direction, last_gradient, last_decrement)
            numbers, ridge, weights, logits, probabilities, gradient, direction, last_gradient, last_decrement = (
                tensor[going] for tensor in state
            )

        of_classes, basis = _class_curvature(probabilities, contrasts)
        scaled = basis.mT @ gradient @ problem.axes / (of_classes * problem.spectrum + ridge)
        scaled = basis @ scaled @ problem.axes.T
        decrement = _dot(gradient, scaled)
        beta = ((decrement - _dot(last_gradient, scaled)) / last_decrement).clamp(min=0)
        direction = beta[:, None, None] * direction - scaled
        direction = torch.where(_dot(direction, gradient)[:, None, None] < 0, direction, -scaled)
        last_gradient, last_decrement = gradient, decrement

        change = contrasts @ (direction @ design.T)
        slope = _dot(ridge * weights, direction) - _dot(problem.one_hot / len(design), change)
        step, logits, probabilities = _line_search(logits, probabilities, change, slope, _dot(ridge * direction, direction))
        before, weights = weights, weights + step * direction
        # The precision is used up where not even the preconditioned gradient moves a weight any more.
        stuck = (weights == before).all(dim=(1, 2)) & (direction == -scaled).all(dim=(1, 2))
    return solution, error.max().item()


def _class_curvature(probabilities: Tensor, contrasts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean Hessian in the contrasts' logits: eigenvalues ``[problems, classes - 1, 1]`` and eigenvectors."""
    mean = probabilities.mean(dim=2).diag_embed() - probabilities @ probabilities.mT / probabilities.shape[2]
    values, vectors = torch.linalg.eigh(contrasts.T @ mean @ contrasts)
    return values.clamp(min=torch.finfo(values.dtype).eps)[..., None], vectors


def _line_search(
    logits: Tensor, probabilities: Tensor, change: Tensor, linear: Tensor, quadratic: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Find where every problem's slope along its direction has nearly vanished, by Newton's method within a bracket.

    Logits change linearly along a direction, so this takes no pass over the features.

    Args:
        logits: at the start, ``[problems, classes, sentences]``.
        probabilities: likewise.
        change: of the logits for a step of 1, likewise.
        linear: the slope of the labels' and the penalty's part at the start, ``[problems]``.
        quadratic: the penalty's curvature, ``[problems]``.

    Returns:
        steps, ``[problems, 1, 1]``; logits and probabilities there.
    """

    def slope_and_curvature(step: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        weighted = probabilities * change
        mean, square = weighted.sum(dim=1), _dot(weighted, change) / change.shape[2]
        return mean.mean(dim=1) + linear + step * quadratic, square - mean.square().mean(dim=1) + quadratic

    step = low = torch.zeros_like(linear)
    high = torch.full_like(linear, torch.inf)
    first, curvature = slope_and_curvature(step, probabilities)
    slope, found, there = first, torch.zeros_like(linear, dtype=torch.bool), logits
    for _ in range(MAX_LINE_STEPS):
        newton = step - slope / curvature
        within = torch.where(high.isinf(), 2 * step + 1, (low + high) / 2)
        step = torch.where(found, step, torch.where((newton > low) & (newton < high), newton, within))
        there = logits + step[:, None, None] * change
        probabilities = there.softmax(dim=1)
        slope, curvature = slope_and_curvature(step, probabilities)
        found = slope.abs() <= LINE_TOLERANCE * first.abs()
        if found.all():
            break
        low, high = torch.where(slope < 0, step, low), torch.where(slope > 0, step, high)
    return step[:, None, None], there, probabilities


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(dim=(1, 2))


def adamw_probes(
    features: Tensor,
    labels: Tensor,
    lengths: NDArray[np.int64],
    classes: int,
    optimizer: AdamW,
    scheduler: SchedulerConfig,
    rates: Sequence[float],
    seeds: Sequence[int],
    batch_size: int,
    epochs: int,
) -> tuple[Tensor, Tensor]:
    """Train a linear probe for every feature set with every learning rate and seed, by AdamW in mini-batches.

    Each is what :class:`frostline.strategies.FrozenClassifier` becomes in as many epochs on one device: the same first
    weights, batches, clipping, decay and schedule. Probes of one feature set and seed see the same batches, so a step is a
    product of matrices for each of those, forwards and backwards, and one update of all weights. Two classes have opposite
    gradients and so opposite updates: one is computed, from the difference of their weights, at about half the cost.

    Args:
        features: as the probes see them (standardised or not), ``[sets, sentences, width]``, float32.
        labels: ``[sentences]``, int64 in 0 … classes-1.
        lengths: tokens of each sentence, ``[sentences]``: they group the batches.
        classes: how many.
        optimizer: everything but the rate.
        scheduler: how the rates change.
        rates: peak learning rates.
        seeds: each draws the first weights and the order of sentences.
        batch_size: sentences a batch.
        epochs: how many.

    Returns:
        weight ``[sets, rates, seeds, classes, width]`` and bias ``[sets, rates, seeds, classes]``, float32, after the last
        epoch. A probe that diverged is not finite; it does not disturb the others.
    """
    sets, sentences, width = features.shape
    design = F.pad(features, (0, 1), value=1.0)  # the column of ones carries the bias
    first = torch.stack([F.pad(_first_weights(classes, width, seed), (0, 1)) for seed in seeds])
    weights = first[None, :, None].repeat(sets, 1, len(rates), 1, 1)  # [sets, seeds, rates, classes, width + 1]
    is_pair = classes == 2
    contrast = weights[..., 1:, :] - weights[..., :1, :] if is_pair else weights  # what gives logits, up to a constant
    sign = torch.tensor([[-1.0], [1.0]]) if is_pair else torch.ones(1, 1)
    gradient, update = torch.empty_like(contrast), torch.zeros_like(contrast)
    # An optimizer of rate 1 makes the update of every probe in one kernel; each is then scaled by its own rate.
    beta1, beta2 = optimizer.betas
    adam = torch.optim.AdamW([update], lr=1.0, betas=(beta1, beta2), eps=optimizer.eps, weight_decay=0.0, fused=True)
    update.grad = gradient
    decay = F.pad(torch.full((width,), optimizer.weight_decay, dtype=torch.float64), (0, 1))  # not of the bias
    steps_an_epoch = -(-sentences // batch_size)
    schedule = build_schedule(scheduler, torch.optim.SGD([torch.zeros(1)], lr=1.0), epochs * steps_an_epoch)
    peak = torch.tensor(rates, dtype=torch.float64)[:, None, None]

    batch = torch.empty(sets, len(seeds) * batch_size, width + 1)
    by_seed = batch.view(-1, batch_size, width + 1)
    logits = torch.empty(len(by_seed), len(rates) * contrast.shape[3], batch_size)
    shape = (*contrast.shape[:4], batch_size)
    for epoch in range(epochs):
        rows, counted = _batches(lengths, batch_size, seeds, epoch)
        targets = F.one_hot(labels[rows], classes).transpose(2, 3)[:, :, None, -contrast.shape[3] :].float()
        for i in range(steps_an_epoch):
            rate = peak * (1.0 if schedule is None else schedule.lr_lambdas[0](epoch * steps_an_epoch + i))
            torch.index_select(design, 1, rows[i].flatten(), out=batch)
            torch.bmm(contrast.flatten(0, 1).flatten(1, 2), by_seed.mT, out=logits)
            probabilities = logits.view(shape).sigmoid() if is_pair else logits.view(shape).softmax(dim=3)
            residual = (probabilities - targets[i]) * counted[i, :, None, None]
            torch.bmm(residual.view(logits.shape), by_seed, out=gradient.view(len(by_seed), -1, width + 1))
            if optimizer.gradient_clip is not None:
                norm = torch.linalg.vector_norm(gradient, dim=(3, 4), keepdim=True) * (2**0.5 if is_pair else 1)
                gradient.mul_((optimizer.gradient_clip / (norm + 1e-6)).clamp(max=1.0))  # as clip_grad_norm_
            adam.step()
            weights.mul_((1 - rate * decay).float()).addcmul_(update, (rate * sign).float())
            update.zero_()
            if is_pair:
                torch.sub(weights[..., 1:, :], weights[..., :1, :], out=contrast)
    weights = weights.transpose(1, 2)
    return weights[..., :-1].contiguous(), weights[..., -1].contiguous()


def _first_weights(classes: int, width: int, seed: int) -> Tensor:
    """Draw the weights as :class:`frostline.strategies.Classifier` does, ``[classes, width]``."""
    return nn.init.normal_(torch.empty(classes, width), std=0.02, generator=torch.Generator().manual_seed(seed))


def _batches(lengths: NDArray[np.int64], batch_size: int, seeds: Sequence[int], epoch: int) -> tuple[Tensor, Tensor]:
    """Return an epoch's rows, ``[steps, seeds, batch_size]``, int64, and the weight of each in its batch's mean loss.

    An incomplete batch, for every seed in another place, is filled with row 0 at weight 0.
    """
    steps = -(-len(lengths) // batch_size)
    rows = torch.zeros(steps, len(seeds), batch_size, dtype=torch.int64)
    weight = torch.zeros(steps, len(seeds), batch_size)
    for column, seed in enumerate(seeds):
        sampler = LengthGroupedBatches(lengths, batch_size, seed)
        sampler.set_epoch(epoch)
        for i, batch in enumerate(sampler.batches()):
            rows[i, column, : len(batch)] = torch.tensor(batch)
            weight[i, column, : len(batch)] = 1 / len(batch)
    return rows, weight
