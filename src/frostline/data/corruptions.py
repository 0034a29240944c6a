"""Controlled damage to training labels, drawn with the run's seed; validation and test are never touched."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import numpy as np

from frostline.errors import FrostlineError, choices, nearest

CLEAN = "clean_label"  # the column that keeps what a label was


def flip_labels(
    train: datasets.Dataset, class_names: Sequence[str], share: float, where: str | None, seed: int
) -> tuple[datasets.Dataset, int]:
    """Give a share of the training sentences another label, every other one with the same probability.

    With one seed, what a smaller share flips a larger one flips, too.

    Args:
        train: the training split, labels as class names.
        class_names: all of them.
        share: of the sentences that ``where`` names, in [0, 1).
        where: ``<column>=<value>``, or several joined by commas, which must all hold; None for all sentences.
        seed: the run's seed.

    Returns:
        The split with a column ``clean_label``, and how many labels were changed.

    Raises:
        FrostlineError: no such column, or no sentence with that value.
    """
    labels = list(train["label"][:])
    rows = np.arange(len(labels)) if where is None else _rows_where(train, where)
    random = np.random.default_rng([seed, 1])
    order, shifts = random.permutation(len(labels)), random.integers(1, len(class_names), len(labels))
    chosen = order[np.isin(order, rows)][: round(share * len(rows))]
    noisy = list(labels)
    for row in chosen:
        noisy[row] = class_names[(class_names.index(labels[row]) + int(shifts[row])) % len(class_names)]
    return _relabelled(train, noisy), len(chosen)


def permute_labels(train: datasets.Dataset, seed: int) -> datasets.Dataset:
    """Shuffle the labels of the training sentences: what is learned then is learned by heart (Zhang et al. 2017)."""
    labels = list(train["label"][:])
    return _relabelled(train, [labels[row] for row in np.random.default_rng([seed, 2]).permutation(len(labels))])


def _rows_where(train: datasets.Dataset, where: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    is_meant = np.ones(len(train), dtype=bool)
    for condition in where.split(","):
        column, _, value = condition.strip().partition("=")
        if column not in train.column_names:
            known = [name for name in train.column_names if name not in ("text", "text_pair", CLEAN)]
            hint = nearest(column, known) or f"; there are {choices(known)}."
            raise FrostlineError(f"data.label_noise_where: the training sentences have no column '{column}'{hint}")
        cells = [str(cell) for cell in train[column][:]]
        is_meant &= [cell == value for cell in cells]
        if not is_meant.any():
            raise FrostlineError(
                f"data.label_noise_where: no training sentence has the value '{value}' in the column '{column}'"
                f"{nearest(value, set(cells)) or '.'}"
            )
    return np.flatnonzero(is_meant)


def _relabelled(train: datasets.Dataset, labels: list[str]) -> datasets.Dataset:
    columns = train[:]
    return datasets.Dataset.from_dict({**columns, CLEAN: columns.get(CLEAN, columns["label"]), "label": labels})
