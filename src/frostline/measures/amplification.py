"""``measure=amplification``: how much more the run's predictions depend on a group marker than the data's skew gives reason for.

Sentences carry a marker that is no cause of their label (``data.skew``, :mod:`frostline.data.markers`). The unit is a test
sentence that carries one marker and then the other. The gap between groups is judged against three nulls (methods notes, 8.5):
a group-blind classifier with as many errors; predictions shuffled among sentences of one class; and the best decision that can be
made from the marker and from text read as well as this run reads it, which has a gap, too, and a larger one the less can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from frostline.data.markers import GROUP, UNMARKED, cell_shares, groups, mark_as
from frostline.data.splits import SPLITS
from frostline.errors import FrostlineError
from frostline.measures.layer_probes import fit_probes
from frostline.measures.statistics import Interval, jackknife
from frostline.measures.subject import Subject
from frostline.measures.table import MeasureTable
from frostline.schema import AmplificationMeasure

SENTENCES = 10  # of a class in the test split: for fewer no rate is given


@dataclass(frozen=True)
class Swapped:
    """What the run says of every test sentence under either marker.

    Attributes:
        label: whether it is of the last class, ``[sentences]``, 0 or 1.
        first: probability of the last class with the first group's marker, ``[sentences]``.
        second: likewise with the second group's.
    """

    label: NDArray[np.int64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]


def measure_amplification(subject: Subject, config: AmplificationMeasure) -> pd.DataFrame:
    """Judge how much a run's predictions depend on the group marker.

    Args:
        subject: the run, trained with ``data.skew``.
        config: which nulls.

    Returns:
        the measure's table.

    Raises:
        FrostlineError: sentences without markers, or a class with too few test sentences for a rate.
    """
    skew, test = subject.config.data.skew, subject.data.splits["test"]
    if skew is None:
        raise FrostlineError("measure=amplification needs sentences with markers; train with data.skew=0.5 or more.")
    label = np.asarray(test["label"][:])
    if (fewest := int(np.bincount(label, minlength=2).min())) < SENTENCES:
        raise FrostlineError(f"a class has only {fewest} test sentences; a rate needs at least {SENTENCES}.")
    plain = test.select_columns(["label"]).add_column("text", test[UNMARKED][:])
    marked = [mark_as(plain, group, "test", subject.config.data.marker, subject.config.data.split_seed) for group in groups()]
    texts = {"first": marked[0]["text"][:], "second": marked[1]["text"][:], "unmarked": plain["text"][:]}
    logits = subject.logits(subject.adapted, {name: subject.tokenise_texts(lines) for name, lines in texts.items()})
    said = {name: of.softmax(dim=1)[:, 1].numpy() for name, of in logits.items()}

    table, swapped = MeasureTable("amplification"), Swapped(label, said["first"], said["second"])
    unmarked = jackknife(lambda right: float(right.mean()), (((said["unmarked"] > 0.5) == label).astype(float),))
    table.add("unmarked_accuracy", unmarked, n=len(label))
    _balanced(table, swapped, skew)
    _skewed(table, swapped, skew, config)
    if config.marker_probe:
        with table.leaving_out("the marker's probe"):
            _marker_probe(table, subject)
    return table.frame()


def _balanced(table: MeasureTable, swapped: Swapped, skew: float) -> None:
    """Every test sentence with both markers: group and label are independent, and 0 is the right null."""
    arrays, n = (swapped.label, swapped.first, swapped.second), len(swapped.label)

    def add(name: str, statistic: str, null: float | None = 0.0) -> None:
        table.add(name, jackknife(lambda *rows: getattr(_rates(Swapped(*rows)), statistic), arrays), null=null, n=n)

    add("balanced_accuracy", "accuracy", None)
    add("balanced_true_positive_gap", "true_positive_gap")
    add("balanced_false_positive_gap", "false_positive_gap")
    add("balanced_rate_gap", "rate_gap")
    add("balanced_bias_amplification", "amplification")
    add("swap_change", "change")
    add("swap_absolute_change", "absolute_change", None)
    add("calibration_gap", "calibration_gap")
    add("conflicting_accuracy", "conflicting_accuracy", None)
    add("worst_group_accuracy", "worst_accuracy", None)
    add("text_accuracy", "text_accuracy", 0.5)
    accuracy = _rates(swapped).text_accuracy
    table.add("bayes_rate_gap", bayes(accuracy, skew).rate_gap)
    excess = jackknife(lambda *rows: (r := _rates(Swapped(*rows))).rate_gap - bayes(r.text_accuracy, skew).rate_gap, arrays)
    table.add("rate_gap_over_bayes", excess, null=0.0, n=n)


class Rates(NamedTuple):
    """What a classifier does on sentences that carry either marker; gaps are first minus second group."""

    accuracy: float
    true_positive_gap: float
    false_positive_gap: float
    rate_gap: float  # the mean of both
    amplification: float  # directional, on balanced test data
    change: float  # of the probability, mean over sentences
    absolute_change: float
    calibration_gap: float
    conflicting_accuracy: float  # on the cells that the skew made rare
    worst_accuracy: float  # of the four cells of group and class
    text_accuracy: float


def _rates(swapped: Swapped) -> Rates:
    label, first, second = swapped.label, swapped.first, swapped.second
    is_positive = label == 1
    votes = np.stack([first > 0.5, second > 0.5])  # [group, sentences]
    gap = votes[0].astype(float) - votes[1]
    tpr, fpr = float(gap[is_positive].mean()), float(gap[~is_positive].mean())
    right = votes == is_positive
    cells = [right[g][is_positive == positive].mean() for g in (0, 1) for positive in (False, True)]
    conflicting = np.concatenate([right[0][~is_positive], right[1][is_positive]])
    return Rates(
        accuracy=float(right.mean()),
        true_positive_gap=tpr,
        false_positive_gap=fpr,
        rate_gap=(tpr + fpr) / 2,
        amplification=(tpr + fpr) / 4,
        change=float((first - second).mean()),
        absolute_change=float(np.abs(first - second).mean()),
        calibration_gap=float((first - label).mean() - (second - label).mean()),
        conflicting_accuracy=float(conflicting.mean()),
        worst_accuracy=float(min(cells)),
        text_accuracy=text_accuracy([(label, first), (label, second)]),
    )


def _skewed(table: MeasureTable, swapped: Swapped, skew: float, config: AmplificationMeasure) -> None:
    """Test sentences with the training data's skew: what a user would see who tests on data like the training data."""
    is_first = assign(swapped.label, skew, config.seed)
    probability = np.where(is_first, swapped.first, swapped.second)
    arrays = (is_first, swapped.label, (probability > 0.5).astype(np.int64))
    observed = jackknife(lambda *rows: amplification(*rows), arrays)
    blind = -_error(*arrays) * _base_gap(*arrays)
    table.add("skewed_bias_amplification", observed, null=blind, n=len(is_first))
    excess = jackknife(lambda *rows: amplification(*rows) + _error(*rows) * _base_gap(*rows), arrays)
    table.add("excess_bias_amplification", excess, null=0.0, n=len(is_first))
    shuffled = permuted_amplification(*arrays, config.permutations, config.seed)
    table.add("permutation_bias_amplification", Interval(float(shuffled.mean()), *np.quantile(shuffled, [0.025, 0.975])))
    extreme = np.abs(shuffled - shuffled.mean()) >= abs(observed.mean - shuffled.mean()) - 1e-12
    table.add("permutation_p", float((extreme.sum() + 1) / (len(shuffled) + 1)), n=len(shuffled))
    table.add("bayes_bias_amplification", bayes(_rates(swapped).text_accuracy, skew).amplification)
    mean = jackknife(lambda g, y, p: amplification(g, y, p), (is_first, swapped.label, probability))
    table.add("mean_probability_bias_amplification", mean, null=0.0, n=len(is_first))  # without the threshold


def _marker_probe(table: MeasureTable, subject: Subject) -> None:
    """Whether the group can be read off the representations: a linear probe, tested on names that it never saw."""
    names, pooling = groups(), subject.config.model.pooling
    tokens = {split: subject.tokens(split) for split in SPLITS}
    labels = {split: torch.tensor([names.index(group) for group in subject.data.splits[split][GROUP][:]]) for split in SPLITS}
    for layer, probe in enumerate(fit_probes(subject.pooled(subject.adapted, tokens, [pooling])[pooling], labels, 2)):
        table.add("marker_probe_accuracy", probe.accuracy, layer, pooling, null=0.5, n=len(probe.correct))


# --- the formulas -----------------------------------------------------------------------------------------------------------


def directional_amplification(
    attributes: NDArray[np.int64], tasks: NDArray[np.int64], predicted: NDArray[np.int64], held_out: tuple[NDArray[np.int64], ...]
) -> float:
    """Return BiasAmp from attribute to task (Wang & Russakovsky 2021, eq. 3).

    Args:
        attributes: of the training data, ``[examples, attributes]``, 0 or 1.
        tasks: likewise, ``[examples, tasks]``.
        predicted: tasks that were predicted on test data, ``[test examples, tasks]``.
        held_out: attributes and tasks of the test data, as above.

    Returns:
        The mean over pairs of ``P(task predicted | attribute) - P(task | attribute)``, with the sign of their dependence in the
        training data: 0 where it has none.
    """
    together = attributes.T @ tasks / len(attributes)
    sign = np.sign(np.round(together - np.outer(attributes.mean(axis=0), tasks.mean(axis=0)), 12))
    test_attributes, test_tasks = held_out
    counts = test_attributes.sum(axis=0)[:, None]
    change = (test_attributes.T @ predicted - test_attributes.T @ test_tasks) / counts
    return float(np.mean(sign * change))


def amplification(
    is_first: NDArray[np.bool_], label: NDArray[np.int64], predicted: NDArray[np.float64] | NDArray[np.int64]
) -> float:
    """Return the same for two groups and a class that goes with the first: half the growth of the gap between base rates.

    Args:
        is_first: whether a sentence is of the first group, ``[sentences]``.
        label: 1 for the class in question, ``[sentences]``.
        predicted: likewise, or its probability.
    """
    growth = predicted - label
    return float(growth[is_first].mean() - growth[~is_first].mean()) / 2


def permuted_amplification(
    is_first: NDArray[np.bool_], label: NDArray[np.int64], predicted: NDArray[np.int64], permutations: int, seed: int
) -> NDArray[np.float64]:
    """Return BiasAmp with predictions shuffled among the sentences of a class: as accurate, and blind to the group.

    Of the shuffled predictions only the number of positive ones in each group matters, which is hypergeometric.

    Args:
        is_first: as in :func:`amplification`.
        label: likewise.
        predicted: likewise, 0 or 1.
        permutations: how many.
        seed: of the draws.
    """
    random, sizes = np.random.default_rng(seed), (is_first.sum(), (~is_first).sum())
    positive = np.zeros((2, permutations))
    for value in (0, 1):
        rows = label == value
        in_first, all_positive = int((rows & is_first).sum()), int(predicted[rows].sum())
        drawn = random.hypergeometric(all_positive, int(rows.sum()) - all_positive, in_first, permutations)
        positive += [drawn, all_positive - drawn]
    base = [label[is_first].mean(), label[~is_first].mean()]
    return np.asarray((positive[0] / sizes[0] - base[0] - positive[1] / sizes[1] + base[1]) / 2)


def assign(label: NDArray[np.int64], skew: float, seed: int) -> NDArray[np.bool_]:
    """Return for which sentences the first group's marker stands, so that groups and labels have the skew's odds ratio."""
    shares = cell_shares(skew, float(np.clip(label.mean(), 1e-6, 1 - 1e-6)))
    random, is_first = np.random.default_rng([seed, 5]), np.zeros(len(label), dtype=bool)
    for value in (0, 1):
        rows = np.flatnonzero(label == value)
        wanted = round(len(rows) * shares[0, value] / shares[:, value].sum())
        is_first[random.permutation(rows)[:wanted]] = True
    return is_first


class Bayes(NamedTuple):
    """What the best decision from marker and text does."""

    rate_gap: float  # on balanced test data
    amplification: float  # on test data with the training skew


def bayes(text_accuracy: float, skew: float) -> Bayes:
    """Return what a Bayes-optimal decision does that sees the marker, and text that decides alone with ``text_accuracy``.

    The text's evidence is normal with unit variance, its mean ``+-mu`` by class, ``mu = Phi^-1(text_accuracy)``. The marker
    shifts the log odds by ``log(p / (1 - p))``, which moves the threshold by that over ``2 mu``.

    Args:
        text_accuracy: in (0.5, 1).
        skew: p, in [0.5, 1).
    """
    mu = max(float(norm.ppf(np.clip(text_accuracy, 0.5, 1 - 1e-9))), 1e-9)
    shift = np.log(skew / (1 - skew)) / (2 * mu)
    positive = {(g, y): norm.cdf((1 if y else -1) * mu + (1 if g == 0 else -1) * shift) for g in (0, 1) for y in (0, 1)}
    gap = (positive[0, 1] - positive[1, 1] + positive[0, 0] - positive[1, 0]) / 2
    first = skew * positive[0, 1] + (1 - skew) * positive[0, 0] - skew
    second = (1 - skew) * positive[1, 1] + skew * positive[1, 0] - (1 - skew)
    return Bayes(float(gap), float(first - second) / 2)


def text_accuracy(by_group: list[tuple[NDArray[np.int64], NDArray[np.float64]]]) -> float:
    """Return how well the scores would tell the classes apart within a group, at the best threshold, in :func:`bayes`' model.

    From the area under the curve, mean over groups, which the marker's shift does not touch: two normal distributions that are
    ``2 mu`` apart have the area ``Phi(sqrt(2) mu)``.

    Args:
        by_group: labels and scores, ``[sentences]`` each.
    """
    area = float(np.mean([roc_auc_score(label, score) for label, score in by_group]))
    return float(norm.cdf(norm.ppf(np.clip(area, 0.5, 1 - 1e-9)) / np.sqrt(2)))


def _error(is_first: NDArray[np.bool_], label: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    return float((label != predicted).mean())


def _base_gap(is_first: NDArray[np.bool_], label: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """``P(y = 1 | first) - P(y = 1 | second)``; of a skew p with equal classes ``2p - 1``."""
    return float(label[is_first].mean() - label[~is_first].mean())
