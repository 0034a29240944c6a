"""Accuracy, macro F1 and loss of predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss


def score(logits: NDArray[np.float64], labels: NDArray[np.int64], split: str) -> dict[str, float]:
    """Return ``<split>/accuracy``, ``<split>/macro_f1`` and ``<split>/loss`` (mean cross-entropy in nats).

    Args:
        logits: ``[sentences, classes]``.
        labels: ``[sentences]``, 0 … classes-1.
        split: ``train``, ``val`` or ``test``.
    """
    classes = np.arange(logits.shape[1])
    predicted = logits.argmax(axis=1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    return {
        f"{split}/accuracy": float(accuracy_score(labels, predicted)),
        f"{split}/macro_f1": float(f1_score(labels, predicted, labels=classes, average="macro", zero_division=0.0)),
        f"{split}/loss": float(log_loss(labels, probabilities, labels=classes)),
    }
