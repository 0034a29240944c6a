"""What a run costs, by formula: floating-point operations, and the bytes of what is kept.

Per token, a block of width d with a feed-forward part of width f multiplies and adds 4 d² (queries, keys, values, output) +
2 d f (feed-forward) + 2 s d (scores and context) numbers, where s is the sentence's length with its padding; each counts as two
operations. Going backward costs the blocks that train twice their forward pass: once for the gradient of what entered them, and
once for that of their weights. Embeddings, normalisation, the head and the optimizer are left out: they are hardly any products.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

BYTES = {"fp32": 4, "fp16": 2}
KEY_BYTES = 16 + 8  # of every sentence in the cache: its hash, and where its rows begin


@dataclass(frozen=True)
class Shape:
    """What of an encoder decides how much it computes.

    Attributes:
        blocks: ``L``.
        width: ``d``, of the hidden states.
        feed_forward: ``f``; of gated ones, which have three matrices in place of two, one and a half times their own width.
    """

    blocks: int
    width: int
    feed_forward: int


def forward(shape: Shape, blocks: int, lengths: ArrayLike) -> float:
    """Return the FLOPs of ``blocks`` blocks over sentences of these lengths (tokens, padding counted; any shape of array)."""
    s = np.asarray(lengths, dtype=np.float64)
    per_token = 4 * shape.width**2 + 2 * shape.width * shape.feed_forward + 2 * s * shape.width
    return float(2 * blocks * (s * per_token).sum())


@dataclass(frozen=True)
class Flops:
    """The FLOPs of one run.

    Attributes:
        steps: forward passes of training.
        backward: backward passes of training.
        scoring: validation after every epoch, and the splits that are scored at the end.
    """

    steps: float
    backward: float
    scoring: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.steps + self.backward + self.scoring


def run_flops(
    shape: Shape,
    depths: Sequence[int],
    train: float,
    validation: float,
    final: float,
    cached: int = 0,
    trains_weights: bool = True,
) -> Flops:
    """Return the FLOPs of a run, beside those of computing what is cached.

    Args:
        shape: of the encoder.
        depths: the frozen depth in every epoch: all the same, but for a gradual thaw. L for a probe.
        train: FLOPs of one block over the training sentences, as :func:`forward` says.
        validation: the same over the validation sentences, scored after every epoch.
        final: the same over the sentences that are scored at the end.
        cached: how many blocks are never computed, because the cache has their output.
        trains_weights: false where matrices stay as they are (low-rank updates, biases): going backward then costs as much as
            forward.
    """
    alive = shape.blocks - cached
    backward = sum(shape.blocks - depth for depth in depths) * (2 if trains_weights else 1)
    return Flops(len(depths) * alive * train, backward * train, alive * (len(depths) * validation + final))


def speed_up(blocks: int, depth: int) -> float:
    """Return how many times faster a training step is with ``depth`` frozen blocks: 3L / (3L - 2d)."""
    return 3 * blocks / (3 * blocks - 2 * depth)


def speed_up_cached(blocks: int, depth: int, epochs: int) -> float:
    """Return how many times faster all training is if frozen blocks are computed once: 3LE / (d + 3(L - d)E).

    Args:
        blocks: L.
        depth: d, of the frozen blocks.
        epochs: E; for runs that share what is cached, the epochs of all of them together.
    """
    return 3 * blocks * epochs / (depth + 3 * (blocks - depth) * epochs)


def states_bytes(sentences: int, tokens: int, width: int, dtype: str) -> int:
    """Return the bytes of the states that enter one block: a row a token."""
    return tokens * width * BYTES[dtype] + sentences * KEY_BYTES


def pooled_bytes(sentences: int, blocks: int, width: int, dtype: str) -> int:
    """Return the bytes of pooled states of all layers, 0 … L, by one pooling: a row a sentence and layer."""
    return sentences * ((blocks + 1) * width * BYTES[dtype] + KEY_BYTES)


def weights_bytes(total: int, trained: int) -> int:
    """Return the bytes that parameters take in training in float32, activations left out.

    All parameters, and of those that train also the pretrained values, a gradient, AdamW's two means and the best epoch's.
    """
    return 4 * total + 5 * 4 * trained
