"""``predictions.parquet``: a row an evaluated sentence."""

from __future__ import annotations

import re
from collections.abc import Set

import datasets
import numpy as np
import pandas as pd
from numpy.typing import NDArray

TOLD = ("text", "text_pair", "label")  # columns of the sentences that every table begins with


def prediction_table(
    split: str,
    sentences: datasets.Dataset,
    logits: NDArray[np.float64],
    class_names: list[str],
    known_words: Set[str] | None = None,
) -> pd.DataFrame:
    """Return the rows of one split: ``split, index, text, [text_pair], label, prediction, logit_<class> …``.

    Then come ``unknown_words``, the share of a sentence's words that are not among ``known_words`` (0 for a sentence without
    words), and what else the data say of every sentence (:func:`said_of`).

    Args:
        split: ``validation`` or ``test``.
        sentences: the split's sentences with their labels.
        logits: ``[sentences, classes]``, in the same order.
        class_names: in the order of the logits.
        known_words: those of the training sentences, from :func:`words_in`; None leaves ``unknown_words`` out.
    """
    table = told(sentences)
    table.insert(0, "split", split)
    table["prediction"] = logits.argmax(axis=1)
    columns = {f"logit_{name}": logits[:, i] for i, name in enumerate(class_names)}
    if known_words is not None:
        columns["unknown_words"] = np.array([_unknown(words, known_words) for words in _words(sentences)], dtype=np.float64)
    return pd.concat([table, pd.DataFrame(columns), said_of(sentences)], axis=1)


def told(sentences: datasets.Dataset) -> pd.DataFrame:
    """Return ``index, text, [text_pair], label`` of every sentence."""
    columns = {name: sentences[name][:] for name in TOLD if name in sentences.column_names}
    return pd.DataFrame({"index": np.arange(len(sentences)), **columns})


def said_of(sentences: datasets.Dataset) -> pd.DataFrame:
    """Return what else the data say of every sentence, one value a column: ratings, groups, the user's kept columns."""
    names = [n for n, kind in sentences.features.items() if n not in TOLD and isinstance(kind, datasets.Value)]
    return pd.DataFrame({name: sentences[name][:] for name in names}, index=range(len(sentences)))


def words_in(sentences: datasets.Dataset) -> set[str]:
    """Return all different words of some sentences (and of their pairs), in lower case."""
    return {word for words in _words(sentences) for word in words}


def _words(sentences: datasets.Dataset) -> list[list[str]]:
    texts = [sentences[name][:] for name in ("text", "text_pair") if name in sentences.column_names]
    return [re.findall(r"\w+", " ".join(parts).lower()) for parts in zip(*texts, strict=True)]


def _unknown(words: list[str], known: Set[str]) -> float:
    return sum(word not in known for word in words) / max(1, len(words))
