"""From token states to one vector a sentence."""

from __future__ import annotations

import torch
from torch import Tensor


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool token states over the real tokens of each sentence, special tokens included.

    Args:
        states: hidden states, ``[batch, tokens, width]``, floating point.
        mask: 1 for real tokens, 0 for padding on the right, ``[batch, tokens]``, integer.
        pooling: ``cls`` (the first token), ``mean``, ``max`` or ``last`` (the last real token).

    Returns:
        ``[batch, width]`` in the dtype of ``states``.

    Raises:
        ValueError: an unknown ``pooling``.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    real = mask.unsqueeze(-1).bool()
    if pooling == "mean":
        return states.masked_fill(~real, 0).sum(dim=1) / real.sum(dim=1).to(states.dtype)
    if pooling == "max":
        return states.masked_fill(~real, float("-inf")).amax(dim=1)
    raise ValueError(f"unknown pooling {pooling!r}")
