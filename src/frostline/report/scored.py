"""What an arm's chosen runs predict, sentence by sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from frostline.report.arms import Arm, names
from frostline.runs.reading import read_predictions

PREDICTED = {"split", "index", "text", "text_pair", "label", "prediction"}  # the columns that are no property of the sentence
LOGIT = "logit_"


@dataclass(frozen=True, eq=False)
class Scored:
    """One split under all seeds of an arm.

    Attributes:
        sentences: a row a sentence: ``index``, ``text`` (and ``text_pair``), ``label`` (the class's name), and what else is known
            of it.
        labels: class numbers, ``[sentences]``.
        classes: their names.
        logits: ``[seeds, sentences, classes]``, float64.
        seeds: of the rows of ``logits``.
    """

    sentences: pd.DataFrame
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    logits: NDArray[np.float64]
    seeds: tuple[int, ...]

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """``[seeds, sentences, classes]``."""
        return np.asarray(softmax(self.logits, axis=2))

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """``[seeds, sentences]``."""
        return np.asarray(self.logits.argmax(axis=2))

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """``[seeds, sentences]``."""
        return np.asarray(self.predictions == self.labels)

    @cached_property
    def nll(self) -> NDArray[np.float64]:
        """Negative log-likelihood of the label, nats, ``[seeds, sentences]``."""
        return -np.asarray(log_softmax(self.logits, axis=2))[:, np.arange(len(self.labels)), self.labels]

    @cached_property
    def brier(self) -> NDArray[np.float64]:
        """Brier score, squares summed over classes (0 … 2), ``[seeds, sentences]``."""
        return np.asarray(((self.probabilities - np.eye(len(self.classes))[self.labels]) ** 2).sum(axis=2))

    @property
    def texts(self) -> list[str]:
        """The sentences, a pair as two lines."""
        pairs = self.sentences.get("text_pair")
        texts = [str(text) for text in self.sentences["text"]]
        return texts if pairs is None else [f"{text}\n{pair}" for text, pair in zip(texts, pairs, strict=True)]


def read_scored(sweep_dir: Path, arms: Sequence[Arm], split: str) -> dict[str, Scored]:
    """Return, by an arm's name, what its chosen runs predict for ``split``; without arms whose seeds have different sentences.

    Raises:
        FrostlineError: a ``predictions.parquet`` is damaged.
    """
    found = {}
    for name, arm in zip(names(arms), arms, strict=True):
        tables = [_read(sweep_dir / run / "predictions.parquet", split) for run in arm.runs]
        first = tables[0]
        if first is None or any(t is None or not t[["index", "text"]].equals(first[["index", "text"]]) for t in tables):
            continue
        columns = [str(column) for column in first if str(column).startswith(LOGIT)]
        classes = tuple(column.removeprefix(LOGIT) for column in columns)
        labels = first["label"].to_numpy(dtype=np.int64, copy=True)
        known = [column for column in first if column not in {*columns, *PREDICTED}]
        shown = [column for column in ("index", "text", "text_pair") if column in first]
        sentences = first[shown].assign(label=[classes[i] for i in labels])
        logits = np.stack([table[columns].to_numpy(dtype=np.float64) for table in tables if table is not None])
        found[name] = Scored(pd.concat([sentences, first[known]], axis=1), labels, classes, logits, arm.seeds)
    return found


def on_the_same_sentences(scored: dict[str, Scored], best: str | None) -> dict[str, Scored]:
    """Return the arms that were scored on the very sentences of the best arm (of the first, if it was not scored)."""
    if not scored:
        return {}
    reference = scored[best if best in scored else next(iter(scored))]
    keys = ["index", "text"]
    return {
        name: of
        for name, of in scored.items()
        if of.classes == reference.classes and of.sentences[keys].equals(reference.sentences[keys])
    }


def _read(path: Path, split: str) -> pd.DataFrame | None:
    """The rows of one split in the order of their index; None if there are none."""
    if not path.is_file():
        return None
    table = read_predictions(path, filters=[("split", "==", split)])
    return None if table.empty else table.sort_values("index").reset_index(drop=True)
