"""Partial fine-tuning: embeddings and the lower blocks stay frozen, the blocks above and the head train."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from frostline.encoder.first_token import FEW_BLOCKS, only_first_token
from frostline.encoder.pool import pool
from frostline.encoder.split import SplitEncoder
from frostline.schema import OptimizerConfig, SchedulerConfig
from frostline.strategies.classifier import Classifier
from frostline.strategies.remedies import Remedies


class PartialClassifier(Classifier):
    """An encoder frozen up to a depth ``d``, with a linear head; of the blocks above, all trains that the encoder says so of.

    Args:
        encoder: the pretrained encoder, split at ``d``.
        pooling: as in :func:`frostline.encoder.pool.pool`.
        classes: how many.
        optimizer: how to update what trains.
        scheduler: how the learning rate changes.
        seed: the run's seed.
        reads_all: the states of all tokens are wanted, even where the pooling reads only one.
    """

    def __init__(
        self,
        encoder: SplitEncoder,
        pooling: str,
        classes: int,
        optimizer: OptimizerConfig,
        scheduler: SchedulerConfig,
        seed: int,
        reads_all: bool = False,
    ):
        super().__init__(encoder.width, classes, optimizer, scheduler, seed)
        self.encoder, self.pooling = encoder, pooling
        self.remedies: Remedies | None = None
        if pooling == "cls" and not reads_all and encoder.suffix is not None and encoder.blocks - encoder.depth <= FEW_BLOCKS:
            only_first_token(encoder.suffix)

    def represent(self, batch: dict[str, Any]) -> Tensor:
        """Return the pooled last hidden states, ``[batch, width]``, of ``features``, ``states`` or token ids."""
        if "features" in batch:
            features: Tensor = batch["features"]
            return features
        states = batch["states"] if "states" in batch else self.encoder.frozen_states(batch)
        return pool(self.encoder.upper(states, batch["attention_mask"]), batch["attention_mask"], self.pooling)

    def trained_below(self) -> list[tuple[str, nn.Parameter, int]]:
        """Return name, tensor and height of the parameters above the frozen depth."""
        names = [(name, self.encoder.pretrained_name(name), p) for name, p in self.encoder.trained_parameters()]
        return [(pretrained, p, self.encoder.height(name)) for name, pretrained, p in names]

    def loss(self, batch: dict[str, Any]) -> Tensor:
        """Return what is minimised, with what the chosen remedies make of it."""
        return super().loss(batch) if self.remedies is None else self.remedies.loss(self, batch)
