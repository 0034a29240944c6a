"""Damaged training labels: as many as asked for, where asked for, and the truth is kept beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import datasets
import numpy as np
import pytest

from frostline.data.corruptions import flip_labels, permute_labels
from frostline.errors import FrostlineError

NAMES = ["a", "b", "c", "d"]


def make(size: int = 400, names: Sequence[str] = NAMES) -> datasets.Dataset:
    """Half of the sentences are in group 1, a tenth of all in group 10, the others in group 2."""
    labels = [names[i % len(names)] for i in np.random.default_rng(0).permutation(size)]
    groups = [10 if i % 10 == 9 else 1 + i % 2 for i in range(size)]
    return datasets.Dataset.from_dict({"text": [f"sentence {i}" for i in range(size)], "label": labels, "group": groups})


def labels_of(split: datasets.Dataset, column: str = "label") -> list[str]:
    return list(split[column][:])


def flipped(train: datasets.Dataset, share: float, seed: int = 0, where: str | None = None) -> list[int]:
    """The rows whose label is another one than before."""
    noisy, count = flip_labels(train, sorted(set(labels_of(train))), share, where, seed)
    rows = [i for i, (old, new) in enumerate(zip(labels_of(train), labels_of(noisy), strict=True)) if old != new]
    assert len(rows) == count
    return rows


# --- flipped ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_as_many_labels_as_asked_for_become_wrong(share: float, classes: int, seed: int) -> None:
    assert len(flipped(make(names=NAMES[:classes]), share, seed)) == round(share * 400)


def test_nothing_but_labels_changes_and_the_truth_stays_beside_them() -> None:
    train = make()
    noisy, _ = flip_labels(train, NAMES, 0.3, None, 0)
    assert labels_of(noisy, "clean_label") == labels_of(train) != labels_of(noisy)
    assert {name: noisy[name][:] for name in ("text", "group")} == {name: train[name][:] for name in ("text", "group")}
    assert train.column_names == ["text", "label", "group"]  # the argument stays as it was


@pytest.mark.parametrize("classes", [3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_every_other_class_is_equally_likely(classes: int, seed: int) -> None:
    """Pearson's statistic of the counts is distributed as chi-square: 20 standard deviations are out of the question."""
    names = NAMES[:classes]
    train = make(4000 * classes, names)
    noisy, _ = flip_labels(train, names, 0.9, None, seed)
    pairs = Counter(zip(labels_of(train), labels_of(noisy), strict=True))
    for label in names:
        wrong = np.array([pairs[label, name] for name in names if name != label])
        expected, freedom = wrong.mean(), classes - 2
        assert wrong.sum() > 3000
        assert ((wrong - expected) ** 2 / expected).sum() < freedom + 20 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("where", [None, "group=1"])
@pytest.mark.parametrize("seed", range(3))
def test_a_larger_share_flips_what_a_smaller_one_does_and_to_the_same_labels(where: str | None, seed: int) -> None:
    train = make()
    shares = [0.1, 0.25, 0.6]
    rows = [flipped(train, share, seed, where) for share in shares]
    assert set(rows[0]) < set(rows[1]) < set(rows[2])
    labels = [labels_of(flip_labels(train, NAMES, share, where, seed)[0]) for share in shares]
    assert [labels[0][i] for i in rows[0]] == [labels[1][i] for i in rows[0]] == [labels[2][i] for i in rows[0]]


def test_the_seed_alone_draws_what_is_flipped() -> None:
    train = make()
    np.random.seed(1)
    first = labels_of(flip_labels(train, NAMES, 0.3, None, 0)[0])
    np.random.seed(2)
    assert labels_of(flip_labels(train, NAMES, 0.3, None, 0)[0]) == first
    assert labels_of(flip_labels(train, NAMES, 0.3, None, 1)[0]) != first


@pytest.mark.parametrize("seed", range(3))
def test_flips_are_spread_over_the_whole_split(seed: int) -> None:
    """Each half has half of them, but for ten standard deviations of as many coins."""
    train = make(4000)
    rows = flipped(train, 0.25, seed)
    assert abs(sum(row < 2000 for row in rows) - 500) < 10 * (1000 / 4) ** 0.5
    assert set(rows) != set(flipped(train, 0.25, seed + 10))


@pytest.mark.parametrize(("where", "size"), [("group=1", 200), ("group=10", 40), ("label=a", 100)])
def test_flips_stay_where_they_are_wanted_and_the_share_is_of_those(where: str, size: int) -> None:
    train = make()
    column, value = where.split("=")
    rows = flipped(train, 0.5, where=where)
    assert len(rows) == size // 2
    cells = train[column][:]
    assert {str(cells[i]) for i in rows} == {value}


def test_a_value_may_have_an_equals_sign_in_it() -> None:
    train = make().add_column("source", ["a=b", "a"] * 200)
    assert {i % 2 for i in flipped(train, 0.5, where="source=a=b")} == {0}


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("gruop=1", "no column 'gruop'; did you mean 'group'?"),
        ("xyz=1", "no column 'xyz'; there are label or group."),
        ("label=aa", "no training sentence has the value 'aa' in the column 'label'; did you mean 'a'?"),
        ("group=3", "no training sentence has the value '3' in the column 'group'."),
    ],
)
def test_where_nothing_is_is_told_with_the_nearest(where: str, said: str) -> None:
    with pytest.raises(FrostlineError) as error:
        flip_labels(make(), NAMES, 0.1, where, 0)
    assert str(error.value).startswith("data.label_noise_where: ")
    assert str(error.value).endswith(said)


# --- permuted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_permuted_labels_keep_their_counts_and_the_truth(seed: int) -> None:
    train = make()
    shuffled = permute_labels(train, seed)
    assert Counter(labels_of(shuffled)) == Counter(labels_of(train))
    assert labels_of(shuffled, "clean_label") == labels_of(train)
    assert {name: shuffled[name][:] for name in ("text", "group")} == {name: train[name][:] for name in ("text", "group")}


@pytest.mark.parametrize("seed", range(3))
def test_permuted_labels_say_nothing_of_the_truth(seed: int) -> None:
    """Of n shuffled labels, n / 4 agree with the truth but for their standard deviation, which is below that of n coins."""
    train = make(4000)
    shuffled = permute_labels(train, seed)
    agree = np.sum(np.asarray(labels_of(shuffled)) == np.asarray(labels_of(train)))
    assert abs(agree - 1000) < 10 * (4000 / 4) ** 0.5


def test_the_seed_alone_permutes() -> None:
    train = make()
    first = labels_of(permute_labels(train, 0))
    assert labels_of(permute_labels(train, 0)) == first
    assert labels_of(permute_labels(train, 1)) != first


def test_noise_on_permuted_labels_keeps_the_truth() -> None:
    train = make()
    noisy, _ = flip_labels(permute_labels(train, 0), NAMES, 0.5, None, 0)
    assert labels_of(noisy, "clean_label") == labels_of(train)
