"""Gradual unfreezing: the head trains first, then one block after the other thaws from the top (Howard & Ruder 2018, 3.2).

What trains is a function of the epoch alone, so a resumed run needs nothing to be restored. ``requires_grad`` is never changed
(devices would not notice it of one another): a frozen parameter's gradient is dropped before the optimizer sees it, which leaves
it without update, decay and optimizer state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from frostline.encoder.families import family_of
from frostline.strategies.partial import PartialClassifier


class GradualClassifier(PartialClassifier):
    """An encoder that thaws from the top down to a depth, a block at a time.

    Args:
        args: as of :class:`PartialClassifier`; the encoder is split at the depth where the thaw ends, and the learning rate's
            schedule goes over all epochs.
        epochs_per_block: epochs until the next block thaws.
    """

    def __init__(self, *args: Any, epochs_per_block: int):
        super().__init__(*args)
        encoder = self.encoder
        self.epochs_per_block = epochs_per_block
        assert encoder.suffix is not None
        blocks = encoder.suffix.get_submodule(family_of(encoder.suffix.config.model_type).blocks)
        for number, block in enumerate(blocks.children(), encoder.depth):
            if number > encoder.depth:  # with the last block to thaw, all that is below it has thawed, too: the embeddings
                block.register_forward_pre_hook(self._cut(number), with_kwargs=True)

    def depth_at(self, epoch: int) -> int:
        """Return how many blocks are frozen in an epoch (from 0): L in the first ones, the encoder's depth in the last."""
        return max(self.encoder.depth, self.encoder.blocks - epoch // self.epochs_per_block)

    @property
    def depth_now(self) -> int:
        """The frozen depth of the current epoch."""
        return self.depth_at(self.current_epoch)

    def is_frozen(self, height: int) -> bool:
        """Whether a parameter with ``height`` blocks above its own is still frozen; the embeddings thaw with the first block."""
        return self.encoder.blocks - 1 - min(height, self.encoder.blocks - 1) < self.depth_now

    def represent(self, batch: dict[str, Any]) -> Tensor:
        """Return the pooled last hidden states, ``[batch, width]``; without a graph while all blocks are frozen."""
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and (self._needs_whole_graph or self.depth_now < self.encoder.blocks)
        ):
            return super().represent(batch)

    def train(self, mode: bool = True) -> GradualClassifier:
        """Set the mode of what trains; what is still frozen stays in eval mode, without dropout."""
        super().train(mode)
        if mode and self._trainer is not None:
            suffix = self.encoder.suffix
            assert suffix is not None
            if self.depth_now > self.encoder.depth:
                suffix.eval()
            blocks = suffix.get_submodule(family_of(suffix.config.model_type).blocks)
            for number, block in enumerate(blocks.children(), self.encoder.depth):
                block.train(number >= self.depth_now)
        return self

    def on_after_backward(self) -> None:
        """Drop the gradients of what is still frozen."""
        for _, parameter, height in self.trained_below():
            if self.is_frozen(height):
                parameter.grad = None

    @property
    def _needs_whole_graph(self) -> bool:
        """Several devices wait for the gradient of every parameter, also of those that are frozen now."""
        return self._trainer is not None and self.is_distributed

    def _cut(self, number: int) -> Any:
        """Return a hook that ends the backward pass at block ``number`` if that is the lowest thawed one."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if self._trainer is None or self._needs_whole_graph or number != self.depth_now:
                return args, kwargs
            if args:
                return (args[0].detach(), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": kwargs["hidden_states"].detach()}

        return hook
