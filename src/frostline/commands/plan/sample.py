"""Some batches of a job's sentences, and a clock for each of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from frostline.commands.plan.work import padded
from frostline.data.batching import BatchRows
from frostline.data.module import SentenceModule, Split
from frostline.data.sentences import LabelledData


def spread(items: Sequence[Any], sizes: Sequence[float], count: int) -> list[Any]:
    """Return the largest item, then ``count`` (at most all) that are spread evenly over the items sorted by size."""
    order = np.argsort(np.asarray(sizes), kind="stable")
    count = min(count, len(order))
    middles = ((np.arange(count) + 0.5) * len(order) / count).astype(int)
    return [items[i] for i in (order[-1], *order[middles])]


class Sample(LightningDataModule):
    """Some batches of a job's sentences.

    Args:
        of: the sentences.
        batches: of ``train`` and ``validation``, as row numbers there.
    """

    def __init__(self, of: SentenceModule | Sample, batches: dict[str, list[list[int]]]):
        super().__init__()
        self.data: LabelledData = of.data
        self.batch_tokens = None
        self.splits: dict[str, Split] = {}
        self.batches: dict[str, list[BatchRows]] = {}
        for name, chosen in batches.items():
            rows = sorted({row for batch in chosen for row in batch})
            place = {row: i for i, row in enumerate(rows)}
            split = of.splits[name]
            features = None if split.features is None else split.features[rows]
            self.splits[name] = Split(split.tokens.take(rows), split.labels[rows], features)
            self.batches[name] = [BatchRows([place[row] for row in batch], len(batch)) for batch in chosen]

    def enlarge(self, small: Sample, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return features of as many sentences as this has, ``[layers, sentences, width]``, and take over their labels.

        They are drawn from those of a small sample, with some noise, so that a probe on them takes about as long as on real ones.
        """
        generator, large = torch.Generator().manual_seed(0), {}
        for name, of in features.items():
            rows = torch.randint(of.shape[1], (len(self.splits[name]),), generator=generator)
            noise = torch.randn(of.shape[0], len(rows), of.shape[2], generator=generator)
            large[name] = of[:, rows] + noise * of.std(dim=1, keepdim=True)
            self.splits[name].labels = small.splits[name].labels[rows]
        return large

    def tokens(self, split: str) -> int:
        """Return how many tokens the batches of a split have but for the first one, padding counted."""
        lengths = self.splits[split].tokens.lengths
        return int(padded([batch.rows for batch in self.batches[split][1:]], lengths).sum())

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the training batches."""
        return DataLoader(self.splits["train"], batch_size=None, sampler=self.batches["train"])

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the validation batches."""
        return DataLoader(self.splits["validation"], batch_size=None, sampler=self.batches["validation"])


class Clock(Callback):
    """Times every batch from the end of the one before, so that reading it is part of its time.

    Attributes:
        started: when the first epoch did.
        steps: seconds of every batch of training.
        scored: seconds of every batch of validation.
    """

    def __init__(self) -> None:
        self.started, self.steps, self.scored = 0.0, list[float](), list[float]()
        self._last = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start."""
        self._lap()
        self.started = self.started or self._last

    def on_train_batch_end(self, *_: Any) -> None:
        """Note a step."""
        self.steps.append(self._lap())

    def on_validation_start(self, *_: Any) -> None:
        """Start again: what came between is no batch's."""
        self._lap()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Note a scored batch."""
        self.scored.append(self._lap())

    def _lap(self) -> float:
        last, self._last = self._last, time.perf_counter()
        return self._last - last
