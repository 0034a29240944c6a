"""On which kinds of sentences a model errs more than on others: kinds that were declared before looking (methods notes, 9.5).

A slice is a column of truth values over the test sentences. Those that are found in the errors themselves are in
:mod:`frostline.measures.found_slices`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frostline.data.corruptions import CLEAN
from frostline.data.markers import UNMARKED
from frostline.measures.comparisons import holm, two_sided_p
from frostline.measures.statistics import resampled_means
from frostline.words import read_words

FEWEST = 30  # sentences of a slice: for fewer no number is given
MANY_UNKNOWN = 0.1  # share of unknown words
OWN_VALUES = 10  # a column of numbers with more distinct ones is cut into thirds
# what is no column of the user's, or has slices of its own
KNOWN = {"text", "text_pair", "label", "prediction", "index", "split", "rating", "judgements", "unknown_words", UNMARKED, CLEAN}


def declared_slices(sentences: pd.DataFrame, length_bounds: tuple[int, int] | None = None) -> pd.DataFrame:
    """Return in which slices each sentence is.

    Length in words, negation, contrast, questions and exclamations are read off the text; how strongly it is rated (``rating``,
    in -4 … 4) and whether it has many unknown words (``unknown_words``, a share) where there are such columns. Of every other
    column each value with at least 30 sentences is a slice, or each third of its numbers. What no sentence or every sentence is
    in is left out.

    Args:
        sentences: a row a sentence, with ``text`` and perhaps ``text_pair`` and further columns.
        length_bounds: the most words of a short and of a medium sentence; None for thirds of these sentences.

    Returns:
        Truth values, ``[sentences, slices]``, with the index of ``sentences``; the columns' names say what the slices are.
    """
    found = dict(_length(words_of(sentences), length_bounds)) | wording(sentences)
    if "rating" in sentences:
        strength = sentences["rating"].abs()
        found |= {"weak rating (|r| < 1)": strength < 1, "strong rating (|r| > 2)": strength > 2}
    if "unknown_words" in sentences:
        found["many unknown words (> 10 %)"] = sentences["unknown_words"] > MANY_UNKNOWN
    for name, values in own_columns(sentences).items():
        found |= thirds(name, values) if has_many_numbers(values) else values_of(name, values)
    table = pd.DataFrame(found, index=sentences.index, dtype=bool)
    return table.loc[:, table.any() & ~table.all()]


def words_of(sentences: pd.DataFrame) -> pd.Series[int]:
    """Return the number of words of each sentence, both texts of a pair."""
    return _texts(sentences).map(lambda text: len(text.split()))


def wording(sentences: pd.DataFrame) -> dict[str, pd.Series[bool]]:
    """Return which sentences have a negation, a contrast, a question mark or an exclamation mark."""
    texts = _texts(sentences)
    return {name: texts.str.contains(pattern) for name, pattern in _patterns().items()}


def own_columns(sentences: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    """Return the columns that are the user's own and hold one value a sentence."""
    names = [str(name) for name in sentences if name not in KNOWN and not str(name).startswith("logit_")]
    return {name: sentences[name] for name in names if not sentences[name].map(pd.api.types.is_list_like).any()}


def has_many_numbers(values: pd.Series[Any]) -> bool:
    """Return whether a column holds so many distinct numbers that they are amounts and not kinds."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values) and values.nunique() > OWN_VALUES


def thirds(name: str, values: pd.Series[Any]) -> dict[str, pd.Series[bool]]:
    """Return the thirds of a column of numbers, by what they are."""
    first, second = values.quantile([1 / 3, 2 / 3], interpolation="lower")
    return {
        f"{name} <= {first:.4g}": values <= first,
        f"{first:.4g} < {name} <= {second:.4g}": (values > first) & (values <= second),
        f"{name} > {second:.4g}": values > second,
    }


def values_of(name: str, values: pd.Series[Any]) -> dict[str, pd.Series[bool]]:
    """Return where each value of a column stands that at least 30 sentences have; missing values are none."""
    counts = values.value_counts()
    return {f"{name} = {value}": values == value for value in counts.index[counts >= FEWEST]}


def slice_scores(correct: NDArray[Any], slices: pd.DataFrame, resamples: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Return how well each slice is classified, and how much better or worse than all other sentences.

    Intervals are 95 % percentile bootstraps over seeds and sentences, with one right and one wrong sentence added to the slice
    and to the rest (Agresti & Caffo 2000): without them 30 sentences that are all right would have an interval of no width, and
    would differ from a rest of 97 % beyond any doubt. Means are those of the real sentences.

    Args:
        correct: whether each sentence was classified correctly, ``[seeds, sentences]``.
        slices: truth values, ``[sentences, slices]``.
        resamples: of the bootstrap.
        seed: of the resampling.

    Returns:
        A row a slice: ``slice, n, accuracy, low, high, difference, difference_low, difference_high, p, p_holm``. The difference
        is that to the sentences that are not in the slice, ``p`` its two-sided bootstrap p-value, ``p_holm`` that corrected for
        the number of slices. All but ``n`` is missing for slices of fewer than 30 sentences, and the difference where the rest
        is that small.

    Raises:
        ValueError: the two are not of the same sentences.
    """
    table = np.asarray(correct, dtype=bool)
    if table.ndim != 2 or table.shape[1] != len(slices):
        raise ValueError(f"expected the same sentences, but the shapes are {table.shape} and {slices.shape}")
    rows = [{"slice": name, **_score(table, slices[name].to_numpy(dtype=bool), resamples, seed)} for name in slices]
    columns = ["slice", "n", "accuracy", "low", "high", "difference", "difference_low", "difference_high", "p"]
    scores = pd.DataFrame(rows, columns=columns)
    ps = scores["p"].dropna()
    return scores.assign(p_holm=pd.Series(holm(ps.to_numpy(dtype=np.float64)), index=ps.index))


def _score(correct: NDArray[np.bool_], inside: NDArray[np.bool_], resamples: int, seed: int) -> dict[str, float]:
    """What is said of one slice."""
    n, rest = int(inside.sum()), int((~inside).sum())
    if n < FEWEST:
        return {"n": n}
    added = np.broadcast_to([True, False, True, False], (len(correct), 4))
    right = np.concatenate([correct, added], axis=1)
    member = np.broadcast_to(np.concatenate([inside, [True, True, False, False]]), right.shape)
    scores = np.stack([right & member, right & ~member, member]).astype(np.float64)
    right_inside, right_outside, share = resampled_means(scores, resamples, seed=seed).T
    of = right_inside / share
    low, high = np.quantile(of, [0.025, 0.975])
    found = {"n": n, "accuracy": correct[:, inside].mean(), "low": low, "high": high}
    if rest < FEWEST:
        return found
    differences = of - right_outside / (1 - share)
    low, high = np.quantile(differences, [0.025, 0.975])
    difference = found["accuracy"] - correct[:, ~inside].mean()
    p = two_sided_p(differences)
    return found | {"difference": difference, "difference_low": low, "difference_high": high, "p": p}


def _texts(sentences: pd.DataFrame) -> pd.Series[str]:
    return sentences["text"] + " " + sentences["text_pair"] if "text_pair" in sentences else sentences["text"]


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """What is looked for in a text."""
    found = {}
    for name, of in read_words("slices").items():
        whole = "|".join(re.escape(word) for word in of["words"] if word != "n't")
        found[name] = re.compile(rf"\b(?:{whole})\b" + (r"|n['’]t\b" if "n't" in of["words"] else ""), re.IGNORECASE)
    return found | {"question": re.compile(r"\?"), "exclamation": re.compile("!")}


def _length(words: pd.Series[int], bounds: tuple[int, int] | None) -> Iterator[tuple[str, pd.Series[bool]]]:
    short, medium = bounds or (int(bound) for bound in np.quantile(words, [1 / 3, 2 / 3], method="inverted_cdf"))
    yield f"short (up to {short} words)", words <= short
    yield f"medium ({short + 1} to {medium} words)", (words > short) & (words <= medium)
    yield f"long (over {medium} words)", words > medium
