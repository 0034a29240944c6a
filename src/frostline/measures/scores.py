"""Accuracy, macro F1 and loss of predictions, as validation computes them during training."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import f1_score


def score(logits: NDArray[np.float64], labels: NDArray[np.int64], split: str) -> dict[str, float]:
    """Return ``<split>/accuracy``, ``<split>/macro_f1`` and ``<split>/loss`` (mean cross-entropy in nats).

    A class that is neither among the labels nor among the predictions does not enter the macro F1.

    Args:
        logits: ``[sentences, classes]``.
        labels: ``[sentences]``, 0 … classes-1.
        split: ``train``, ``val`` or ``test``.
    """
    scores, truth = torch.from_numpy(logits), torch.from_numpy(labels)
    return {
        f"{split}/accuracy": (scores.argmax(dim=1) == truth).double().mean().item(),
        f"{split}/macro_f1": float(f1_score(labels, logits.argmax(axis=1), average="macro", zero_division=0.0)),
        f"{split}/loss": nll(logits, labels),
    }


def nll(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy in nats, from logits, so that it is not cut off where a probability rounds to 0.

    Args:
        logits: ``[sentences, classes]``.
        labels: ``[sentences]``, 0 … classes-1.
    """
    return F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
