"""How many bits the labels take to send, given the representations: minimum description length by the online code.

Voita & Titov (2020), "Information-theoretic probing with minimum description length", eq. 3: labels are sent in blocks, each by
a probe that was fitted on all blocks before. A representation from which a task is easily read gives a short code; accuracy
alone does not see how many examples that took.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from frostline.errors import FrostlineError
from frostline.strategies.probe import C_GRID, ROUGH_TOLERANCE, standardised
from frostline.strategies.probes import exact_probes

SHARES = (0.01, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)  # the paper's, begun at 1 %
STRONGEST = 1e-6  # leaves hardly more than the class shares
HELD_OUT = 0.2  # of a block, to choose the regularisation on
EACH = 2  # of the first block's examples there must be so many of every class …
FIRST = 20  # … and so many in all


@dataclass(frozen=True)
class CodeLength:
    """The length of a code.

    Attributes:
        bits: of all labels, mean over shuffles.
        uniform_bits: what they take without any model, ``n log2 C``.
        by_shuffle: bits, ``[shuffles]``.
        first_block: examples that are sent without a model, mean over shuffles.
    """

    bits: float
    uniform_bits: float
    by_shuffle: NDArray[np.float64]
    first_block: float

    @property
    def compression(self) -> float:
        """How many times shorter the code is than the uniform one; 1 if the representations say nothing."""
        return self.uniform_bits / self.bits


def online_codelength(
    features: Tensor,
    labels: Tensor,
    classes: int,
    seeds: Sequence[int],
    C_grid: Sequence[float] = C_GRID,
    standardize: bool = True,
) -> CodeLength:
    """Return the length of the online code of ``labels`` given ``features``.

    Blocks end at the paper's shares of the examples, but the first at 1 %, and not before it has 20 examples and, in its first
    four fifths, two of every class: it is sent at ``log2 C`` bits a label. Every probe's strength is chosen on a fifth of the
    block that it is fitted on, held out, by what that fifth would cost to send, and it is fitted again on the whole block. A
    probe that says nothing (a strong penalty, which leaves the class shares) is among the choices, so that labels that cannot
    be read cost little more than the uniform code: what the first blocks lose by chance.

    Args:
        features: ``[examples, width]``, float32.
        labels: ``[examples]``, int64 in 0 … classes-1.
        classes: how many.
        seeds: one shuffle each.
        C_grid: inverse strengths of the L2 penalty to choose from; 1e-6 is added.
        standardize: scale features by the mean and deviation of the block that a probe is fitted on.

    Raises:
        FrostlineError: there are too few examples.
    """
    if len(labels) < 2 * FIRST:
        raise FrostlineError(f"A code length needs at least {2 * FIRST} examples, but there are {len(labels)}.")
    runs = [_one_order(features, labels, classes, seed, sorted({STRONGEST, *C_grid}), standardize) for seed in seeds]
    bits, firsts = np.array(runs).T
    return CodeLength(float(bits.mean()), len(labels) * math.log2(classes), bits, float(firsts.mean()))


def _one_order(
    features: Tensor, labels: Tensor, classes: int, seed: int, C_grid: Sequence[float], standardize: bool
) -> tuple[float, int]:
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    features, labels = features[order], labels[order]
    ends = block_ends(labels.numpy(), classes)
    bits = ends[0] * math.log2(classes)
    for start, end in itertools.pairwise(ends):
        fit = start - max(EACH, round(HELD_OUT * start))
        held_out = _bits(features[:start], labels[:start], fit, classes, C_grid, standardize, ROUGH_TOLERANCE)
        best = C_grid[int(np.argmin(held_out))]
        bits += _bits(features[:end], labels[:end], start, classes, [best], standardize)[0]
    return bits, ends[0]


def _bits(
    features: Tensor,
    labels: Tensor,
    known: int,
    classes: int,
    strengths: Sequence[float],
    standardize: bool,
    tolerance: float = 1e-6,
) -> list[float]:
    """Return what the labels from number ``known`` on cost under the probe of those before, for every strength."""
    before, after = standardised(features[:known], features[known:], standardize=standardize)
    (weights,), (biases,) = exact_probes(before[None], labels[:known], classes, strengths, tolerance)
    return [
        F.cross_entropy(F.linear(after, weight, bias), labels[known:], reduction="sum").item() / math.log(2)
        for weight, bias in zip(weights, biases, strict=True)
    ]


def block_ends(labels: NDArray[np.int64], classes: int) -> list[int]:
    """Return after how many examples each block ends.

    The first has 1 % of the examples, but at least 20 and, in its first four fifths, 2 of every class.

    Args:
        labels: in the order in which they are sent.
        classes: how many.

    Raises:
        FrostlineError: a class has too few examples.
    """
    seen = np.cumsum(labels[:, None] == np.arange(classes), axis=0).min(axis=1)
    if seen[-1] < EACH:
        rarest = int(np.bincount(labels, minlength=classes).argmin())
        raise FrostlineError(f"A code length needs {EACH} examples of every class, but class {rarest} has {int(seen[-1])}.")
    enough = math.ceil((int(np.argmax(seen >= EACH)) + 1) / (1 - HELD_OUT)) + 1
    first = max(FIRST, round(SHARES[0] * len(labels)), enough)
    return [min(first, len(labels)), *(end for share in SHARES if (end := round(share * len(labels))) > first)]
