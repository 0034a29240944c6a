"""Association tests against closed forms, brute force and what must hold."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from frostline.measures.association import association, differences, effect_size, permutation_p

UNIT = np.eye(4)


def test_targets_that_are_told_apart_wholly_have_the_largest_effect_and_the_least_p() -> None:
    scores = np.repeat([1.0, -1.0], 8)
    assert effect_size(scores).mean == pytest.approx(1.9365, abs=5e-5)
    assert permutation_p(scores) == pytest.approx(1 / 12870)


def test_targets_that_change_places_change_the_sign() -> None:
    x, y, a, b = np.random.default_rng(0).normal(size=(4, 6, 10))
    forth, back = association(x, y, a, b), association(y, x, a, b)
    assert forth[0].mean == pytest.approx(-back[0].mean)
    assert association(x, y, b, a)[0].mean == pytest.approx(-forth[0].mean)
    assert forth[1] + back[1] == pytest.approx(1 + 1 / math.comb(12, 6), abs=1e-9)  # the observed division counts in both


def test_differences_are_of_mean_cosines() -> None:
    words, a, b = np.random.default_rng(1).normal(size=(3, 5, 7))
    for row, found in zip(words, differences(words, a, b), strict=True):
        of = [[row @ other / np.linalg.norm(row) / np.linalg.norm(other) for other in side] for side in (a, b)]
        assert found == pytest.approx(np.mean(of[0]) - np.mean(of[1]))


def test_the_exact_p_is_that_of_every_division() -> None:
    scores = np.random.default_rng(2).normal(size=10)
    sums = [sum(scores[list(rows)]) - sum(np.delete(scores, rows)) for rows in itertools.combinations(range(10), 5)]
    observed = scores[:5].sum() - scores[5:].sum()
    assert permutation_p(scores) == pytest.approx(np.mean(np.array(sums) >= observed - 1e-9))


def test_a_sampled_p_is_near_the_exact_one_and_never_0() -> None:
    random = np.random.default_rng(3)
    scores = np.concatenate([random.normal(0.5, 1, 8), random.normal(0, 1, 8)])
    exact = permutation_p(scores, 12870)
    assert permutation_p(scores, 12000) == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 12000) + 1e-4)
    assert permutation_p(np.repeat([1.0, -1.0], 25), 1000) == pytest.approx(1 / 1000)


def test_over_random_targets_p_is_a_half_on_average() -> None:
    random = np.random.default_rng(4)
    ps = [permutation_p(random.normal(size=16)) for _ in range(400)]
    assert np.mean(ps) == pytest.approx(0.5, abs=4 * 0.29 / np.sqrt(400))


def test_equal_vectors_are_associated_with_nothing() -> None:
    same = np.tile(UNIT[0], (4, 1))
    effect, p = association(same, same, same, same)
    assert effect.mean == 0 and p == 1


def test_the_interval_holds_the_effect() -> None:
    scores = np.random.default_rng(5).normal(size=16)
    effect = effect_size(scores)
    assert effect.low < effect.mean < effect.high
    assert max(abs(effect.low), abs(effect.high)) <= 1.9365 + 1e-4
