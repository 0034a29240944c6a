"""Disagreement counted pair by pair, and against the baselines that it must beat."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from frostline.measures.disagreement import churn, cohen_kappa, error_overlap, excess_churn, seed_churn


def test_churn_is_the_mean_over_pairs() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 3, (3, 40)), random.integers(0, 3, (4, 40))
    across = [np.mean(x != y) for x in a for y in b]
    within = [np.mean([np.mean(x != y) for x, y in itertools.combinations(of, 2)]) for of in (a, b)]
    assert churn(a, b) == pytest.approx(np.mean(across))
    assert seed_churn(a) == pytest.approx(within[0])
    assert excess_churn(a, b, shared_seeds=False).mean == pytest.approx(np.mean(across) - sum(within) / 2)
    assert cohen_kappa(a, b) == pytest.approx(np.mean([cohen_kappa_score(x, y) for x in a for y in b]))


def test_where_seeds_are_shared_an_arm_has_no_excess_over_itself() -> None:
    a = np.random.default_rng(1).integers(0, 2, (4, 100))
    assert seed_churn(a) > 0.3
    assert excess_churn(a, a) == (0, 0, 0)
    b = np.random.default_rng(2).integers(0, 2, (4, 100))
    different = [np.mean(a[i] != b[j]) for i in range(4) for j in range(4) if i != j]
    assert excess_churn(a, b).mean == pytest.approx(np.mean(different) - (seed_churn(a) + seed_churn(b)) / 2)


def test_the_interval_covers_the_excess_of_methods_that_differ_on_a_tenth_of_the_sentences() -> None:
    random, covered = np.random.default_rng(3), []
    for i in range(300):
        truth = random.integers(0, 2, 300)
        a, b = (truth ^ (random.random((3, 300)) < 0.15) for _ in range(2))
        b = b ^ (random.random(300) < 0.1)  # what the method adds is the same in all seeds
        own = 2 * 0.15 * 0.85
        excess = excess_churn(a, b, resamples=500, seed=i)
        covered.append(excess.low <= 0.1 * (1 - 2 * own) <= excess.high)
    assert 0.91 <= np.mean(covered) <= 0.98


def test_one_seed_has_no_baseline() -> None:
    one, two = np.array([[0, 1, 1]]), np.array([[0, 1, 1], [1, 1, 1]])
    assert np.isnan(seed_churn(one))
    assert np.isnan(excess_churn(one, two, shared_seeds=False)).all()
    assert churn(one, two) == pytest.approx(1 / 6)
    with pytest.raises(ValueError, match="as many seeds"):
        excess_churn(one, two)
    with pytest.raises(ValueError, match="same sentences"):
        churn(two, two[:, :2])


def test_kappa_of_full_of_no_and_of_meaningless_agreement(recwarn: pytest.WarningsRecorder) -> None:
    a = np.array([[0, 1, 0, 1]])
    assert cohen_kappa(a, a) == 1
    assert cohen_kappa(a, np.array([[0, 0, 1, 1]])) == 0
    assert np.isnan(cohen_kappa(a * 0, a * 0))
    assert not recwarn.list


def test_independent_errors_overlap_as_expected_and_shared_ones_more() -> None:
    random = np.random.default_rng(4)
    a, b = random.random((3, 50_000)) > 0.2, random.random((2, 50_000)) > 0.3
    overlap = error_overlap(a, b)
    assert overlap.expected == pytest.approx(0.06, abs=2e-3)
    assert overlap.both_wrong == pytest.approx(overlap.expected, abs=2e-3)
    shared = error_overlap(a, a)
    pairs = [np.mean(~x & ~y) for x in a for y in a]
    assert shared.both_wrong == pytest.approx(np.mean(pairs))
    assert shared.both_wrong > 1.5 * shared.expected
