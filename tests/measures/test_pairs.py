"""Pairs of texts made by rule, and what is read off them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from frostline.errors import FrostlineError
from frostline.measures.pairs import EXCHANGED, cosines, make_pairs, rank_correlation, reciprocal_ranks

TEXTS = [" ".join(f"w{i}.{j}" for j in range(8 + i % 9)) for i in range(60)]


def test_likeness_is_the_share_of_words_that_stayed() -> None:
    pairs = make_pairs(TEXTS, 50, seed=0)
    assert len(pairs.sentences) == len(pairs.changed) == len(pairs.likeness) == 50
    for own, changed, likeness in zip(pairs.sentences, pairs.changed, pairs.likeness, strict=True):
        words, new = own.split(), changed.split()
        assert len(words) == len(new)
        assert np.mean([a == b for a, b in zip(words, new, strict=True)]) == pytest.approx(likeness)
    assert {round(1 - x, 1) for x in pairs.likeness} >= {0.0, 0.5, 1.0}
    assert (pairs.likeness == 1).sum() == 50 // len(EXCHANGED)


def test_halves_make_the_whole() -> None:
    pairs = make_pairs(TEXTS, 50, seed=0)
    assert [f"{a} {b}" for a, b in zip(*pairs.halves, strict=True)] == pairs.sentences


def test_pairs_are_a_function_of_the_seed() -> None:
    first, again, other = (make_pairs(TEXTS, 50, seed=seed) for seed in (0, 0, 1))
    assert first.changed == again.changed and first.changed != other.changed


def test_too_few_long_sentences_are_refused() -> None:
    with pytest.raises(FrostlineError, match="at least 20 texts of 8 words or more, but there are 5"):
        make_pairs([*TEXTS[:5], *["too short"] * 100], 50, seed=0)


def test_correlation_is_spearmans() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, 4)), random.normal(size=(30, 4))
    found = cosines(x, y)
    expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(found, expected)
    likeness = random.random(30)
    assert rank_correlation(found, likeness) == pytest.approx(stats.spearmanr(expected, likeness).statistic)
    assert rank_correlation(np.ones(30), likeness) == 0


def test_a_half_that_is_nearest_to_its_own_has_rank_1() -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=(20, 6))
    assert (reciprocal_ranks(first, 3 * first) == 1).all()
    swapped = reciprocal_ranks(np.eye(4), np.eye(4)[[1, 0, 2, 3]])
    assert swapped.tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1])  # behind one, tied with two others: rank 1 + 1 + 2 / 2
    np.testing.assert_allclose(reciprocal_ranks(np.ones((5, 2)), np.ones((5, 2))), 1 / 3)  # all tied: the middle rank
