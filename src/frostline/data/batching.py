"""Which sentences go into a batch together: grouped by length, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

BATCHES_PER_GROUP = 50  # sentences are sorted by length within a random group of this many batches


class BatchRows(NamedTuple):
    """One device's part of a batch.

    Attributes:
        rows: the sentences' row numbers in their split.
        total: what a sum over sentences is divided by: the sentences of the whole batch over all devices; where several batches
            make up an optimizer step, their mean over these; infinite for a part that only fills up and must not count.
    """

    rows: list[int]
    total: float


def part_of(batch: list[int], rank: int, devices: int, total: float | None = None) -> BatchRows:
    """Return one device's part of a batch; a batch smaller than the number of devices leaves some with a filler.

    ``total`` is by default the batch's own.
    """
    rows = batch[rank::devices]
    total = len(batch) if total is None else total
    return BatchRows(rows, total) if rows else BatchRows(batch[:1], float("inf"))


def cut(
    order: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int | None, batch_tokens: int | None
) -> list[list[int]]:
    """Cut sentences, sorted by length either way, into batches of ``batch_size`` or of at most ``batch_tokens``.

    Args:
        order: row numbers, ``[sentences]``.
        lengths: tokens of every row of the split.
        batch_size: sentences a batch; counts only without ``batch_tokens``; None for one batch of all.
        batch_tokens: sentences times tokens of the longest, padding counted; a longer sentence is a batch of its own.
    """
    if batch_tokens is None:
        size = batch_size or max(1, len(order))
        return [order[i : i + size].tolist() for i in range(0, len(order), size)]
    batches: list[list[int]] = []
    longest = 0
    for row in order.tolist():
        longest = max(longest, int(lengths[row]))
        if not batches or (len(batches[-1]) + 1) * longest > batch_tokens:
            batches.append([])
            longest = int(lengths[row])
        batches[-1].append(row)
    return batches


class LengthGroupedBatches(Sampler[BatchRows]):
    """Random batches of sentences of similar length, a function of (seed, epoch) alone.

    Each epoch draws a new order, cuts it into groups of :data:`BATCHES_PER_GROUP` batches, sorts each group by length,
    cuts it into batches and shuffles the order of all batches. Nothing depends on earlier epochs, so a resumed run sees the same
    batches as an undisturbed one. Every device gets its share of every batch: the batch size counts all devices.

    Args:
        lengths: tokens of each sentence, ``[sentences]``, int.
        batch_size: sentences a batch over all devices.
        seed: the run's seed.
        rank: this device.
        devices: how many devices share a batch.
        batch_tokens: tokens a batch in place of ``batch_size``; the number of batches then differs from epoch to epoch.
        epoch: whose batches are drawn.
        accumulate: batches an optimizer step; what is left at the end of an epoch is a step, too. The trainer divides the loss of
            each by this number, so that the step's gradient is that of the mean over all its sentences.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        batch_size: int,
        seed: int,
        rank: int = 0,
        devices: int = 1,
        batch_tokens: int | None = None,
        epoch: int = 0,
        accumulate: int = 1,
    ):
        self.lengths, self.batch_size, self.batch_tokens, self.seed = lengths, batch_size, batch_tokens, seed
        self.rank, self.devices, self.epoch, self.accumulate = rank, devices, epoch, accumulate

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are drawn next; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self.lengths) // self.batch_size) if self.batch_tokens is None else len(self.batches())

    def __iter__(self) -> Iterator[BatchRows]:
        """Yield this device's part of every batch of the epoch."""
        batches = self.batches()
        for start in range(0, len(batches), self.accumulate):
            step = batches[start : start + self.accumulate]
            total = sum(map(len, step)) / self.accumulate
            yield from (part_of(batch, self.rank, self.devices, total) for batch in step)

    def batches(self) -> list[list[int]]:
        """Return the epoch's batches as row numbers."""
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))
        batch_size = self.batch_size if self.batch_tokens is None else max(1, round(self.batch_tokens / self.lengths.mean()))
        group_size = batch_size * BATCHES_PER_GROUP
        batches: list[list[int]] = []
        for start in range(0, len(order), group_size):
            group = order[start : start + group_size]
            group = group[np.argsort(self.lengths[group], kind="stable")]
            batches += cut(group, self.lengths, batch_size, self.batch_tokens)
        return [batches[i] for i in random.permutation(len(batches))]


class SortedBatches(Sampler[BatchRows]):
    """Batches sorted by length, longest first, for passes without gradient; every device gets its share of every batch.

    Args:
        lengths: tokens of each sentence, ``[sentences]``, int.
        batch_tokens: tokens a batch; None for one batch of all.
        rank: this device.
        devices: how many devices share the split.
    """

    def __init__(self, lengths: NDArray[np.int64], batch_tokens: int | None, rank: int = 0, devices: int = 1):
        batches = cut(np.argsort(-lengths, kind="stable"), lengths, None, batch_tokens)
        self.parts = [part_of(batch, rank, devices) for batch in batches]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.parts)

    def __iter__(self) -> Iterator[BatchRows]:
        """Yield the batches, longest sentences first."""
        return iter(self.parts)
