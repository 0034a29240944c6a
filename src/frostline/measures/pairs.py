"""What a sentence encoder was pretrained for: which texts mean the same. Pairs made by rule, from any sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from frostline.errors import FrostlineError
from frostline.measures.shape import unit_rows

EXCHANGED = (0.0, 0.1, 0.25, 0.5, 1.0)  # shares of the words
LEAST_WORDS, LEAST_PAIRS = 8, 20


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts.

    Attributes:
        sentences: the first of each pair.
        changed: the same sentences with some of their words exchanged for those of another sentence, in another order.
        likeness: the share of words that were kept, ``[sentences]``.
        halves: the first and the second half of each sentence's words.
    """

    sentences: list[str]
    changed: list[str]
    likeness: NDArray[np.float64]
    halves: tuple[list[str], list[str]]


def make_pairs(texts: Sequence[str], sentences: int, seed: int) -> Pairs:
    """Make pairs from the sentences of at least 8 words.

    Every sentence gets one of five shares of exchanged words, equally often: the words come from another sentence, so that a
    share of 1 is a random pair.

    Args:
        texts: sentences.
        sentences: at most so many.
        seed: draws everything that is drawn.

    Raises:
        FrostlineError: fewer than 20 sentences are long enough.
    """
    random = np.random.default_rng(seed)
    usable = [text.split() for text in dict.fromkeys(texts) if len(text.split()) >= LEAST_WORDS]
    if len(usable) < LEAST_PAIRS:
        raise FrostlineError(
            f"pairs of sentences need at least {LEAST_PAIRS} texts of {LEAST_WORDS} words or more, but there are {len(usable)}."
        )
    chosen = [usable[i] for i in random.permutation(len(usable))[:sentences]]
    changed, likeness = [], []
    for i, words in enumerate(chosen):
        other = chosen[(i + 1 + int(random.integers(len(chosen) - 1))) % len(chosen)]
        count = round(EXCHANGED[i % len(EXCHANGED)] * len(words))
        new = list(words)
        for place in random.permutation(len(words))[:count]:
            new[place] = other[int(random.integers(len(other)))]
        changed.append(" ".join(new))
        likeness.append(1 - count / len(words))
    halves = ([" ".join(w[: len(w) // 2]) for w in chosen], [" ".join(w[len(w) // 2 :]) for w in chosen])
    return Pairs([" ".join(words) for words in chosen], changed, np.array(likeness), halves)


def cosines(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows, ``[sentences]``, of two spaces ``[sentences, width]``."""
    found: NDArray[np.float64] = (unit_rows(x) * unit_rows(y)).sum(axis=1)
    return found


def rank_correlation(of_pairs: NDArray[np.float64], likeness: NDArray[np.float64]) -> float:
    """Return Spearman's correlation of cosines with likeness, -1 … 1; 0 for cosines that are all equal."""
    if np.ptp(of_pairs) == 0:
        return 0.0
    return float(stats.spearmanr(of_pairs, likeness).statistic)


def reciprocal_ranks(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / rank of each first half's own second half among all by cosine, ``[sentences]``; ties count half."""
    similar = unit_rows(first) @ unit_rows(second).T
    own = np.diag(similar)[:, None]
    ranks = 1 + (similar > own).sum(axis=1) + ((similar == own).sum(axis=1) - 1) / 2
    found: NDArray[np.float64] = 1 / ranks
    return found
