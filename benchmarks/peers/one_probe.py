"""Linear probes in plain torch, one at a time."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F

from settings import BATCH_SIZE


def train(features: str, probes: list[tuple[int, float, int]], epochs: int) -> dict[str, Any]:
    """Fit probes one after the other with AdamW; ``seconds`` are for all of them.

    Args:
        features: a file with ``train`` and ``validation``, ``[layers, sentences, width]``, standardised, and their labels.
        probes: layer, learning rate and seed of each.
        epochs: passes over the training sentences.
    """
    data = torch.load(features)
    started = time.perf_counter()
    accuracies = []
    for layer, lr, seed in probes:
        torch.manual_seed(seed)
        x, y = data["train"][layer], data["train_labels"]
        head = torch.nn.Linear(x.shape[1], 2)
        optimizer = torch.optim.AdamW(head.parameters(), lr=lr)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(BATCH_SIZE):
                loss = F.cross_entropy(head(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.inference_mode():
            right = head(data["validation"][layer]).argmax(-1) == data["validation_labels"]
        accuracies.append(right.float().mean().item())
    return {"seconds": time.perf_counter() - started, "accuracies": accuracies}
