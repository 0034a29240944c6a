"""A pass without gradient over sentences of any length: no padding, batches of one length."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from frostline.data.tokens import Tokens
from frostline.encoder.load import Pretrained
from frostline.encoder.products import autocast
from frostline.encoder.split import lower_states, prefix_of

PASS_TOKENS = 1024  # a batch; larger ones leave the processor's cache
LEAST_TOKENS = 16  # products of fewer rows are summed in another order

Key = TypeVar("Key")


def encode(
    pretrained: Pretrained,
    sentences: Mapping[Key, tuple[Tokens, int]],
    depth: int,
    precision: str,
    device: torch.device,
    show_progress: bool = False,
) -> Iterator[tuple[list[Key], tuple[Tensor, ...]]]:
    """Yield batches of sentences of one length: their keys and the states of layers 0 … ``depth``.

    The encoder is in eval mode under ``torch.inference_mode()``. What a sentence's states are depends on the sentence alone.

    Args:
        pretrained: the encoder.
        sentences: by whatever key, the tokens of a split and the sentence's row in it.
        depth: the last layer that is wanted, 0 (embeddings) … L.
        precision: of the pass: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        device: where the pass runs.
        show_progress: show a bar.

    Yields:
        keys, and ``depth + 1`` tensors ``[len(keys), tokens, width]`` without padding.
    """
    batches = batches_of(sentences)
    prefix = prefix_of(pretrained.model, depth).to(device).eval()
    console = Console(stderr=True)
    shown = show_progress and sys.stderr.isatty()
    with torch.inference_mode(), autocast(precision, device):
        for keys in track(batches, "Encoding", console=console, transient=True, disable=not shown):
            columns = [tokens.pad([row]) for tokens, row in (sentences[key] for key in keys)]
            columns *= -(-LEAST_TOKENS // (len(keys) * len(columns[0]["input_ids"][0])))
            names = columns[0].keys() - {"attention_mask"}  # nothing is padded, so nothing is masked
            batch = {name: torch.cat([column[name] for column in columns]).to(device) for name in names}
            yield keys, tuple(layer[: len(keys)] for layer in lower_states(prefix, batch, depth))


def batches_of(sentences: Mapping[Key, tuple[Tokens, int]]) -> list[list[Key]]:
    """Return the keys in batches of one length, the longest first."""
    by_length: dict[int, list[Key]] = defaultdict(list)
    for key, sentence in sentences.items():
        by_length[length_of(sentence)].append(key)
    batches = []
    for length in sorted(by_length, reverse=True):
        size, keys = max(1, PASS_TOKENS // length), by_length[length]
        batches += [keys[i : i + size] for i in range(0, len(keys), size)]
    return batches


def length_of(sentence: tuple[Tokens, int]) -> int:
    """Return how many tokens a sentence has."""
    tokens, row = sentence
    return int(tokens.offsets[row + 1] - tokens.offsets[row])
