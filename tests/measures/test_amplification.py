"""Amplification against closed forms, simulated classifiers and the published formula written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from frostline.measures.amplification import (
    Swapped,
    _rates,
    amplification,
    assign,
    bayes,
    directional_amplification,
    permuted_amplification,
    text_accuracy,
)

Bits = NDArray[np.int64]


def skewed(n: int, p: float, random: np.random.Generator) -> tuple[NDArray[np.bool_], Bits]:
    """Half of ``n`` sentences of the first group, a share p of them positive; of the others 1 - p."""
    is_first = np.arange(n) < n // 2
    order = np.arange(n // 2) < round(p * (n // 2))
    return is_first, np.concatenate([order, ~order]).astype(np.int64)


@pytest.mark.parametrize(("p", "error"), [(0.9, 0.3), (0.8, 0.15), (0.6, 0.4)])
def test_a_group_blind_classifier_seems_to_dampen_and_has_no_excess(p: float, error: float) -> None:
    n, draws = 2000, np.random.default_rng(0)
    is_first, label = skewed(n, p, draws)
    found = []
    for _ in range(200):
        predicted = np.where(draws.random(n) < error, 1 - label, label)
        found.append(amplification(is_first, label, predicted))
    spread = np.std(found)
    assert np.mean(found) == pytest.approx(-error * (2 * p - 1), abs=3 * spread / np.sqrt(200) + 1e-9)
    assert abs(found[0] + error * (2 * p - 1)) < 4 * spread
    if (p, error) == (0.9, 0.3):
        assert -error * (2 * p - 1) == pytest.approx(-0.240)


@pytest.mark.parametrize("n", [500, 2000])
def test_the_spread_of_the_group_blind_null_is_as_tabulated(n: int) -> None:
    draws, tabulated = np.random.default_rng(1), {500: 0.017, 2000: 0.008}
    is_first, label = skewed(n, 0.8, draws)
    found = [amplification(is_first, label, np.where(draws.random(n) < 0.15, 1 - label, label)) for _ in range(400)]
    assert np.std(found) == pytest.approx(tabulated[n], abs=0.0016)


def test_on_balanced_test_data_amplification_is_a_quarter_of_the_two_gaps() -> None:
    random = np.random.default_rng(2)
    label = np.repeat([0, 1], 60)
    first, second = random.random((2, 120))
    rates = _rates(Swapped(label, first, second))
    is_first = np.repeat([True, False], 120)
    both = amplification(is_first, np.tile(label, 2), np.concatenate([first > 0.5, second > 0.5]).astype(np.int64))
    assert both == pytest.approx(0.25 * (rates.true_positive_gap + rates.false_positive_gap), abs=1e-12)
    assert rates.amplification == pytest.approx(both, abs=1e-12)


def test_the_directional_measure_is_the_published_formula() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        a, t = random.integers(0, 2, (50, 3)), random.integers(0, 2, (50, 4))
        test_a, test_t, said = random.integers(0, 2, (40, 3)), random.integers(0, 2, (40, 4)), random.integers(0, 2, (40, 4))
        total = 0.0
        for i in range(3):
            for j in range(4):
                joint = np.mean((a[:, i] == 1) & (t[:, j] == 1))
                independent = a[:, i].mean() * t[:, j].mean()
                delta = said[test_a[:, i] == 1, j].mean() - test_t[test_a[:, i] == 1, j].mean()
                sign = 0 if abs(joint - independent) < 1e-12 else 1 if joint > independent else -1
                total += sign * delta
        assert directional_amplification(a, t, said, (test_a, test_t)) == pytest.approx(total / 12, abs=1e-12)


def test_two_groups_are_the_case_of_one_attribute_for_each() -> None:
    random = np.random.default_rng(4)
    is_first, label = skewed(400, 0.7, random)
    said = random.integers(0, 2, 400)
    attributes, tasks = np.stack([is_first, ~is_first], axis=1).astype(np.int64), label[:, None]
    assert amplification(is_first, label, said) == pytest.approx(
        directional_amplification(attributes, tasks, said[:, None], (attributes, tasks)), abs=1e-12
    )


@pytest.mark.parametrize(
    ("accuracy", "skew", "change", "gap"),
    [
        (0.65, 0.8, 0.173, 0.907),
        (0.75, 0.6, 0.043, 0.189),
        (0.75, 0.8, 0.092, 0.594),
        (0.75, 0.9, 0.073, 0.819),
        (0.85, 0.8, 0.036, 0.312),
        (0.95, 0.8, 0.007, 0.091),
    ],
)
def test_the_bayes_curve_has_the_tabulated_values(accuracy: float, skew: float, change: float, gap: float) -> None:
    found = bayes(accuracy, skew)
    assert found.amplification == pytest.approx(change, abs=6e-4)
    assert found.rate_gap == pytest.approx(gap, abs=6e-4)


def test_the_bayes_curve_is_what_the_best_decision_on_simulated_evidence_does() -> None:
    random, n, p, accuracy = np.random.default_rng(5), 400_000, 0.7, 0.8
    mu = norm.ppf(accuracy)
    is_first, label = skewed(n, p, random)
    evidence = random.normal(np.where(label == 1, mu, -mu))
    said = (2 * mu * evidence + np.where(is_first, 1, -1) * np.log(p / (1 - p)) > 0).astype(np.int64)
    assert amplification(is_first, label, said) == pytest.approx(bayes(accuracy, p).amplification, abs=0.004)


@pytest.mark.parametrize("accuracy", [0.6, 0.8, 0.95])
def test_without_a_skew_the_best_decision_has_no_gap(accuracy: float) -> None:
    assert bayes(accuracy, 0.5) == pytest.approx((0.0, 0.0), abs=1e-12)


@pytest.mark.parametrize("accuracy", [0.65, 0.8, 0.9])
def test_text_accuracy_is_found_whatever_the_marker_shifts(accuracy: float) -> None:
    random, n = np.random.default_rng(6), 40_000
    label = np.arange(n) % 2
    evidence = random.normal(np.where(label == 1, 1, -1) * norm.ppf(accuracy))
    found = text_accuracy([(label, norm.cdf(evidence + 2)), (label, norm.cdf(evidence - 2))])
    assert found == pytest.approx(accuracy, abs=0.006)


def test_the_permutation_null_keeps_accuracy_and_breaks_the_group() -> None:
    random = np.random.default_rng(7)
    is_first, label = skewed(300, 0.8, random)
    said = np.where(random.random(300) < 0.2, 1 - label, label)
    by_hand = []
    for _ in range(3000):
        shuffled = said.copy()
        for value in (0, 1):
            rows = np.flatnonzero(label == value)
            shuffled[rows] = said[random.permutation(rows)]
        by_hand.append(amplification(is_first, label, shuffled))
    null = permuted_amplification(is_first, label, said, 20_000, seed=0)
    assert null.mean() == pytest.approx(np.mean(by_hand), abs=4 * np.std(by_hand) / np.sqrt(3000))
    assert null.std() == pytest.approx(np.std(by_hand), rel=0.08)


@pytest.mark.parametrize(("share", "skew"), [(0.5, 0.8), (0.3, 0.7), (0.5, 0.5)])
def test_skewed_test_data_has_the_odds_ratio_asked_for(share: float, skew: float) -> None:
    label = (np.arange(4000) < 4000 * share).astype(np.int64)
    is_first = assign(label, skew, seed=0)
    odds = [is_first[label == y].mean() / (1 - is_first[label == y].mean()) for y in (0, 1)]
    assert odds[1] / odds[0] == pytest.approx((skew / (1 - skew)) ** 2, rel=0.02)
    assert is_first.mean() == pytest.approx(0.5, abs=0.002)


def test_rates_by_hand() -> None:
    label = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    first = np.array([0.9, 0.9, 0.9, 0.6, 0.6, 0.6, 0.4, 0.1])  # 4 of 4, 2 of 4 positive
    second = np.array([0.9, 0.9, 0.4, 0.4, 0.4, 0.6, 0.4, 0.1])  # 2 of 4, 1 of 4 positive
    rates = _rates(Swapped(label, first, second))
    assert rates.true_positive_gap == pytest.approx(0.5) and rates.false_positive_gap == pytest.approx(0.25)
    assert rates.rate_gap == pytest.approx(0.375)
    assert rates.accuracy == pytest.approx((4 + 2 + 2 + 3) / 16)
    assert rates.conflicting_accuracy == pytest.approx((2 + 2) / 8)
    assert rates.worst_accuracy == pytest.approx(0.5)
    assert rates.change == pytest.approx((0.5 + 0.2 + 0.2) / 8) and rates.absolute_change == pytest.approx((0.5 + 0.2 + 0.2) / 8)
    assert rates.calibration_gap == pytest.approx(rates.change)
