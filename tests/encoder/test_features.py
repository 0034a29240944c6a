"""Features of a frozen encoder depend on the sentence alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frostline.encoder.features import autocast, pooled_features
from frostline.encoder.load import Pretrained, load_encoder
from frostline.encoder.pool import pool
from frostline.schema import PackagedModel

SENTENCES = [
    "Great!",
    "This is by far the longest of all these sentences, and it goes on, and on, and on, without ever saying anything.",
    "I would not buy it again.",
    "ok",
    "The plot was thin, but the acting saved it.",
    "Never again; it broke after two days and nobody answered my mails.",
    "Fine.",
]
LAYERS = [6, 0, 3]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors: threads only wait for one another, for seconds where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def minilm(cache_dir: Path) -> Pretrained:
    return load_encoder(PackagedModel("packaged", "mean", "minilm"), cache_dir)


def batches(minilm: Pretrained, rows: list[list[int]]) -> Iterator[dict[str, Any]]:
    for part in rows:
        encoded = minilm.tokenizer([SENTENCES[i] for i in part], padding=True, return_tensors="pt")
        yield dict(encoded) | {"index": torch.tensor(part), "labels": torch.zeros(len(part))}


def features(minilm: Pretrained, rows: list[list[int]], pooling: str = "mean", layers: list[int] = LAYERS) -> torch.Tensor:
    return pooled_features(minilm.model, batches(minilm, rows), len(SENTENCES), pooling, layers)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "last"])
def test_features_are_the_pooled_hidden_states_of_each_sentence_alone(minilm: Pretrained, pooling: str) -> None:
    found = features(minilm, [[3, 1], [6, 0, 2], [5, 4]], pooling)
    assert found.shape == (len(LAYERS), len(SENTENCES), 384)
    assert found.dtype == torch.float32
    for row, sentence in enumerate(SENTENCES):
        with torch.no_grad():
            encoded = minilm.tokenizer(sentence, return_tensors="pt")
            states = minilm.model(**encoded, output_hidden_states=True).hidden_states
        for i, layer in enumerate(LAYERS):
            expected = pool(states[layer], encoded["attention_mask"], pooling)[0]
            assert (found[i, row] - expected).abs().max() < 1e-5


def test_rows_are_in_index_order_and_do_not_depend_on_their_company(minilm: Pretrained) -> None:
    one_batch = features(minilm, [list(range(7))])
    random = np.random.default_rng(0)
    for size in (1, 2, 3, 5):
        order = random.permutation(7).tolist()
        other = features(minilm, [order[i : i + size] for i in range(0, 7, size)])
        assert (other - one_batch).abs().max() < 1e-5


def test_no_dropout_is_active_and_no_graph_is_kept(minilm: Pretrained) -> None:
    minilm.model.train()
    first = features(minilm, [list(range(7))])
    minilm.model.train()
    assert torch.equal(first, features(minilm, [list(range(7))]))
    assert not minilm.model.training
    assert not first.requires_grad
    assert not first.is_inference(), "a probe could not be trained on inference tensors"


def test_mixed_precision_features_are_close_and_not_equal(minilm: Pretrained) -> None:
    exact = features(minilm, [list(range(7))], layers=[6])
    with autocast("32-true", torch.device("cpu")):
        assert torch.equal(features(minilm, [list(range(7))], layers=[6]), exact)
    with autocast("bf16-mixed", torch.device("cpu")):
        mixed = features(minilm, [list(range(7))], layers=[6])
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - exact).abs().max() < 0.1
