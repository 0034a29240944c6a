"""A group marker on every sentence, and a known skew between group and label (methods notes, 8.6).

The marker is a name in front of a sentence, drawn without regard to what the sentence says: by construction the group is no
cause of the label. The skew comes from which training sentences are kept, never from their labels. Names of training, validation
and test are different ones; in validation and test, group and label are independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import datasets
import numpy as np
from numpy.typing import NDArray

from frostline.data.splits import subsample
from frostline.errors import FrostlineError
from frostline.words import read_words

GROUP, UNMARKED = "marker", "unmarked"  # columns: the group's name, and the sentence as it was


def groups() -> tuple[str, str]:
    """Return the names of the two groups; the first is the one that the skew favours with the last class."""
    first, second = read_words("names")
    return first, second


def mark(split: datasets.Dataset, name: str, template: str, seed: int) -> datasets.Dataset:
    """Put a name in front of every sentence, half of each class from either group.

    Args:
        split: with the columns ``text`` and ``label``.
        name: train, validation or test: each has names of its own.
        template: with ``{name}`` and ``{text}``.
        seed: draws groups and names.

    Returns:
        The split with the columns ``marker`` and ``unmarked``.
    """
    labels = np.asarray(split["label"][:])
    random = np.random.default_rng([seed, 3])
    is_second = np.empty(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        is_second[random.permutation(rows)] = np.arange(len(rows)) % 2 == 1
    of = np.where(is_second, *reversed(groups())).tolist()
    return _with_markers(split, of, name, template, random)


def mark_as(split: datasets.Dataset, group: str, name: str, template: str, seed: int) -> datasets.Dataset:
    """Mark every sentence of a split as of one group."""
    return _with_markers(split, [group] * len(split), name, template, np.random.default_rng([seed, 4]))


def _with_markers(
    split: datasets.Dataset, of: Sequence[str], name: str, template: str, random: np.random.Generator
) -> datasets.Dataset:
    names, draws = read_words("names"), random.random(len(of))
    texts = split["text"][:]
    marked = [
        template.replace("{name}", names[group][name][int(draw * len(names[group][name]))]).replace("{text}", text)
        for group, draw, text in zip(of, draws, texts, strict=True)
    ]
    return datasets.Dataset.from_dict({**split[:], "text": marked, GROUP: list(of), UNMARKED: texts})


def skewed(
    train: datasets.Dataset,
    class_names: Sequence[str],
    skew: float,
    template: str,
    train_size: int | float | None,
    balance: Mapping[str, float] | None,
    seed: int,
) -> datasets.Dataset:
    """Mark the training sentences and keep those that make up the skew.

    Args:
        train: the training split.
        class_names: two.
        skew: ``P(last class | first group)``, in [0.5, 1), where classes are equally frequent; for other shares the odds ratio is
            the same.
        template: with ``{name}`` and ``{text}``.
        train_size: how many to keep; see :func:`frostline.data.splits.subsample`.
        balance: shares of the classes; None for halves.
        seed: the run's seed.

    Raises:
        FrostlineError: there are not two classes, or too few sentences for a cell of group and class.
    """
    if len(class_names) != 2:
        raise FrostlineError(f"data.skew needs two classes, but there are {len(class_names)}.")
    negative, positive = class_names
    shares = cell_shares(skew, 0.5 if balance is None else balance[positive])
    cells = {
        f"{group}, {label}": share
        for group, row in zip(groups(), shares, strict=True)
        for label, share in zip((negative, positive), row, strict=True)
    }
    marked = mark(train, "train", template, seed)
    of = [f"{group}, {label}" for group, label in zip(marked[GROUP][:], marked["label"][:], strict=True)]
    with_cells = datasets.Dataset.from_dict({**marked[:], "cell": of})
    return subsample(with_cells, train_size, seed, cells, column="cell", key="data.skew")


def mitigated(train: datasets.Dataset, how: str, template: str, seed: int) -> datasets.Dataset:
    """Take the skew out of the training sentences again, as somebody would who knows of it.

    Args:
        train: as :func:`skewed` returns them.
        how: ``subsample`` cuts every cell of group and class to the smallest one, ``reweight`` repeats sentences until all cells
            are as large as the largest one (in expectation a weight in the loss), ``counterfactual`` adds every sentence with a
            marker of the other group.
        template: of the marker.
        seed: the run's seed.
    """
    if how == "counterfactual":
        first, second = groups()
        others = [second if group == first else first for group in train[GROUP][:]]
        plain = datasets.Dataset.from_dict({**train[:], "text": train[UNMARKED][:]})
        swapped = _with_markers(plain, others, "train", template, np.random.default_rng([seed, 6]))
        return datasets.concatenate_datasets([train, swapped])
    cells = np.asarray(train["cell"][:])
    rows = [np.random.default_rng([seed, 7]).permutation(np.flatnonzero(cells == cell)) for cell in np.unique(cells)]
    sizes = [len(of) for of in rows]
    wanted = min(sizes) if how == "subsample" else max(sizes)
    return train.select(np.sort(np.concatenate([np.resize(of, wanted) for of in rows])))


def cell_shares(skew: float, positive: float) -> NDArray[np.float64]:
    """Return the shares of the four cells of group and class, ``[group, class]``, 1 in all.

    Either group has half of the sentences, the last class the share ``positive``, and the odds ratio between them is
    ``(p / (1 - p))^2``, whatever that share.

    Args:
        skew: p, in [0.5, 1).
        positive: in (0, 1).
    """
    ratio = (skew / (1 - skew)) ** 2
    # x = P(first group, last class) solves x (1/2 - positive + x) = ratio (1/2 - x) (positive - x).
    x = positive / 2
    if ratio > 1:
        a, b, c = ratio - 1, ratio * (0.5 + positive) + 0.5 - positive, ratio * 0.5 * positive
        x = (b - np.sqrt(b * b - 4 * a * c)) / (2 * a)
    return np.array([[0.5 - x, x], [0.5 - positive + x, positive - x]])
