"""Logits of a whole split, in the order of its rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.data.module import SentenceModule
from frostline.encoder.products import autocast
from frostline.strategies.classifier import Classifier


def predict(
    module: Classifier, datamodule: SentenceModule, split: str, device: torch.device, precision: str
) -> NDArray[np.float64]:
    """Return the logits of a split, every sentence once, on one device, without dropout.

    Returns:
        ``[sentences, classes]``, float64, rows in the order of the split.
    """
    was_training = module.training
    module.to(device).eval()
    batches: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode(), autocast(precision, device):
        for batch in datamodule.scoring_batches(split, device):
            batches.append((batch["index"], module(batch)))
    module.train(was_training)
    return in_order(batches)


def in_order(batches: list[tuple[Tensor, Tensor]]) -> NDArray[np.float64]:
    """Return the logits of a split, ``[sentences, classes]``, float64, from its batches: rows ``[batch]`` and their logits."""
    rows, logits = (torch.cat(part).cpu() for part in zip(*batches, strict=True))
    result: NDArray[np.float64] = torch.empty_like(logits, dtype=torch.float64).index_copy_(0, rows, logits.double()).numpy()
    return result
