"""Splits: disjoint, stratified, groups intact, and drawn by the right seed."""

from __future__ import annotations

from collections import Counter

import datasets
import numpy as np
import pytest

from frostline.data.splits import RawData, split_missing, subsample
from frostline.errors import FrostlineError

COUNTS = {"a": 700, "b": 250, "c": 50}


def make(counts: dict[str, int], groups: int | None = None) -> datasets.Dataset:
    labels = [label for label, count in counts.items() for _ in range(count)]
    np.random.default_rng(0).shuffle(labels)
    columns = {"text": [str(i) for i in range(len(labels))], "label": labels}
    if groups:
        columns["group"] = [f"g{number}" for number in np.random.default_rng(1).integers(groups, size=len(labels))]
    return datasets.Dataset.from_dict(columns)


def raw(groups: int | None = None, counts: dict[str, int] = COUNTS, **given: datasets.Dataset) -> RawData:
    return RawData({"train": make(counts, groups), **given}, None, "group" if groups else None, {})


def texts(split: datasets.Dataset) -> list[str]:
    return list(split["text"])


@pytest.mark.parametrize("groups", [None, 100])
def test_carved_splits_are_disjoint_and_lose_nothing(groups: int | None) -> None:
    source = raw(groups)
    splits = split_missing(source, 0.1, 0.2, split_seed=0)
    assert list(splits) == ["train", "validation", "test"]
    assert sorted(text for split in splits.values() for text in texts(split)) == sorted(texts(source.splits["train"]))
    assert list(source.splits) == ["train"]  # the argument stays as it was


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_of_the_whole_and_stratified_within_one(seed: int) -> None:
    splits = split_missing(raw(), 0.1, 0.2, seed)
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        for label, count in Counter(splits[name]["label"]).items():
            assert abs(count - share * COUNTS[label]) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole(seed: int) -> None:
    splits = split_missing(raw(groups=100), 0.1, 0.2, seed)
    groups = [set(split["group"]) for split in splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert len(splits["test"]) == pytest.approx(200, abs=25)
    assert len(splits["validation"]) == pytest.approx(100, abs=25)


@pytest.mark.parametrize("groups", [None, 100])
def test_the_split_seed_decides(groups: int | None) -> None:
    first, again, other = (split_missing(raw(groups), 0.1, 0.2, seed) for seed in (0, 0, 1))
    assert texts(first["test"]) == texts(again["test"])
    assert texts(first["validation"]) == texts(again["validation"])
    assert set(texts(first["test"])) != set(texts(other["test"]))


def test_given_splits_are_used_as_they_are() -> None:
    given = make({"a": 5, "b": 5})
    splits = split_missing(raw(validation=given, test=given), 0.1, 0.2, 0)
    assert texts(splits["train"]) == texts(make(COUNTS))
    assert texts(splits["test"]) == texts(splits["validation"]) == texts(given)


def test_only_what_is_missing_is_carved() -> None:
    given = make({"a": 5, "b": 5})
    without_test = split_missing(raw(validation=given), 0.1, 0.2, 0)
    assert (len(without_test["test"]), len(without_test["train"])) == (200, 800)
    without_validation = split_missing(raw(test=given), 0.1, 0.2, 0)
    assert (len(without_validation["validation"]), len(without_validation["train"])) == (100, 900)


def test_a_class_too_small_to_be_split_is_told() -> None:
    with pytest.raises(FrostlineError, match="Class 'b' has only 1 training sentence, too few to carve out a test split"):
        split_missing(raw(counts={"a": 100, "b": 1}), 0.1, 0.2, 0)


def test_a_split_too_small_for_all_classes_is_told() -> None:
    counts = {label: 2 for label in "abcdef"}
    with pytest.raises(FrostlineError, match=r"12 training sentences are too few .* test split .* raise data\.test_share"):
        split_missing(raw(counts=counts), 0.1, 0.1, 0)


def test_groups_too_few_to_be_split_are_told() -> None:
    with pytest.raises(FrostlineError, match=r"form 3 groups, too few to carve out a test split of whole groups \(5 are"):
        split_missing(raw(groups=3), 0.1, 0.2, 0)


def test_a_class_in_one_group_only_is_told() -> None:
    columns = {"text": list("abcdefgh"), "label": list("xxxxxxyy"), "group": list("12345677")}
    source = RawData({"train": datasets.Dataset.from_dict(columns)}, None, "group", {})
    with pytest.raises(FrostlineError, match="Class 'y' has only 2 training sentences, all of one group"):
        split_missing(source, 0.2, 0.2, 0)


@pytest.mark.parametrize("size", [3, 10, 57, 400, 998, 999, 1000, 0.1, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_subset_has_its_size_and_every_class_in_proportion(size: float, seed: int) -> None:
    kept = subsample(make(COUNTS), size, seed)
    count = round(1000 * size) if isinstance(size, float) else size
    assert len(kept) == count == len(set(texts(kept)))
    found = Counter(kept["label"])
    assert all(found[label] >= 1 for label in COUNTS)
    if count >= 20:  # from here on each class has at least 1 sentence by proportion
        assert all(abs(found[label] - COUNTS[label] * count / 1000) <= 1 for label in COUNTS)


def test_the_run_seed_decides_the_subset() -> None:
    train = make(COUNTS)
    assert texts(subsample(train, 100, 0)) == texts(subsample(train, 100, 0))
    assert texts(subsample(train, 100, 0)) != texts(subsample(train, 100, 1))


def test_smaller_subsets_lie_within_larger_ones() -> None:
    train = make(COUNTS)
    assert set(texts(subsample(train, 100, 0))) <= set(texts(subsample(train, 200, 0)))


def test_no_size_keeps_all() -> None:
    train = make(COUNTS)
    assert subsample(train, None, 0) is train


def test_sizes_that_do_not_fit_are_told() -> None:
    with pytest.raises(FrostlineError, match="train_size is 1001, but the training split has only 1000 sentences"):
        subsample(make(COUNTS), 1001, 0)
    with pytest.raises(FrostlineError, match=r"keeps 2 sentences, fewer than there are classes \(3\)"):
        subsample(make(COUNTS), 2, 0)
    with pytest.raises(FrostlineError, match=r"data\.train_size=0\.002 keeps 2 sentences"):
        subsample(make(COUNTS), 0.002, 0)


# --- with a balance of classes ---------------------------------------------------------------------------------------

TENTHS = {"a": 0.2, "b": 0.7, "c": 0.1}


@pytest.mark.parametrize("size", [10, 100, 350, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_a_balanced_subset_has_exactly_the_shares_asked_for(size: float, seed: int) -> None:
    count = round(1000 * size) if isinstance(size, float) else size
    kept = subsample(make(COUNTS), size, seed, TENTHS)
    assert len(set(texts(kept))) == len(kept) == count
    assert Counter(kept["label"]) == {label: round(share * count) for label, share in TENTHS.items()}


@pytest.mark.parametrize("size", [10, 11, 57, 123, 356])
def test_shares_that_do_not_come_out_even_are_off_by_less_than_a_sentence(size: int) -> None:
    found = Counter(subsample(make(COUNTS), size, 0, TENTHS)["label"])
    assert found.total() == size
    assert all(abs(found[label] - share * size) < 1 for label, share in TENTHS.items())


def test_a_class_too_rare_for_its_share_still_has_a_sentence() -> None:
    assert Counter(subsample(make(COUNTS), 4, 0, TENTHS)["label"]) == {"a": 1, "b": 2, "c": 1}


@pytest.mark.parametrize(
    ("balance", "size"),
    [(TENTHS, 357), ({"a": 0.8, "b": 0.1, "c": 0.1}, 500), ({"a": 0.7, "b": 0.25, "c": 0.05}, 1000)],
    ids=["b is scarce", "c is scarce", "as they come"],
)
def test_without_a_size_as_many_as_possible_are_kept(balance: dict[str, float], size: int) -> None:
    found = Counter(subsample(make(COUNTS), None, 0, balance)["label"])
    assert found.total() == size
    assert all(found[label] <= COUNTS[label] and abs(found[label] - share * size) < 1 for label, share in balance.items())
    assert any(found[label] == COUNTS[label] for label in COUNTS), "none is used up, so there was room for more"


@pytest.mark.parametrize("seed", range(3))
def test_smaller_balanced_subsets_lie_within_larger_ones(seed: int) -> None:
    train = make(COUNTS)
    kept = [set(texts(subsample(train, size, seed, TENTHS))) for size in (20, 100, 350)]
    assert kept[0] < kept[1] < kept[2]
    assert kept[0] != set(texts(subsample(train, 20, seed + 10, TENTHS)))


def test_a_balanced_subset_keeps_the_order_of_the_training_split() -> None:
    train = make(COUNTS)
    kept = texts(subsample(train, 100, 0, TENTHS))
    assert kept == sorted(kept, key=texts(train).index)


def test_a_balance_for_which_a_class_is_too_small_is_told() -> None:
    said = r"data\.class_balance leaves room for 357 training sentences, for want of sentences of class 'b', but 358 are wanted"
    with pytest.raises(FrostlineError, match=said):
        subsample(make(COUNTS), 358, 0, TENTHS)
    with pytest.raises(FrostlineError, match=r"data\.train_size is 1001, but the training split has only 1000 sentences"):
        subsample(make(COUNTS), 1001, 0, TENTHS)


def test_a_balance_with_a_class_that_no_sentence_has_is_told() -> None:
    with pytest.raises(FrostlineError, match=r"data\.class_balance wants sentences of class 'd', but no training sentence is of"):
        subsample(make(COUNTS), 10, 0, {"a": 0.2, "b": 0.3, "c": 0.1, "d": 0.4})
