"""The formulas of what a run costs give the tabulated numbers, and what torch counts on a real encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from frostline.costs import (
    Shape,
    forward,
    pooled_bytes,
    run_flops,
    speed_up,
    speed_up_cached,
    states_bytes,
    weights_bytes,
)
from frostline.encoder.load import load_encoder
from frostline.encoder.outline import outline
from frostline.encoder.split import SplitEncoder
from frostline.schema import RandomModel

MINILM, BERT_BASE = Shape(6, 384, 1536), Shape(12, 768, 3072)


@pytest.mark.parametrize(
    ("shape", "tokens", "gflop"),
    [
        *((MINILM, 32, "0.69"), (MINILM, 64, "1.40"), (MINILM, 128, "2.87")),
        *((BERT_BASE, 32, "5.5"), (BERT_BASE, 64, "11.0"), (BERT_BASE, 128, "22.3")),
    ],
)
def test_a_sentence_costs_what_is_tabulated(shape: Shape, tokens: int, gflop: str) -> None:
    assert f"{forward(shape, shape.blocks, [tokens]) / 1e9:.{len(gflop.split('.')[1])}f}" == gflop


@pytest.mark.parametrize(
    ("epochs", "tabulated"),
    [
        (None, ["1.12", "1.29", "1.50", "1.80", "2.25", "3.00"]),
        (3, ["1.17", "1.42", "1.80", "2.45", "3.86", "9.00"]),
        (10, ["1.19", "1.48", "1.94", "2.81", "5.14", "30.00"]),
    ],
)
def test_speed_ups_are_those_tabulated_and_those_of_the_operations(epochs: int | None, tabulated: list[str]) -> None:
    for depth, gain in enumerate(tabulated, 1):
        formula = speed_up(6, depth) if epochs is None else speed_up_cached(6, depth, epochs)
        assert f"{formula:.2f}" == gain
        unit = forward(MINILM, 1, [20, 30])
        full, frozen = (run_flops(MINILM, [d] * (epochs or 1), unit, 0, 0, cached=c).total for d, c in ((0, 0), (depth, 0)))
        if epochs is not None:
            frozen = run_flops(MINILM, [depth] * epochs, unit, 0, 0, cached=depth).total + depth * unit
        assert full / frozen == pytest.approx(formula)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "gpt2"])
def test_torch_counts_the_same(family: str) -> None:
    """Of products in all blocks; going backward, nothing asks for the gradient of what entered the lowest trained block."""
    config = RandomModel("random", "mean", "tiny", family, 4, 32, 4, 0)
    model, shape = load_encoder(config, Path("no-cache")).model, outline(config, Path("no-cache")).shape
    model.set_attn_implementation("eager")
    ids = torch.randint(10, 60, (3, 17))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    lengths = [17] * 3
    for depth in (0, 2):
        encoder = SplitEncoder(model, depth).train()
        with FlopCounterMode(display=False) as counter:
            states = encoder(batch)
        assert counter.get_total_flops() == forward(shape, 4, lengths)
        with FlopCounterMode(display=False) as counter:
            states.sum().backward()
        has_norm_first = family in ("modernbert", "gpt2")  # whose weights train, so that what leaves it needs its gradient
        spared = 0 if depth == 0 or has_norm_first else 2 * 51 * 3 * 32**2
        assert counter.get_total_flops() == 2 * forward(shape, 4 - depth, lengths) - spared


def test_low_rank_updates_spare_the_gradients_of_matrices() -> None:
    whole, low = (run_flops(MINILM, [0], 1, 1, 1, trains_weights=trains) for trains in (True, False))
    assert (whole.backward, low.backward) == (12, 6)
    assert whole.steps == low.steps == 6 and whole.scoring == 12


def test_a_gradual_thaw_goes_backward_through_what_has_thawed() -> None:
    assert run_flops(MINILM, [6, 5, 4], 1, 0, 0).backward == 2 * (0 + 1 + 2)


def test_the_cache_takes_the_bytes_tabulated() -> None:
    """10,000 sentences of 32 tokens: 491 MB, half in fp16; 15 MB for one layer's pooled states, beside their keys."""
    assert round(states_bytes(10_000, 320_000, 384, "fp32") / 1e6) == 492
    assert round(states_bytes(10_000, 320_000, 384, "fp16") / 1e6) == 246
    assert round(pooled_bytes(10_000, 0, 384, "fp32") / 1e6) == 16
    assert weights_bytes(10, 3) == 4 * 10 + 20 * 3
