"""Pooling against a computation sentence by sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.encoder.pool import pool

LENGTHS = (1, 5, 9, 2)
POOLINGS = ("cls", "mean", "max", "last")


def states_and_mask(seed: int = 0, padding: float = 0.0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    states = torch.randn(len(LENGTHS), max(LENGTHS), 6, generator=random) - 2  # negative: padding zeros would win the max
    return states.masked_fill(mask[..., None] == 0, padding), mask


def by_hand(states: Tensor, pooling: str) -> NDArray[np.float64]:
    rows = []
    for sentence, length in zip(states.double().numpy(), LENGTHS, strict=True):
        real = sentence[:length]
        rows.append({"cls": real[0], "mean": real.mean(axis=0), "max": real.max(axis=0), "last": real[-1]}[pooling])
    return np.stack(rows)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_equals_the_computation_by_hand(pooling: str) -> None:
    states, mask = states_and_mask()
    np.testing.assert_allclose(pool(states, mask, pooling).numpy(), by_hand(states, pooling), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", [1e4, float("inf"), float("nan")])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_has_no_influence(pooling: str, padding: float) -> None:
    states, mask = states_and_mask(padding=padding)
    clean, _ = states_and_mask()
    assert torch.equal(pool(states, mask, pooling), pool(clean, mask, pooling))
    wider = torch.cat([states, torch.full((len(LENGTHS), 3, 6), padding)], dim=1)
    wider_mask = torch.cat([mask, torch.zeros(len(LENGTHS), 3, dtype=torch.long)], dim=1)
    torch.testing.assert_close(pool(wider, wider_mask, pooling), pool(clean, mask, pooling))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradients_do_not_reach_padding(pooling: str) -> None:
    states, mask = states_and_mask()
    states.requires_grad_(True)
    pool(states, mask, pooling).square().sum().backward()
    assert states.grad is not None
    assert (states.grad[mask == 0] == 0).all()
    assert (states.grad.abs().sum(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_bfloat16_stays_bfloat16_and_close(pooling: str) -> None:
    states, mask = states_and_mask()
    low = states.bfloat16()
    pooled = pool(low, mask, pooling)
    assert pooled.dtype == torch.bfloat16
    np.testing.assert_allclose(pooled.double().numpy(), by_hand(low, pooling), rtol=2**-7)


def test_mean_of_many_bfloat16_tokens_keeps_the_precision_of_its_dtype() -> None:
    tokens = 509  # neither this count nor a running sum has a bfloat16 of its own
    states = (torch.randn(2, tokens, 4, generator=torch.Generator().manual_seed(0)) + 3).bfloat16()
    mask = torch.ones(2, tokens, dtype=torch.long)
    expected = states.double().mean(dim=1)
    np.testing.assert_allclose(pool(states, mask, "mean").double().numpy(), expected.numpy(), rtol=2**-6)


def test_an_unknown_pooling_is_an_error() -> None:
    with pytest.raises(ValueError, match="median"):
        pool(*states_and_mask(), "median")
