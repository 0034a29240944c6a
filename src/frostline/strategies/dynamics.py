"""Training dynamics: how sure the model is of every training sentence's label, epoch by epoch (Swayamdipta et al. 2020)."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import Tensor

from frostline.data.module import SentenceModule
from frostline.errors import FrostlineError
from frostline.strategies.classifier import Classifier
from frostline.strategies.predict import predict
from frostline.strategies.trainer import Resume

ENOUGH = 5  # epochs: a standard deviation over fewer says little
GAP = (
    "callbacks.dynamics needs every epoch, but those in ckpt_path were trained without it or on other sentences; leave ckpt_path "
    "out, or callbacks.dynamics."
)
log = logging.getLogger(__name__)


class TrainingDynamics(Callback):
    """Scores the training split after every epoch, without dropout, with the weights that are validated.

    Several devices share the split. What it finds is part of the checkpoint, so a resumed run has all epochs. It must stand
    before a callback that exchanges weights for validation.

    Args:
        datamodule: the sentences, or what a frozen part has made of them.
        precision: of the products.
        clock: of the training time, which this is no part of.

    Attributes:
        probabilities: of each sentence's label, an entry an epoch, ``[sentences]``, float64.
        is_right: whether the label was the most probable one, an entry an epoch, ``[sentences]``, bool.
    """

    def __init__(self, datamodule: SentenceModule, precision: str, clock: Resume):
        self.datamodule, self.precision, self.clock = datamodule, precision, clock
        self.probabilities: list[Tensor] = []
        self.is_right: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Warn of few epochs.

        Raises:
            FrostlineError: training goes on from a checkpoint that lacks this of earlier epochs, or of these sentences.
        """
        sizes = {len(epoch) for epoch in self.probabilities} - {len(self.datamodule.splits["train"])}
        if sizes or len(self.probabilities) != trainer.current_epoch:
            raise FrostlineError(GAP)
        if trainer.is_global_zero and (trainer.max_epochs or 0) < ENOUGH:
            log.warning(
                "callbacks.dynamics rests on %s epochs; with fewer than %d the map is rough (trainer.max_epochs).",
                trainer.max_epochs,
                ENOUGH,
            )

    def on_validation_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Score the training split, each sentence on one device."""
        with self.clock.stopped():
            place = trainer.global_rank, trainer.world_size
            logits = torch.from_numpy(predict(pl_module, self.datamodule, "train", pl_module.device, self.precision, *place))
            if pl_module.is_distributed:  # a device's rows are 0 on all others
                logits = trainer.strategy.reduce(logits.to(pl_module.device), reduce_op="sum").cpu()
            labels = self.datamodule.splits["train"].labels
            self.probabilities.append(logits.softmax(dim=1).gather(1, labels[:, None])[:, 0].clone())
            self.is_right.append(logits.argmax(dim=1) == labels)

    def epochs(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return ``probabilities`` and ``is_right`` as ``[epochs, sentences]``.

        Raises:
            FrostlineError: there are none, for a checkpoint had nothing left to train.
        """
        if not self.probabilities:
            raise FrostlineError(GAP)
        return torch.stack(self.probabilities).numpy(), torch.stack(self.is_right).numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"probabilities": list(self.probabilities), "is_right": list(self.is_right)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the epochs so far from a checkpoint."""
        self.probabilities, self.is_right = state_dict["probabilities"], state_dict["is_right"]
