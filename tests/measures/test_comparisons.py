"""Comparisons against SciPy, closed forms and brute force, and by how often they are right."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from frostline.measures.comparisons import (
    aso,
    holm,
    mcnemar,
    min_detectable_difference,
    paired_bootstrap_p,
    seeds_needed,
    seeds_test,
    two_sided_p,
    violation_ratio,
)
from frostline.measures.statistics import paired_difference


def discordant(only_a: int, only_b: int, both: int = 50, neither: int = 20) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    order = np.random.default_rng(0).permutation(len(a))
    return a[order], b[order]


@pytest.mark.parametrize(("only_a", "only_b", "p"), [(7, 7, 1.0), (10, 0, 2 / 2**10), (0, 10, 2 / 2**10), (0, 0, 1.0)])
def test_mcnemar_by_hand(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(*discordant(only_a, only_b)) == (only_a, only_b, pytest.approx(p))


def test_mcnemar_is_the_sum_of_both_tails_whatever_both_models_agree_on() -> None:
    tail = sum(math.comb(17, k) for k in range(5)) / 2**17
    for agreed in (0, 5000):
        assert mcnemar(*discordant(13, 4, both=agreed)).p == pytest.approx(2 * tail)
    with pytest.raises(ValueError, match="same sentences"):
        mcnemar(np.ones(3), np.ones(4))


def test_the_bootstrap_s_p_is_that_of_z_for_many_sentences() -> None:
    random = np.random.default_rng(1)
    a, b = random.random((1, 4000)) < 0.80, random.random((1, 4000)) < 0.785
    difference = a.astype(float) - b
    expected = 2 * stats.norm.sf(abs(difference.mean()) / stats.sem(difference[0]))
    assert 0.01 < expected < 0.5, "the test would show nothing"
    assert paired_bootstrap_p(a, b) == pytest.approx(expected, abs=0.02)
    assert paired_bootstrap_p(b, a) == pytest.approx(expected, abs=0.02)


def test_the_bootstrap_s_p_agrees_with_its_interval_and_is_never_0() -> None:
    random = np.random.default_rng(2)
    for shift in np.linspace(0, 0.12, 13):
        a, b = random.random((3, 400)) < 0.75 + shift, random.random((3, 400)) < 0.75
        assert (paired_bootstrap_p(a, b, 2000) < 0.05) == paired_difference(a, b, 2000).excludes_zero()
    ones = np.ones((1, 50))
    assert paired_bootstrap_p(ones, 0 * ones, resamples=999) == pytest.approx(2 / 1000)
    assert paired_bootstrap_p(ones, ones) == 1
    with pytest.raises(ValueError, match="same seeds and sentences"):
        paired_bootstrap_p(np.ones((2, 5)), np.ones((3, 5)))


def test_the_bootstrap_s_p_counts_as_written() -> None:
    assert two_sided_p(np.array([-1.0, 0.0, 2.0, 3.0, 4.0])) == pytest.approx(2 * (2 + 1) / 6)
    nearly_0 = np.array([1e-17, 1, 2, 3, 4, 5, 6, 7, 8])
    assert two_sided_p(nearly_0) == two_sided_p(-nearly_0) == pytest.approx(2 * (1 + 1) / 10), "a 0 that is off by rounding"


def test_over_500_test_sets_the_paired_bootstrap_covers_the_difference_and_rejects_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    hard = random.random((500, 1, 500))  # sentences are hard for both models
    a, b = (0.7 * hard + 0.3 * random.random(hard.shape) < bound for bound in (0.7, 0.7))
    intervals = [paired_difference(x, y, 1000, seed=i) for i, (x, y) in enumerate(zip(a, b, strict=True))]
    assert 0.93 <= np.mean([i.low <= 0 <= i.high for i in intervals]) <= 0.97
    ps = np.array([paired_bootstrap_p(x, y, 1000, seed=i) for i, (x, y) in enumerate(zip(a, b, strict=True))])
    assert 0.03 <= np.mean(ps < 0.05) <= 0.07
    assert 0.4 <= np.mean(ps < 0.5) <= 0.6


def test_shared_seeds_are_pairs() -> None:
    a, b = {0: 0.80, 1: 0.83, 2: 0.79, 3: 0.85}, {3: 0.82, 2: 0.78, 1: 0.81, 0: 0.79}  # in another order
    x, y = np.array([a[seed] for seed in range(4)]), np.array([b[seed] for seed in range(4)])
    theirs, found = stats.ttest_rel(x, y), seeds_test(a, b)
    low, high = theirs.confidence_interval()
    assert found.difference == pytest.approx((np.mean(x - y), low, high))
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.effect_size == pytest.approx(theirs.statistic / np.sqrt(4))
    assert found.is_paired and found.seeds == (4, 4)
    assert seeds_test(a | {9: 0.1}, b) == found, "a seed that one arm lacks takes no part"


def test_seeds_that_differ_are_compared_by_welch() -> None:
    a, b = {0: 0.80, 1: 0.83, 2: 0.79}, {2: 0.70, 3: 0.82, 4: 0.81, 5: 0.80}
    x, y = list(a.values()), list(b.values())
    theirs, found = stats.ttest_ind(x, y, equal_var=False), seeds_test(a, b)
    assert (found.p, found.is_paired, found.seeds) == (pytest.approx(theirs.pvalue), False, (3, 4))
    assert found.difference[1:] == pytest.approx(tuple(theirs.confidence_interval()))
    assert found.effect_size == pytest.approx((np.mean(x) - np.mean(y)) / np.sqrt((np.var(x, ddof=1) + np.var(y, ddof=1)) / 2))


def test_arms_without_spread_are_not_told_apart_beyond_doubt(recwarn: pytest.WarningsRecorder) -> None:
    same = {0: 0.8, 1: 0.35, 2: 0.1}  # + 0.1 - themselves is 0.1 but for rounding
    assert seeds_test(same, same) == ((0, 0, 0), 1, 0, True, (3, 3))
    ahead = seeds_test({seed: score + 0.1 for seed, score in same.items()}, same)
    assert ahead.difference.mean == pytest.approx(0.1)
    assert np.isnan([ahead.p, ahead.effect_size, ahead.difference.low, ahead.difference.high]).all()
    assert not recwarn.list
    for bad in ({0: 0.8}, {0: 0.8, 1: math.nan}):
        with pytest.raises(ValueError, match="at least two seeds"):
            seeds_test(bad, same)


def test_the_violation_ratio_is_the_integral_over_quantiles() -> None:
    random = np.random.default_rng(4)
    for n, m in ((5, 5), (4, 6), (3, 7), (1, 5)):
        a, b = random.normal(size=n), random.normal(size=m)
        points = np.union1d(np.arange(n + 1) / n, np.arange(m + 1) / m)

        def ahead(t: float, a: np.ndarray = a, b: np.ndarray = b) -> float:
            x, y = (np.sort(of)[math.ceil(t * len(of)) - 1] for of in (a, b))
            return float(y - x)

        pieces = list(itertools.pairwise(points))
        whole = sum(integrate.quad(lambda t: ahead(t) ** 2, *piece)[0] for piece in pieces)
        violated = sum(integrate.quad(lambda t: max(ahead(t), 0) ** 2, *piece)[0] for piece in pieces)
        assert violation_ratio(a, b) == pytest.approx(violated / whole)
        assert violation_ratio(b, a) == pytest.approx(1 - violated / whole)
    many = random.normal(size=(2, 30, 5))
    assert violation_ratio(*many) == pytest.approx([float(violation_ratio(a, b)) for a, b in zip(*many, strict=True)])


def test_almost_stochastic_order_where_it_is_certain() -> None:
    scores = np.random.default_rng(5).normal(size=20)
    assert aso(scores, scores) >= 0.5
    assert aso(np.full(5, 0.8), np.full(5, 0.8)) == 0.5, "equal scores are not 'never worse', as in the published code"
    assert aso(scores + 10, scores) == 0, "better at every quantile"
    assert aso(scores, scores + 10) == 1, "the order of arguments matters"


def test_the_bound_of_almost_stochastic_order_lies_where_its_theory_says() -> None:
    """Of N(0.5, 1) and N(0, 2) the ratio is known by integration; the bound is above it in nearly 95 % of such samples."""
    t = (np.arange(100_000) + 0.5) / 100_000
    ahead = stats.norm.ppf(t) * 2 - (stats.norm.ppf(t) + 0.5)
    true = (np.maximum(ahead, 0) ** 2).sum() / (ahead**2).sum()
    random = np.random.default_rng(6)
    bounds = [aso(random.normal(0.5, 1, 100), random.normal(0, 2, 150), resamples=200, seed=i) for i in range(300)]
    covered = float(np.mean(np.array(bounds) >= true))
    assert 0.89 <= covered <= 0.98, "0.72 with a sigma that is scaled to samples of 1,000"


def test_bounds_that_are_to_hold_for_several_comparisons_are_higher() -> None:
    random = np.random.default_rng(7)
    a, b = random.normal(0.5, 1, 20), random.normal(0, 1, 20)
    assert 0 < aso(a, b, alpha=0.05) < aso(a, b, alpha=0.05 / 10) < 1
    with pytest.raises(ValueError, match="finite scores"):
        aso(a, np.array([math.nan]))


@pytest.mark.parametrize(
    ("difference", "is_paired", "expected"),
    [(0.5, False, 64), (1.0, False, 17), (2.0, False, 6), (-1.0, False, 17), (0.5, True, 34), (1.0, True, 10)],
)
def test_seeds_needed_are_those_of_the_tables(difference: float, is_paired: bool, expected: int) -> None:
    """Cohen (1988), tables 2.4.1; G*Power."""
    assert seeds_needed(difference, 1.0, is_paired=is_paired) == expected
    assert seeds_needed(3 * difference, 3.0, is_paired=is_paired) == expected


def test_so_many_seeds_show_the_difference_in_four_of_five_cases() -> None:
    random = np.random.default_rng(8)
    n = seeds_needed(1.2, 1.0)
    samples = [[random.normal(mean, 1, (20_000, seeds)) for mean in (1.2, 0)] for seeds in (n - 1, n)]
    power = [np.mean(stats.ttest_ind(a, b, axis=1).pvalue < 0.05) for a, b in samples]
    assert power[0] < 0.805 and 0.795 < power[1] < 0.85
    assert seeds_needed(0.01, 1.0) == pytest.approx(2 * (1.959964 + 0.841621) ** 2 * 1e4, abs=3)
    assert seeds_needed(1.0, 0.0) == 2
    with pytest.raises(ValueError, match="other than 0"):
        seeds_needed(0.0, 1.0)


def test_the_least_difference_that_can_be_seen() -> None:
    assert min_detectable_difference(0.1, 2100) == pytest.approx(0.0135, abs=5e-5)
    assert min_detectable_difference(0.2, 2100) == pytest.approx(0.0191, abs=5e-5)


@pytest.mark.parametrize(
    ("ps", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5], [0.5]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([0.001, 0.001], [0.002, 0.002]),
        ([], []),
    ],
)
def test_holms_correction_by_hand(ps: list[float], expected: list[float]) -> None:
    assert holm(ps) == pytest.approx(expected)
