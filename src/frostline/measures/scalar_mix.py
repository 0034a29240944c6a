"""Which layers a task is read from: a learned mix of them (Tenney et al. 2019, "BERT rediscovers the classical NLP pipeline").

A classifier reads ``sum_l s_l h_l`` with ``s = softmax(a)``; the expected layer, or centre of gravity, is ``sum_l l s_l`` (eq. 2
there). Every layer is standardised first: mix weights say nothing where the layers' norms differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from frostline.strategies.probe import penalty, standardisation

ITERATIONS = 60


@dataclass(frozen=True)
class ScalarMix:
    """A mix of layers.

    Attributes:
        weights: ``s``, ``[layers]``, sum 1.
    """

    weights: NDArray[np.float64]

    @property
    def expected_layer(self) -> float:
        """The centre of gravity, 0 … L."""
        return float(self.weights @ np.arange(len(self.weights)))


def scalar_mix(train: Tensor, labels: Tensor, classes: int, C: float) -> ScalarMix:
    """Fit mix and classifier together by full-batch L-BFGS from equal weights.

    The mix's logits have a standard normal prior: without one, a converged mix is all but a single layer, whichever is best by
    a hair.

    Args:
        train: ``[layers, sentences, width]``, float32.
        labels: ``[sentences]``, int64.
        classes: how many.
        C: inverse strength of the classifier's L2 penalty; the one that validation chose for the best layer's probe fits.
    """
    scales = [standardisation(layer) for layer in train]
    scaled = torch.stack([(layer - mean.float()) / scale.float() for layer, (mean, scale) in zip(train, scales, strict=True)])
    mix = _fit(scaled, labels, classes, C).double()
    return ScalarMix((mix / mix.sum()).numpy())


def _fit(train: Tensor, labels: Tensor, classes: int, C: float) -> Tensor:
    logits_of_mix = torch.zeros(len(train), requires_grad=True)
    weight = torch.zeros(classes, train.shape[2], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits_of_mix, weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        # Each layer's logits, then their mix: the same as the logits of the mix, without a copy of all states.
        by_layer = torch.einsum("lnd,cd->lnc", train, weight)
        logits = torch.einsum("l,lnc->nc", logits_of_mix.softmax(dim=0), by_layer) + bias
        prior = logits_of_mix.square().sum() / (2 * len(labels))
        value = F.cross_entropy(logits, labels) + penalty(weight, C, len(labels)) + prior
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return logits_of_mix.detach().softmax(dim=0)
