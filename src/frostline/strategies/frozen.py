"""Feature extraction: the whole encoder stays frozen, a linear probe is trained on one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from frostline.encoder.pool import pool
from frostline.encoder.split import all_states
from frostline.schema import Lbfgs, OptimizerConfig, SchedulerConfig
from frostline.strategies.classifier import Classifier
from frostline.strategies.erasure import Eraser, fold
from frostline.strategies.probe import penalty

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class FrozenClassifier(Classifier):
    """A linear probe on the pooled states of one layer of a frozen encoder.

    Batches hold the sentences' ``features``, computed once before training; given token ids instead, the encoder computes
    them on the way.

    Args:
        model: the whole pretrained encoder.
        layer: which layer, 0 (embeddings) … L (the last block).
        pooling: as in :func:`frostline.encoder.pool.pool`.
        classes: how many.
        optimizer: how to train the probe. With L-BFGS it is the exact logistic regression, in float64.
        scheduler: how the learning rate changes.
        seed: the run's seed.
        C: inverse strength of the L2 penalty under L-BFGS.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        model: PreTrainedModel,
        layer: int,
        pooling: str,
        classes: int,
        optimizer: OptimizerConfig,
        scheduler: SchedulerConfig,
        seed: int,
        C: float | None = None,
    ):
        super().__init__(model.config.hidden_size, classes, optimizer, scheduler, seed)
        self.encoder = model.requires_grad_(False).eval()
        self.layer, self.pooling, self.C = layer, pooling, C
        self.eraser: Eraser | None = None  # what took a concept out of the features that it is given
        self.register_buffer("mean", torch.zeros(model.config.hidden_size))
        self.register_buffer("scale", torch.ones(model.config.hidden_size))
        if C is not None:
            self.head.double()
            self.mean, self.scale = self.mean.double(), self.scale.double()

    def standardize(self, mean: Tensor, scale: Tensor) -> None:
        """Scale every feature by a mean and a standard deviation, each ``[width]``."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def represent(self, batch: dict[str, Any]) -> Tensor:
        """Return the standardised features, ``[batch, width]``."""
        features = batch["features"] if "features" in batch else self._features(batch)
        return (features.to(self.mean.dtype) - self.mean) / self.scale

    def training_loss(self, logits: Tensor, batch: dict[str, Any]) -> Tensor:
        """Return the mean cross-entropy, under L-BFGS with the L2 penalty of the logistic regression."""
        if self.C is None:
            return super().training_loss(logits, batch)
        return F.cross_entropy(logits, batch["labels"]) + penalty(self.head.weight, self.C, len(logits))

    def on_train_epoch_end(self) -> None:
        """End training once L-BFGS has stopped before its last allowed iteration: it has converged."""
        super().on_train_epoch_end()
        if isinstance(self.optimizer_config, Lbfgs):
            optimizer = self.trainer.optimizers[0]
            iterations = optimizer.state[self.head.weight]["n_iter"]
            self.trainer.should_stop |= iterations < (self.current_epoch + 1) * optimizer.param_groups[0]["max_iter"]

    def train(self, mode: bool = True) -> FrozenClassifier:
        """Set the head's mode; the encoder stays in eval mode whatever is asked."""
        super().train(mode)
        self.encoder.eval()
        return self

    def trained_state(self) -> dict[str, Tensor]:
        """Return the head and what standardises its features; where a concept was erased from these, folded into the head."""
        state = super().trained_state() | {"mean": self.mean, "scale": self.scale}
        if self.eraser is None:
            return state
        return state | fold(self.head.weight, self.head.bias, self.mean, self.scale, self.eraser)

    def _features(self, batch: dict[str, Any]) -> Tensor:
        with torch.inference_mode():
            features = pool(all_states(self.encoder, batch)[self.layer], batch["attention_mask"], self.pooling)
        return features.clone()
