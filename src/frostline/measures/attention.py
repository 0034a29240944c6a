"""What training did to attention: how broad every head's attention is, and how far it moved."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.data.tokens import Tokens
from frostline.encoder.split import prefix_of
from frostline.errors import FrostlineError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PASS_TOKENS = 1024  # a batch


@dataclass(frozen=True)
class AttentionChange:
    """Means over the tokens of all sentences, each ``[layers, heads]``, float64.

    Attributes:
        entropy_before: normalised entropy of a token's attention, 0 (one token gets all) … 1 (all get the same).
        entropy_after: likewise.
        divergence: Jensen-Shannon divergence between a token's attention before and after, 0 … ln 2 nats.
    """

    entropy_before: NDArray[np.float64]
    entropy_after: NDArray[np.float64]
    divergence: NDArray[np.float64]


def compare_attention(before: PreTrainedModel, after: PreTrainedModel, tokens: Tokens, rows: list[int]) -> AttentionChange:
    """Compare the attention of two encoders of one architecture on the same sentences.

    A token's entropy is ``-sum_j a_j ln a_j / ln s`` over the ``s`` tokens of its sentence; a sentence of one token leaves
    attention no choice and is left out. The divergence of two rows is ``H((p + q) / 2) - (H(p) + H(q)) / 2`` (Clark et al. 2019
    compare heads by it). Null: 0, exactly, for equal weights; there is none for entropy.

    Sentences of one length are passed together, without padding, in eval mode and with eager attention, the one that tells its
    weights. The models passed in stay as they are.

    Args:
        before: a bare transformers encoder.
        after: another one with as many layers and heads.
        tokens: of a split.
        rows: which of its sentences.

    Raises:
        FrostlineError: the encoders return no attention maps, or no sentence has two tokens.
        ValueError: the encoders differ in layers or heads.
    """
    shapes = [(model.config.num_hidden_layers, model.config.num_attention_heads) for model in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"expected encoders of equal layers and heads, but they have {shapes[0]} and {shapes[1]}")
    models = [_with_maps(model) for model in (before, after)]
    sums = torch.zeros(shapes[0][0], 3, shapes[0][1], dtype=torch.float64)
    total = 0
    with torch.inference_mode():
        for batch in _batches(tokens, rows):
            first, second = (_maps(model, batch) for model in models)
            sums += torch.stack([_compare(p.double(), q.double()) for p, q in zip(first, second, strict=True)]).cpu()
            total += batch["input_ids"].numel()
    if not total:
        raise FrostlineError("No sentence here has two tokens, so there is no attention to compare: choose other sentences.")
    return AttentionChange(*(sums / total).numpy().transpose(1, 0, 2))


def _with_maps(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy that shares all tensors, in eval mode, whose attention tells its weights."""
    copied = prefix_of(model, model.config.num_hidden_layers).eval()
    copied.set_attn_implementation("eager")
    return copied


def _batches(tokens: Tokens, rows: list[int]) -> list[dict[str, Tensor]]:
    """Return batches of sentences of one length, ``[batch, tokens]`` each: nothing is padded, so nothing is masked."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        by_length[int(tokens.lengths[row])].append(row)
    batches = []
    for length in sorted(by_length.keys() - {0, 1}):
        size, alike = max(1, PASS_TOKENS // length), by_length[length]
        batches += [tokens.pad(alike[i : i + size]) for i in range(0, len(alike), size)]
    return [{name: ids for name, ids in batch.items() if name != "attention_mask"} for batch in batches]


def _maps(model: PreTrainedModel, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Return every layer's attention, ``[batch, heads, tokens, tokens]``; rows sum to 1."""
    output = model(**{name: ids.to(model.device) for name, ids in batch.items()}, output_attentions=True)
    maps: tuple[Tensor, ...] = output.get("attentions") or ()
    if len(maps) != model.config.num_hidden_layers or any(layer is None for layer in maps):
        raise FrostlineError(
            f"Encoders of type '{model.config.model_type}' return no attention maps, so attention cannot be compared: leave "
            "this measure out."
        )
    return maps


def _compare(p: Tensor, q: Tensor) -> Tensor:
    """Return the sums over a batch's tokens of both entropies and the divergence, ``[3, heads]``."""
    before, after, middle = (torch.special.entr(a).sum(dim=-1) for a in (p, q, (p + q) / 2))  # [batch, heads, tokens]
    divergence = (middle - (before + after) / 2).clamp(min=0)  # rounding may leave it just below 0
    most = math.log(p.shape[-1])
    return torch.stack([before / most, after / most, divergence]).sum(dim=(1, 3))
