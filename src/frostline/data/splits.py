"""What a source gives, and how the splits that it lacks are drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import datasets
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from frostline.errors import FrostlineError

SPLITS = ("train", "validation", "test")


@dataclass
class RawData:
    """What a data source gives, before anything is checked or split.

    Attributes:
        splits: some of train, validation and test. Columns: ``text`` (str or None), where the source has pairs
            ``text_pair`` (str or None), ``label`` (the class name, or None for an unlabelled sentence), and whatever
            else is worth keeping.
        class_names: the classes in the source's order; None: sorted from the training labels.
        group_column: sentences with the same value there never go to different splits.
        notes: counts worth recording with the run.
    """

    splits: dict[str, datasets.Dataset]
    class_names: list[str] | None
    group_column: str | None
    notes: dict[str, int]


def split_missing(raw: RawData, validation_share: float, test_share: float, split_seed: int) -> dict[str, datasets.Dataset]:
    """Carve the missing ones of validation and test out of train, stratified by label.

    Splits that the source gives are used as they are. Nothing but ``split_seed`` draws, so runs with different seeds
    are scored on the same sentences.

    Args:
        raw: the source's splits, at least train.
        validation_share: share of the source's training sentences that becomes the validation split if there is none.
        test_share: the same for test.
        split_seed: draws both.

    Returns:
        Train, validation and test, each in the source's order.

    Raises:
        FrostlineError: a class or a number of groups too small to be split.
    """
    splits = dict(raw.splits)
    left = 1.0  # share of the source's training sentences still in train
    for name, share in (("test", test_share), ("validation", validation_share)):
        if name not in splits:
            held_out = _draw(splits["train"], raw.group_column, share / left, split_seed, name)
            rest = np.setdiff1d(np.arange(len(splits["train"])), held_out)
            splits[name], splits["train"] = splits["train"].select(held_out), splits["train"].select(rest)
            left -= share
    return {name: splits[name] for name in SPLITS}


def subsample(
    train: datasets.Dataset,
    train_size: int | float | None,
    seed: int,
    balance: Mapping[str, float] | None = None,
    column: str = "label",
    key: str = "data.class_balance",
) -> datasets.Dataset:
    """Keep a part of the training sentences: each class in proportion, but at least one sentence of it.

    With one seed, smaller subsets lie (up to rounding) within larger ones, which makes learning curves smooth.

    Args:
        train: the training split.
        train_size: a count (int), a share (float in (0, 1)) or None for as many as there are.
        seed: the run's seed.
        balance: the share of every class among those kept, by its name; None for its share in ``train``.
        column: what counts as a class.
        key: the configuration key that asked for the balance.

    Returns:
        The kept sentences, in the order of ``train``.

    Raises:
        FrostlineError: more sentences wanted than there are (of a class, or any of a class that has none), or fewer than there
            are classes.
    """
    if train_size is None and balance is None:
        return train
    total = len(train)
    classes, numbers, counts = np.unique(np.asarray(train[column][:]), return_inverse=True, return_counts=True)
    if balance is None:
        shares = counts / total
        most = total
    else:
        if absent := sorted(balance.keys() - {str(name) for name in classes}):
            raise FrostlineError(f"{key} wants sentences of class '{absent[0]}', but no training sentence is of it.")
        shares = np.array([balance[str(name)] for name in classes])
        most = int(np.floor((counts / shares).min() + 1e-9))
    size = most if train_size is None else round(train_size * total) if isinstance(train_size, float) else train_size
    if size > total:
        raise FrostlineError(f"data.train_size is {train_size}, but the training split has only {total} sentences.")
    if size > most:
        scarce = classes[int((counts / shares).argmin())]
        raise FrostlineError(
            f"{key} leaves room for {most} training sentences, for want of sentences of class '{scarce}', but "
            f"{size} are wanted; lower data.train_size."
        )
    if size < len(classes):
        raise FrostlineError(
            f"data.train_size={train_size} keeps {size} sentences, fewer than there are classes ({len(classes)}); keep "
            "at least one of each."
        )
    quota = shares * size
    keep = np.maximum(np.floor(quota + 1e-9).astype(np.int64), 1)
    while keep.sum() < size:
        keep[np.argmax(np.where(keep < counts, quota - keep, -np.inf))] += 1
    while keep.sum() > size:  # rare classes were rounded up to 1: others pay
        keep[np.argmax(np.where(keep > 1, keep - quota, -np.inf))] -= 1
    order = np.random.default_rng(seed).permutation(total)
    rows = [order[numbers[order] == number][:count] for number, count in enumerate(keep)]
    return train.select(np.sort(np.concatenate(rows)))


def _draw(train: datasets.Dataset, group_column: str | None, share: float, seed: int, name: str) -> NDArray[np.int64]:
    """Return the row numbers of the new split, sorted."""
    labels = np.asarray(train["label"][:])
    if group_column is not None:
        return _draw_groups(labels, np.asarray(train[group_column][:]), share, seed, name)
    label, count = min(Counter(labels.tolist()).items(), key=lambda item: item[1])
    if count < 2:
        raise FrostlineError(
            f"Class '{label}' has only {count} training sentence, too few to carve out a {name} split stratified by "
            f"class; add sentences of it, remove it, or give a {name} split."
        )
    try:
        _, rows = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels)
    except ValueError:  # with classes of at least 2, only a split smaller than the number of classes is refused
        raise FrostlineError(
            f"The {len(labels)} training sentences are too few to carve out a {name} split with every class; raise "
            f"data.{name}_share or give a {name} split."
        ) from None
    return np.sort(rows)


def _draw_groups(labels: NDArray[np.str_], groups: NDArray[np.str_], share: float, seed: int, name: str) -> NDArray[np.int64]:
    folds = max(2, round(1 / share))
    found = len(np.unique(groups))
    if found < folds:
        raise FrostlineError(
            f"The training sentences form {found} groups, too few to carve out a {name} split of whole groups ({folds} "
            f"are needed); raise data.{name}_share or give a {name} split."
        )
    for label in np.unique(labels):
        if len(np.unique(groups[labels == label])) < 2:
            raise FrostlineError(
                f"Class '{label}' has only {(labels == label).sum()} training sentences, all of one group, too few to "
                f"carve out a {name} split of whole groups; add sentences of it, remove it, or give a {name} split."
            )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    _, rows = next(splitter.split(labels, labels, groups))
    return np.sort(rows)
