"""Forward passes beside the best matrix products of this machine, in turn in one process.

Each side has a process of its own: Frostline may switch what computes products for its whole process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoTokenizer

import workload
from settings import BATCH_SIZE, MAX_LENGTH

ROWS, PASSES, TRIES = 900, 10, 5
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


def hf(sentences: str, precision: str, repeats: int) -> dict[str, list[float]]:
    """Pass the validation sentences through the model as they come, in batches padded to the longest of each."""
    data = workload.read(sentences)
    model = AutoModel.from_pretrained(data.model, dtype=DTYPES[precision]).eval()
    tokenizer = AutoTokenizer.from_pretrained(data.model)
    ids = tokenizer(data.validation.texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]

    def encode() -> None:
        with torch.inference_mode():
            for start in range(0, len(ids), BATCH_SIZE):
                model(**tokenizer.pad({"input_ids": ids[start : start + BATCH_SIZE]}, return_tensors="pt"))

    return in_turn(encode, model.config, list(map(len, ids)), precision, repeats)


def frostline(words: list[str], precision: str, repeats: int) -> dict[str, list[float]]:
    """Let Frostline compute the features of the same sentences."""
    from frostline_side import Features

    features = Features([*words, f"trainer.precision={precision}"], splits=("validation",))
    features.tokenise(Path("tokens"))
    return in_turn(features.encode, features.pretrained.model.config, features.lengths, precision, repeats)


def in_turn(encode: Callable[[], Any], config: Any, lengths: list[int], precision: str, repeats: int) -> dict[str, list[float]]:
    """Return ``limit``, the FLOP/s of products, and ``reached`` by a pass, one value a repeat; the first round warms up."""
    found: dict[str, list[float]] = {"limit": [], "reached": []}
    for number in range(repeats + 1):
        values = {"limit": limit(DTYPES[precision], config.hidden_size, config.intermediate_size)}
        values["reached"] = flops(config, lengths) / seconds(encode)
        if number > 0:
            for name, value in values.items():
                found[name].append(value)
    return found


def flops(config: Any, lengths: list[int]) -> float:
    """Return the floating point operations of a pass over real tokens: the blocks' matrices, and attention."""
    width, inner = config.hidden_size, config.intermediate_size
    matrices, attention = 4 * width * width + 2 * width * inner, 4 * width
    return float(config.num_hidden_layers * (2 * matrices * sum(lengths) + attention * sum(n * n for n in lengths)))


def limit(dtype: torch.dtype, width: int, inner: int) -> float:
    """Return the FLOP/s of the feed-forward products, up and down: the best of several tries."""
    x, up, down = (
        torch.randn(ROWS, width, dtype=dtype),
        torch.randn(inner, width, dtype=dtype),
        torch.randn(width, inner, dtype=dtype),
    )

    def onednn(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")  # type: ignore[no-any-return]

    def passes(product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        for _ in range(PASSES):
            product(product(x, up), down)

    with torch.inference_mode():
        best = min(seconds(lambda p=product: passes(p)) for _ in range(TRIES) for product in (F.linear, onednn))
        return PASSES * 4 * ROWS * width * inner / best


def seconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
