"""Weight averaging: the mean of the weights of the last steps is what is validated, kept and tested."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor


class AverageWeights(Callback):
    """Stochastic weight averaging (Izmailov et al. 2018): the running mean over the last steps, in place during validation.

    It must stand behind the callback that keeps the best weights: that one sees the mean.

    Args:
        last_share: of all optimizer steps.
        steps: how many there are.

    Attributes:
        mean: so far, by name in the module; empty before the last steps begin.
        count: of how many steps.
    """

    def __init__(self, last_share: float, steps: int):
        self.first, self.count = steps - round(last_share * steps), 0
        self.mean: dict[str, Tensor] = {}
        self._own: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Add the weights after an optimizer step."""
        if trainer.global_step - self.first < self.count + 1:  # too early, or no step since the last batch
            return
        self.count += 1
        for name, weight in _trained(pl_module).items():
            if name in self.mean:
                before = self.mean[name].to(weight.device)  # a checkpoint's is on the CPU
                self.mean[name] = before.lerp(weight, 1 / self.count)
            else:
                self.mean[name] = weight.clone()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the mean in place."""
        if self.count:
            self._own = {name: weight.clone() for name, weight in _trained(pl_module).items()}
            _put(pl_module, self.mean)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights that go on training back."""
        _put(pl_module, self._own)
        self._own = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"count": self.count, "mean": dict(self.mean)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the mean so far from a checkpoint."""
        self.count, self.mean = state_dict["count"], state_dict["mean"]


def _trained(module: LightningModule) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}


def _put(module: LightningModule, weights: dict[str, Tensor]) -> None:
    own = dict(module.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)
