"""``measure=overfitting``: how much better a run does on what it has seen.

Gaps are measured in the loss first: accuracy on training sentences soon saturates (methods notes, 3). What happens over training
is in ``curves.csv``; how the gap depends on the number of sentences is seen from a sweep over ``data.train_size``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from frostline.data.corruptions import CLEAN
from frostline.measures.statistics import Interval, hierarchical_bootstrap
from frostline.measures.subject import Subject
from frostline.measures.table import MeasureTable
from frostline.runs.curves import read_epochs
from frostline.runs.reading import read_metrics
from frostline.schema import OverfittingMeasure


def measure_overfitting(subject: Subject, config: OverfittingMeasure) -> pd.DataFrame:
    """Compare a run on its training and on its validation sentences, as its best epoch left it, without dropout.

    Args:
        subject: the run.
        config: nothing to choose.

    Returns:
        the measure's table.
    """
    table = MeasureTable("overfitting")
    splits = ("train", "validation")
    logits = subject.logits(subject.adapted, {split: subject.tokens(split) for split in splits})
    labels = {split: subject.labels(split) for split in splits}
    losses = {split: F.cross_entropy(logits[split], labels[split], reduction="none").numpy() for split in splits}
    correct = {split: (logits[split].argmax(dim=1) == labels[split]).numpy() for split in splits}
    sizes = {split: len(labels[split]) for split in splits}
    for split in splits:
        table.add(f"{split}_loss", float(losses[split].mean()), null=float(np.log(subject.classes)), n=sizes[split])
        table.add(
            f"{split}_accuracy", hierarchical_bootstrap(correct[split][None]), null=_majority(labels[split]), n=sizes[split]
        )
    table.add("loss_gap", welch_difference(losses["validation"], losses["train"]), null=0.0, n=sizes["train"])
    gap = welch_difference(correct["train"].astype(float), correct["validation"].astype(float))
    table.add("accuracy_gap", gap, null=0.0, n=sizes["train"])
    trained = read_metrics(subject.run_dir).get("trained_parameters")
    if trained is not None:
        table.add("parameters_per_sentence", trained / sizes["train"], n=sizes["train"])
    _over_time(table, subject)
    _memorised(table, subject, logits["train"], labels["train"], correct["validation"])
    return table.frame()


def welch_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> Interval:
    """Return ``mean(a) - mean(b)`` of independent sentences with Welch's 95 % interval.

    Args:
        a: ``[sentences]``.
        b: ``[sentences']``.
    """
    difference = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2 or a.std() + b.std() == 0:
        return Interval(difference, difference, difference)
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return Interval(difference, float(low), float(high))


def _over_time(table: MeasureTable, subject: Subject) -> None:
    """When validation was best, and how much worse it got."""
    epochs = read_epochs(subject.run_dir / "curves.csv")
    if epochs.empty:
        return
    best = int(epochs["validation_loss"].argmin())
    table.add("epochs", len(epochs))
    table.add("epochs_to_best_loss", best + 1)
    table.add("validation_loss_rise", float(epochs["validation_loss"].iloc[-1] - epochs["validation_loss"].iloc[best]), null=0.0)


def _memorised(table: MeasureTable, subject: Subject, logits: Tensor, labels: Tensor, generalises: NDArray[np.bool_]) -> None:
    """Which wrong training labels the run reproduces: by chance it would only where it errs anyway."""
    train = subject.data.splits["train"]
    if CLEAN not in train.column_names:
        return
    clean = torch.tensor(train[CLEAN][:])
    wrong = labels != clean
    if not wrong.any():
        return
    predicted = logits.argmax(dim=1)[wrong]
    by_chance = (1 - generalises.mean()) / (subject.classes - 1)
    memorised = (predicted == labels[wrong]).numpy()
    recovered = (predicted == clean[wrong]).numpy()
    table.add("memorised_wrong_labels", hierarchical_bootstrap(memorised[None]), null=float(by_chance), n=len(memorised))
    table.add("recovered_clean_labels", hierarchical_bootstrap(recovered[None]), null=float(generalises.mean()), n=len(recovered))


def _majority(labels: Tensor) -> float:
    return float(torch.bincount(labels).max() / len(labels))
