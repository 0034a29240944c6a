"""Logits of a whole split, in the order of its rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

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
    rows: list[torch.Tensor] = []
    logits: list[torch.Tensor] = []
    with torch.inference_mode(), autocast(precision, device):
        for batch in datamodule.scoring_batches(split, device):
            rows.append(batch["index"].cpu())
            logits.append(module(batch).double().cpu())
    module.train(was_training)
    order = torch.cat(rows)
    result: NDArray[np.float64] = torch.empty_like(torch.cat(logits)).index_copy_(0, order, torch.cat(logits)).numpy()
    return result
