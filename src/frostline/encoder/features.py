"""What a frozen encoder says of every sentence: pooled states of its layers, in one pass without gradient."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from frostline.encoder.pool import pool
from frostline.encoder.split import all_states


def pooled_features(
    model: PreTrainedModel, batches: Iterable[dict[str, Any]], sentences: int, pooling: str, layers: list[int]
) -> Tensor:
    """Return the pooled hidden states of several layers from one pass over the texts.

    Args:
        model: the whole pretrained encoder; put into eval mode here, so that no dropout is active.
        batches: token ids and masks ``[batch, tokens]`` with the row ``index`` ``[batch]``, in any order.
        sentences: how many rows there are in all.
        pooling: as in :func:`frostline.encoder.pool.pool`.
        layers: which layers, of 0 (embeddings) … L (the last block).

    Returns:
        ``[len(layers), sentences, width]``, float32, on the CPU, rows in the order of their index.
    """
    model.eval()
    features = torch.empty(len(layers), sentences, model.config.hidden_size)
    with torch.inference_mode():
        for batch in batches:
            states = all_states(model, batch)
            for i, layer in enumerate(layers):
                features[i, batch["index"].cpu()] = pool(states[layer], batch["attention_mask"], pooling).float().cpu()
    return features


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which a pass has the same precision as Lightning's ``precision`` has in training."""
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
