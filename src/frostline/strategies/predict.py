"""Logits of a whole split, in the order of its rows."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.data.module import SentenceModule
from frostline.encoder.products import autocast
from frostline.strategies.classifier import Classifier


def predict(
    module: Classifier,
    datamodule: SentenceModule,
    split: str,
    device: torch.device,
    precision: str,
    rank: int = 0,
    devices: int = 1,
) -> NDArray[np.float64]:
    """Return the logits of a split, every sentence once, without dropout: all, or one device's share of them.

    Returns:
        ``[sentences, classes]``, float64, rows in the order of the split; 0 in those that other devices score.
    """
    was_training = module.training
    module.to(device).eval()
    batches: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode(), autocast(precision, device):
        for batch in datamodule.scoring_batches(split, device, rank, devices):
            end = 0 if math.isinf(batch["total"]) else None  # of a filler, nothing counts
            batches.append((batch["index"][:end], module(batch)[:end]))
    module.train(was_training)
    return in_order(batches, len(datamodule.splits[split]))


def in_order(batches: list[tuple[Tensor, Tensor]], sentences: int) -> NDArray[np.float64]:
    """Return the logits of a split, ``[sentences, classes]``, float64, from its batches: rows ``[batch]`` and their logits."""
    rows, logits = (torch.cat(part).cpu() for part in zip(*batches, strict=True))
    whole = torch.zeros(sentences, logits.shape[1], dtype=torch.float64)
    result: NDArray[np.float64] = whole.index_copy_(0, rows, logits.double()).numpy()
    return result
