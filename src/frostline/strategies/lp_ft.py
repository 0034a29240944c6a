"""Linear probing, then fine-tuning: the converged probe becomes the head (Kumar et al. 2022, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from frostline.strategies.classifier import Classifier
from frostline.strategies.probe import C_GRID, choose_strength, standardisation, standardised
from frostline.strategies.probes import exact_probes


def start_from_probe(
    module: Classifier, features: dict[str, Tensor], labels: dict[str, Tensor], classes: int, C: float | None
) -> float:
    """Fit the exact probe on the frozen encoder's last layer and copy it into the head.

    The probe sees standardised features, the head plain ones, so that ``W' = W / sd`` and ``b' = b - W' mean``.

    Args:
        module: its head is overwritten.
        features: pooled states of the last layer, of ``train`` and ``validation``, each ``[sentences, width]``, float32.
        labels: of the same splits, ``[sentences]``, int64.
        classes: how many.
        C: inverse strength of the L2 penalty; None to choose it on validation.

    Returns:
        C.
    """
    train, validation = standardised(features["train"], features["validation"])
    if C is None:
        C = choose_strength(train, validation, labels["train"], labels["validation"], C_GRID, True, classes).C
    (((weight,),), ((bias,),)) = exact_probes(train[None], labels["train"], classes, [C])
    mean, scale = standardisation(features["train"])
    weight = weight / scale
    with torch.no_grad():
        module.head.weight.copy_(weight)
        module.head.bias.copy_(bias - weight @ mean)
    return C
