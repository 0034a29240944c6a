"""Labelled sentences, checked and split: everything that a run knows about its data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from frostline.data.corruptions import CLEAN, flip_labels, permute_labels
from frostline.data.domains import mixed_domains
from frostline.data.files import read_files
from frostline.data.hub import read_hub
from frostline.data.markers import mark, mitigated, skewed
from frostline.data.packaged import read_packaged
from frostline.data.scored import read_scored
from frostline.data.splits import RawData, split_missing, subsample
from frostline.errors import FrostlineError
from frostline.once import Once
from frostline.schema import DataConfig, FilesData, HubData, PackagedData, ScoredData

__all__ = ["LabelledData", "RawData", "load_data"]

# Keys that change sentences after the splits are drawn.
UNTOUCHED: dict[str, Any] = {
    "class_balance": None,
    "label_noise": 0.0,
    "label_noise_where": None,
    "permute_labels": False,
    "skew": None,
    "mitigation": None,
}
log = logging.getLogger(__name__)


@dataclass
class LabelledData:
    """The sentences of a run.

    Attributes:
        splits: train, validation and test. Columns: ``text``, where there are pairs ``text_pair``, ``label`` (the class
            number, int64), and what else the source gives.
        class_names: the name of each class number.
        notes: counts worth recording with the run.
        hashes: per split, a sha256 over texts, pairs and labels in their order.
    """

    splits: dict[str, datasets.Dataset]
    class_names: list[str]
    notes: dict[str, int]
    hashes: dict[str, str]


def load_data(config: DataConfig, cache_dir: Path, seed: int, once: Once | None = None) -> LabelledData:
    """Read a data source, check it, draw the splits that it lacks and the training subset.

    Args:
        config: the source, and how it is split.
        cache_dir: where downloaded and prepared data are kept.
        seed: the run's seed: it draws the training subset. The splits depend on ``config.split_seed`` only.
        once: shares the checked splits with other runs of this process.

    Returns:
        The labelled splits. Sentences that are in both training and test are counted and warned of.

    Raises:
        FrostlineError: a source that cannot be read; empty or unlabelled sentences; labels that cannot be learned;
            sizes that do not fit.
    """
    same = dataclasses.replace(config, batch_size=None, batch_tokens=None, max_length=0, train_size=None, **UNTOUCHED)
    splits, class_names, notes = (once or Once())("data", (same, cache_dir), lambda: _checked_splits(config, cache_dir))
    train, changed = _training_sentences(config, splits["train"], class_names, cache_dir, seed)
    if config.skew is not None:
        splits = {name: mark(split, name, config.marker, config.split_seed) for name, split in splits.items() if name != "train"}
    parts = {"train": train, "validation": splits["validation"], "test": splits["test"]}
    numbered = {name: _numbered(split, class_names) for name, split in parts.items()}
    hashes = {name: _hash(split) for name, split in numbered.items()}
    return LabelledData(numbered, class_names, notes | changed | _duplicates(numbered), hashes)


def _training_sentences(
    config: DataConfig, train: datasets.Dataset, class_names: list[str], cache_dir: Path, seed: int
) -> tuple[datasets.Dataset, dict[str, int]]:
    """Draw the training subset and damage its labels as asked; return it with counts worth recording."""
    notes: dict[str, int] = {}
    balance = None
    if config.class_balance is not None:
        if len(config.class_balance) != len(class_names):
            raise FrostlineError(
                f"data.class_balance has {len(config.class_balance)} shares, but there are {len(class_names)} classes: "
                f"{', '.join(class_names)}."
            )
        balance = dict(zip(class_names, config.class_balance, strict=True))
    if isinstance(config, PackagedData) and config.domain == "mixed":
        train = mixed_domains(config, train, cache_dir, seed, balance)
        notes |= {f"train_domain_{name}": count for name, count in Counter(train["domain"][:]).items()}
    elif config.skew is not None:
        train = skewed(train, class_names, config.skew, config.marker, config.train_size, balance, seed)
        notes |= {f"train_{cell.replace(', ', '_')}": count for cell, count in sorted(Counter(train["cell"][:]).items())}
        if config.mitigation is not None:
            train = mitigated(train, config.mitigation, config.marker, seed)
            notes["train_after_mitigation"] = len(train)
    else:
        train = subsample(train, config.train_size, seed, balance)
    if config.permute_labels:
        train = permute_labels(train, seed)
    if config.label_noise > 0:
        train, notes["flipped_labels"] = flip_labels(train, class_names, config.label_noise, config.label_noise_where, seed)
    if balance is not None:
        notes |= {f"train_class_{name}": count for name, count in sorted(Counter(train["label"][:]).items())}
    return train, notes


def _numbered(split: datasets.Dataset, class_names: list[str]) -> datasets.Dataset:
    number = {name: i for i, name in enumerate(class_names)}
    columns = {name: [number[label] for label in split[name][:]] for name in ("label", CLEAN) if name in split.column_names}
    return datasets.Dataset.from_dict(split[:] | columns)


def _checked_splits(config: DataConfig, cache_dir: Path) -> tuple[dict[str, datasets.Dataset], list[str], dict[str, int]]:
    raw = _read(config, cache_dir)
    notes = dict(raw.notes)
    for name, split in raw.splits.items():
        _check_labelled(name, split, config)
        raw.splits[name], dropped = _without_empty(name, split, config.drop_empty)
        if dropped:
            notes[f"dropped_empty_{name}"] = dropped
        if not len(raw.splits[name]):
            raise FrostlineError(f"The {name} split has no sentences.")
    splits = split_missing(raw, config.validation_share, config.test_share, config.split_seed)
    class_names = raw.class_names or sort_labels(splits["train"]["label"][:])
    _check_classes(splits)
    return splits, class_names, notes


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Return the different labels in order: by value if all are whole numbers, else alphabetically."""
    different = set(labels)
    try:
        return sorted(different, key=lambda label: (int(label), label))
    except ValueError:
        return sorted(different)


def _read(config: DataConfig, cache_dir: Path) -> RawData:
    if isinstance(config, PackagedData):
        return read_packaged(config, cache_dir)
    if isinstance(config, ScoredData):
        return read_scored(config, cache_dir)
    if isinstance(config, HubData):
        return read_hub(config, cache_dir)
    assert isinstance(config, FilesData)
    return read_files(config)


def _check_labelled(name: str, split: datasets.Dataset, config: DataConfig) -> None:
    rows = [row for row, label in enumerate(split["label"][:], 1) if label is None]
    if rows:
        remedy = "label or remove them"
        if isinstance(config, HubData):  # shared tasks hide the labels of their test sentences
            remedy = f"choose a labelled split with data.{name}_split=…"
        raise FrostlineError(f"Sentences without a label in the {name} split: {len(rows)}, the first in row {rows[0]}; {remedy}.")


def _without_empty(name: str, split: datasets.Dataset, drop: bool) -> tuple[datasets.Dataset, int]:
    texts = [split[column][:] for column in ("text", "text_pair") if column in split.column_names]
    sentences = enumerate(zip(*texts, strict=True))
    empty = [row for row, parts in sentences if not all(part and part.strip() for part in parts)]
    if not empty:
        return split, 0
    if not drop:
        raise FrostlineError(
            f"Sentences without text in the {name} split: {len(empty)}, the first in row {empty[0] + 1}; "
            "data.drop_empty=true drops them."
        )
    gone = set(empty)
    return split.select([row for row in range(len(split)) if row not in gone]), len(empty)


def _check_classes(splits: dict[str, datasets.Dataset]) -> None:
    known = set(splits["train"]["label"][:])
    if len(known) < 2:
        raise FrostlineError(f"All training sentences have the label '{min(known)}'; a classifier needs at least two classes.")
    for name in ("validation", "test"):
        unknown = sort_labels(set(splits[name]["label"][:]) - known)
        if unknown:
            raise FrostlineError(
                f"Label '{unknown[0]}' appears in the {name} split, but in no training sentence; it cannot be learned."
            )


def _duplicates(splits: dict[str, datasets.Dataset]) -> dict[str, int]:
    seen = set(_texts(splits["train"]))
    counts = {name: sum(texts in seen for texts in _texts(splits[name])) for name in ("validation", "test")}
    if counts["test"]:
        share = 100 * counts["test"] / len(splits["test"])
        log.warning(
            "Test sentences that are also training sentences: %d (%.2f %% of the test split); scores on them reward memory.",
            counts["test"],
            share,
        )
    return {"train_validation_duplicates": counts["validation"], "train_test_duplicates": counts["test"]}


def _texts(split: datasets.Dataset) -> list[tuple[str, str | None]]:
    pairs = split["text_pair"][:] if "text_pair" in split.column_names else [None] * len(split)
    return list(zip(split["text"][:], pairs, strict=True))


def _hash(split: datasets.Dataset) -> str:
    digest = hashlib.sha256()
    for (text, pair), label in zip(_texts(split), split["label"][:], strict=True):
        digest.update(json.dumps([text, pair, label]).encode())
    return digest.hexdigest()
