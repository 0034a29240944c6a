"""Logits of a whole split, in the order of its rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

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
    batches = datamodule.scoring_batches(split, device, rank, devices)
    return logits_of(module, batches, len(datamodule.splits[split]), device, precision)


def logits_of(
    module: Classifier, batches: Iterable[dict[str, Any]], sentences: int, device: torch.device, precision: str
) -> NDArray[np.float64]:
    """Return the logits of batches on ``device``, ``[sentences, classes]``, float64, at the rows that their ``index`` says."""
    was_training = module.training
    module.to(device).eval()
    with torch.inference_mode(), autocast(precision, device):
        scored = []
        for batch in batches:
            end = 0 if math.isinf(batch["total"]) else None  # of a filler, nothing counts
            scored.append((batch["index"][:end], module(batch)[:end]))
    module.train(was_training)
    return in_order(scored, sentences)


def in_order(batches: list[tuple[Tensor, Tensor]], sentences: int) -> NDArray[np.float64]:
    """Return the logits of a split, ``[sentences, classes]``, float64, from its batches: rows ``[batch]`` and their logits."""
    rows, logits = (torch.cat(part).cpu() for part in zip(*batches, strict=True))
    whole = torch.zeros(sentences, logits.shape[1], dtype=torch.float64)
    result: NDArray[np.float64] = whole.index_copy_(0, rows, logits.double()).numpy()
    return result
