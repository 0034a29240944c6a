"""What a batch says of a sentence is true of that sentence."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from frostline.data.module import SCORING_TOKENS, SentenceModule
from frostline.data.sentences import LabelledData
from frostline.encoder.load import Pretrained, load_encoder
from frostline.schema import RandomModel

SIZES = {"train": 150, "validation": 70, "test": 3}


def sentence(split: str, row: int) -> str:
    """Different for every row, and its label can be told from it."""
    return f"{split} {row} " + "ab" * (row * 7 % 13)


def label(row: int) -> int:
    return row * row % 3


@pytest.fixture(scope="module")
def encoder() -> Pretrained:
    return load_encoder(RandomModel("random", "mean", "tiny", "bert", 1, 8, 2, 0), Path("no-cache"))


def build(
    encoder: Pretrained,
    cache: Path,
    batch_size: int | None = 16,
    seed: int = 0,
    max_length: int = 40,
    batch_tokens: int | None = None,
) -> SentenceModule:
    splits = {
        name: datasets.Dataset.from_dict(
            {"text": [sentence(name, row) for row in range(size)], "label": [label(row) for row in range(size)]}
        )
        for name, size in SIZES.items()
    }
    data = LabelledData(splits, ["a", "b", "c"], {}, {name: f"hash of {name}" for name in splits})
    return SentenceModule(data, encoder.tokenizer, encoder.tokenizer_hash, max_length, batch_size, seed, cache, batch_tokens)


@pytest.fixture
def module(encoder: Pretrained, tmp_path: Path) -> SentenceModule:
    return build(encoder, tmp_path)


def loaders(module: SentenceModule) -> dict[str, Any]:
    return {"train": module.train_dataloader(), "validation": module.val_dataloader(), "test": module.scoring_dataloader("test")}


@pytest.mark.parametrize("split", SIZES)
def test_labels_and_index_belong_to_the_tokens(module: SentenceModule, encoder: Pretrained, split: str) -> None:
    seen: Counter[int] = Counter()
    for batch in loaders(module)[split]:
        assert len(batch["input_ids"]) == len(batch["labels"]) == len(batch["index"]) == batch["total"]
        for ids, mask, y, row in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], batch["index"], strict=True):
            expected = encoder.tokenizer(sentence(split, int(row)), truncation=True, max_length=40)["input_ids"]
            assert ids[mask.bool()].tolist() == expected
            assert y == label(int(row))
            seen[int(row)] += 1
    assert seen == Counter(range(SIZES[split]))


@pytest.mark.parametrize("split", SIZES)
def test_features_replace_the_tokens_and_belong_to_the_same_rows(module: SentenceModule, split: str) -> None:
    with_tokens = [batch["index"].tolist() for batch in loaders(module)[split]]
    features = torch.randn(SIZES[split], 5)
    module.splits[split].features = features
    batches = list(loaders(module)[split])
    for batch in batches:
        assert batch.keys() == {"features", "labels", "index", "total"}
        assert torch.equal(batch["features"], features[batch["index"]])
        assert batch["labels"].tolist() == [label(int(row)) for row in batch["index"]]
    rows = [batch["index"].tolist() for batch in batches]
    if split == "train":
        assert rows == with_tokens, "the same batches, so that both ways train alike"
    else:
        assert len(rows) == 1
        assert sorted(rows[0]) == list(range(SIZES[split]))


def test_batch_sizes_are_as_asked(encoder: Pretrained, tmp_path: Path) -> None:
    assert [len(b["index"]) for b in build(encoder, tmp_path, None).train_dataloader()] == [SIZES["train"]]
    assert sorted(len(b["index"]) for b in build(encoder, tmp_path, 16).train_dataloader()) == [6, *[16] * 9]
    module = build(encoder, tmp_path, 1000)
    assert [len(b["index"]) for b in module.train_dataloader()] == [SIZES["train"]]
    sizes = [tuple(batch["input_ids"].shape) for batch in module.val_dataloader()]
    assert len(sizes) > 1
    assert all(rows * tokens <= SCORING_TOKENS for rows, tokens in sizes)
    assert all((rows + 1) * tokens > SCORING_TOKENS for rows, tokens in sizes[:-1]), "one more would have fitted"


def test_a_budget_of_tokens_replaces_the_batch_size(encoder: Pretrained, tmp_path: Path) -> None:
    module = build(encoder, tmp_path, batch_size=2, batch_tokens=200)
    batches = list(module.train_dataloader())
    assert all(batch["input_ids"].numel() <= 200 for batch in batches)
    assert max(len(batch["index"]) for batch in batches) > 2
    assert Counter(int(row) for batch in batches for row in batch["index"]) == Counter(range(SIZES["train"]))


@pytest.mark.parametrize("batch_tokens", [None, 40, 2000])
def test_steps_are_counted_as_they_will_come(encoder: Pretrained, tmp_path: Path, batch_tokens: int | None) -> None:
    module = build(encoder, tmp_path, batch_tokens=batch_tokens)
    counts = []
    for epoch in range(6):
        module.trainer = SimpleNamespace(current_epoch=epoch, global_rank=0, world_size=1, accumulate_grad_batches=1)  # type: ignore[assignment]
        counts.append(len(list(module.train_dataloader())))
        assert len(module.train_dataloader()) == counts[-1]
    if batch_tokens == 40:
        assert len(set(counts)) > 1, "the number of batches varies, so that one epoch's says nothing of another's"
    assert [module.training_steps(epochs) for epochs in range(7)] == np.cumsum([0, *counts]).tolist()


def test_states_replace_the_tokens_and_belong_to_the_same_rows(module: SentenceModule) -> None:
    with_tokens = list(module.train_dataloader())
    module.splits["train"].states = Numbered()
    for batch, before in zip(module.train_dataloader(), with_tokens, strict=True):
        assert batch.keys() == {"states", "attention_mask", "labels", "index", "total"}
        assert torch.equal(batch["index"], before["index"])
        assert torch.equal(batch["states"][:, 0, 0], batch["index"].float())


class Numbered:
    """States that are the number of their row."""

    def pad(self, rows: list[int]) -> dict[str, torch.Tensor]:
        return {"states": torch.tensor(rows).float()[:, None, None], "attention_mask": torch.ones(len(rows), 1)}


def test_the_seed_changes_the_training_order_only(encoder: Pretrained, tmp_path: Path) -> None:
    first, again, other = (build(encoder, tmp_path, seed=seed) for seed in (0, 0, 1))

    def rows(module: SentenceModule, split: str) -> list[list[int]]:
        return [batch["index"].tolist() for batch in loaders(module)[split]]

    assert rows(first, "train") == rows(again, "train") != rows(other, "train")
    assert rows(first, "validation") == rows(other, "validation")


def test_scoring_batches_come_sorted_by_length(module: SentenceModule) -> None:
    lengths = [batch["attention_mask"].sum(dim=1) for batch in module.scoring_batches("validation", torch.device("cpu"))]
    assert (torch.cat(lengths).diff() <= 0).all()


def test_labels_and_truncation_are_told_per_split(encoder: Pretrained, tmp_path: Path) -> None:
    module = build(encoder, tmp_path, max_length=20)
    for name, size in SIZES.items():
        assert module.labels(name).tolist() == [label(row) for row in range(size)]
        longer = sum(len(encoder.tokenizer(sentence(name, row))["input_ids"]) > 20 for row in range(size))
        assert module.truncated[name] == longer
    assert module.truncated["train"] > 0
