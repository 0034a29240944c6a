"""Runs that a search gives up: after every epoch it is told how the run stands, and says whether to go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from frostline.errors import PrunedError

Report: TypeAlias = Callable[[float, int], bool]  # the monitored metric, the epoch (from 0) -> whether to give the run up


class Pruning(Callback):
    """Reports a validation metric after every epoch, and ends the run if it is given up.

    Args:
        monitor: the metric, such as ``val/accuracy``.
        report: is told its value and the epoch.
    """

    def __init__(self, monitor: str, report: Report):
        self.monitor, self.report = monitor, report

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report; after the last epoch there is nothing left to save.

        Raises:
            PrunedError: the run is given up.
        """
        value, epochs = trainer.callback_metrics[self.monitor].item(), trainer.current_epoch + 1
        given_up = self.report(value, trainer.current_epoch)
        if given_up and epochs < (trainer.max_epochs or 0):
            raise PrunedError(f"pruned after epoch {epochs} of {trainer.max_epochs}, with {self.monitor} {value:.4f}")
