"""The one DataModule that all strategies share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from frostline.data.batching import BatchRows, LengthGroupedBatches, SortedBatches
from frostline.data.sentences import LabelledData
from frostline.data.tokens import Tokens, tokenise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCORING_TOKENS = 1024  # a batch in passes without gradient; larger ones leave a processor's cache


class States(Protocol):
    """Whatever has the states of every row at hand that a frozen prefix would compute."""

    def pad(self, rows: list[int]) -> dict[str, Tensor]:
        """Return ``states`` ``[batch, tokens, width]`` and ``attention_mask`` ``[batch, tokens]``."""


@dataclass
class Split(Dataset[dict[str, Any]]):
    """One split as batches: token ids, or what a frozen part has made of them once that is known.

    Attributes:
        tokens: the token ids.
        labels: class numbers, ``[sentences]``, int64.
        features: replace the tokens once set: the frozen pooled states, ``[sentences, width]``.
        states: replace the tokens once set: the frozen token states.
    """

    tokens: Tokens
    labels: Tensor
    features: Tensor | None = None
    states: States | None = None

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self.labels)

    def __getitem__(self, part: BatchRows) -> dict[str, Any]:
        """Return a batch: ``labels`` and ``index``, ``[batch]``; ``total``; and ``features``, ``states`` or the tokens."""
        index = torch.tensor(part.rows)
        batch: dict[str, Any] = {"labels": self.labels[index], "index": index, "total": part.total}
        if self.features is not None:
            return batch | {"features": self.features[index]}
        return batch | (self.states or self.tokens).pad(part.rows)


class SentenceModule(LightningDataModule):
    """Batches of labelled sentences for training, validation and test.

    Args:
        data: the labelled splits.
        tokenizer: the encoder's tokenizer.
        tokenizer_hash: hash of its definition.
        max_length: tokens beyond which a sentence is truncated.
        batch_size: sentences per optimizer step over all devices; None for the whole training split.
        seed: the run's seed: it draws the order of sentences.
        cache_dir: where tokens are kept.
        batch_tokens: tokens per optimizer step over all devices, padding counted, in place of ``batch_size``.
    """

    def __init__(
        self,
        data: LabelledData,
        tokenizer: PreTrainedTokenizerBase,
        tokenizer_hash: str,
        max_length: int,
        batch_size: int | None,
        seed: int,
        cache_dir: Path,
        batch_tokens: int | None = None,
    ):
        super().__init__()
        self.data, self.seed, self.batch_tokens = data, seed, batch_tokens
        self.splits = {
            name: Split(
                tokenise(split, data.hashes[name], tokenizer, tokenizer_hash, max_length, cache_dir),
                torch.tensor(np.asarray(split["label"][:]), dtype=torch.int64),
            )
            for name, split in data.splits.items()
        }
        self.batch_size = batch_size

    @property
    def truncated(self) -> dict[str, int]:
        """How many sentences of each split were truncated."""
        return {name: split.tokens.truncated for name, split in self.splits.items()}

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class numbers of a split, ``[sentences]``."""
        labels: NDArray[np.int64] = self.splits[split].labels.numpy()
        return labels

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return length-grouped random batches, one part per device."""
        return self._loader("train", self._training_batches(self.trainer.current_epoch if self.trainer else 0))

    def training_steps(self, epochs: int, accumulate: int = 1) -> int:
        """Return how many optimizer steps ``epochs`` epochs have, each of ``accumulate`` batches or what is left of an epoch."""
        return sum(-(-len(self._training_batches(epoch)) // accumulate) for epoch in range(epochs))

    def _training_batches(self, epoch: int) -> LengthGroupedBatches:
        lengths = self.splits["train"].tokens.lengths
        size = self.batch_size or len(lengths)
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        return LengthGroupedBatches(
            lengths, size, self.seed, *self._place(), batch_tokens=self.batch_tokens, epoch=epoch, accumulate=accumulate
        )

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the validation split sorted by length, every sentence on exactly one device."""
        return self.scoring_dataloader("validation", *self._place())

    def scoring_dataloader(self, split: str, rank: int = 0, devices: int = 1) -> DataLoader[dict[str, Any]]:
        """Return a split sorted by length for a pass without gradient; batches carry their row ``index``."""
        size = SCORING_TOKENS if self.splits[split].features is None else None
        return self._loader(split, SortedBatches(self.splits[split].tokens.lengths, size, rank, devices))

    def scoring_batches(self, split: str, device: torch.device, rank: int = 0, devices: int = 1) -> Iterator[dict[str, Any]]:
        """Yield the batches of :meth:`scoring_dataloader` on ``device``."""
        for batch in self.scoring_dataloader(split, rank, devices):
            yield {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}

    def _loader(self, split: str, sampler: Sampler[BatchRows]) -> DataLoader[dict[str, Any]]:
        # Batches come whole from the sampler, so Lightning finds (and calls) the sampler's set_epoch.
        return DataLoader(self.splits[split], batch_size=None, sampler=sampler, pin_memory=torch.cuda.is_available())

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
