"""The bootstrap against closed forms, against SciPy, and by its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from frostline.measures import statistics
from frostline.measures.statistics import hierarchical_bootstrap, jackknife, paired_difference, ratio_of_differences, t_interval


def test_one_seed_gives_the_binomial_interval() -> None:
    correct = np.arange(2000)[None] < 1600  # 80 % of 2,000 sentences
    interval = hierarchical_bootstrap(correct)
    half_width = 1.96 * np.sqrt(0.8 * 0.2 / 2000)
    assert interval.mean == pytest.approx(0.8)
    assert interval.low == pytest.approx(0.8 - half_width, abs=1e-3)
    assert interval.high == pytest.approx(0.8 + half_width, abs=1e-3)


def test_one_seed_agrees_with_scipy() -> None:
    scores = np.random.default_rng(1).gamma(2.0, size=300)
    ours = hierarchical_bootstrap(scores[None], resamples=20_000)
    theirs = stats.bootstrap((scores,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_weights_of_distinct_columns_equal_a_literal_resampling() -> None:
    rng = np.random.default_rng(2)
    correct = rng.random((3, 80)) < np.array([[0.7], [0.8], [0.9]])
    literal = [
        correct[rng.integers(3, size=3)][:, rng.integers(80, size=80)].mean() for _ in range(20_000)
    ]  # the definition, one resample at a time
    low, high = np.quantile(literal, [0.025, 0.975])
    ours = hierarchical_bootstrap(correct, resamples=20_000)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.006)


def test_interval_covers_the_true_accuracy_with_one_seed() -> None:
    rng = np.random.default_rng(3)
    sets = rng.random((600, 1, 400)) < 0.7
    intervals = [hierarchical_bootstrap(s, resamples=1000, seed=i) for i, s in enumerate(sets)]
    assert 0.93 <= np.mean([i.low <= 0.7 <= i.high for i in intervals]) <= 0.97


def test_interval_covers_the_true_score_when_seeds_and_sentences_vary() -> None:
    rng = np.random.default_rng(4)
    covered = []
    for i in range(400):
        seed_effect, sentence_effect = rng.normal(0, 0.05, (20, 1)), rng.normal(0, 0.5, (1, 150))
        scores = 0.7 + seed_effect + sentence_effect + rng.normal(0, 0.1, (20, 150))
        interval = hierarchical_bootstrap(scores, resamples=400, seed=i)
        covered.append(interval.low <= 0.7 <= interval.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_seeds_that_vary_more_widen_the_interval() -> None:
    rng = np.random.default_rng(5)
    uniform = rng.random((5, 1000))
    alike = hierarchical_bootstrap(uniform < 0.8)
    apart = hierarchical_bootstrap(uniform < np.array([[0.7], [0.75], [0.8], [0.85], [0.9]]))
    assert apart.high - apart.low > 1.5 * (alike.high - alike.low)


def test_repeating_one_seed_does_not_narrow_the_interval() -> None:
    """Five copies of one seed hold no more sentences than one: an average over cells would claim they do."""
    one = np.random.default_rng(6).random((1, 500)) < 0.8
    single, copies = hierarchical_bootstrap(one), hierarchical_bootstrap(np.repeat(one, 5, axis=0))
    assert copies.high - copies.low == pytest.approx(single.high - single.low, rel=0.05)


def test_identical_arms_differ_by_exactly_zero() -> None:
    correct = np.random.default_rng(7).random((3, 200)) < 0.8
    assert paired_difference(correct, correct) == (0.0, 0.0, 0.0)
    assert not paired_difference(correct, correct).excludes_zero()


def test_pairing_is_tighter_than_treating_arms_as_unrelated() -> None:
    rng = np.random.default_rng(8)
    b = rng.random((1, 1000)) < 0.7
    a = b | (rng.random((1, 1000)) < 0.1)  # right wherever b is right, and sometimes elsewhere
    paired = paired_difference(a, b)
    fixed = (a & ~b).mean()
    half_width = 1.96 * np.sqrt(fixed * (1 - fixed) / 1000)
    assert paired.mean == pytest.approx(a.mean() - b.mean())
    assert (paired.low, paired.high) == pytest.approx((fixed - half_width, fixed + half_width), abs=2e-3)
    assert paired.excludes_zero()


def test_chunks_bound_the_memory_and_do_not_change_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(9).normal(size=(4, 100))
    whole = hierarchical_bootstrap(scores, resamples=5000)
    monkeypatch.setattr(statistics, "CHUNK_CELLS", 700)  # seven resamples at a time
    pieces = hierarchical_bootstrap(scores, resamples=5000)
    assert pieces == pytest.approx(whole, abs=0.02)


@pytest.mark.parametrize("bad", [np.ones(5), np.ones((0, 5)), np.ones((2, 0)), np.array([[1.0, np.nan]])])
def test_tables_that_make_no_sense_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        hierarchical_bootstrap(bad)


def test_arms_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="same seeds and sentences"):
        paired_difference(np.ones((2, 5)), np.ones((3, 5)))


def test_a_share_of_a_gain_is_the_ratio_of_mean_differences() -> None:
    rng = np.random.default_rng(6)
    probe, partial, full = (rng.random((3, 4000)) < accuracy for accuracy in (0.75, 0.79, 0.80))
    share = ratio_of_differences(partial, full, probe, probe)
    assert share.mean == pytest.approx((partial.mean() - probe.mean()) / (full.mean() - probe.mean()))
    assert share.low < share.mean < share.high


def test_a_share_covers_the_true_one() -> None:
    rng = np.random.default_rng(7)
    covered = []
    for i in range(300):
        probe, full = rng.random((1, 1500)) < 0.78, rng.random((1, 1500)) < 0.84
        share = ratio_of_differences(probe, full, np.full((1, 1500), 0.5), 0.5, resamples=600, seed=i)
        covered.append(share.low <= 0.28 / 0.34 <= share.high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_a_share_of_a_gain_that_may_be_none_has_no_bounds() -> None:
    rng = np.random.default_rng(8)
    probe = rng.random((1, 400)) < 0.8
    full = probe.copy()
    full[0, np.flatnonzero(~probe[0])[:1]] = True  # better by one sentence
    share = ratio_of_differences(full, full, probe, probe)
    assert share.mean == 1
    assert np.isinf(share.high)
    with pytest.raises(ValueError, match="not above 0"):
        ratio_of_differences(full, probe, probe, probe)


def test_students_interval_agrees_with_scipy() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.35])
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    assert t_interval(values) == pytest.approx((values.mean(), theirs.low, theirs.high))
    for bad in ([0.1], [0.1, np.nan], [[0.1], [0.2]]):
        with pytest.raises(ValueError, match="two finite values"):
            t_interval(np.array(bad))


def test_jackknife_of_a_mean_without_one_row_each_is_student_s_interval() -> None:
    values = np.random.default_rng(9).gamma(2.0, size=40)
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    assert jackknife(np.mean, [values], groups=40) == pytest.approx((values.mean(), theirs.low, theirs.high))


def test_jackknife_covers_a_correlation() -> None:
    rng = np.random.default_rng(10)
    covered = []
    for i in range(600):
        x = rng.normal(size=300)
        y = 0.5 * x + np.sqrt(0.75) * rng.normal(size=300)
        interval = jackknife(lambda a, b: float(np.corrcoef(a, b)[0, 1]), [x, y], seed=i)
        covered.append(interval.low <= 0.5 <= interval.high)
        assert interval.mean == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert 0.92 <= np.mean(covered) <= 0.98


def test_jackknife_leaves_every_row_out_once_and_keeps_pairs() -> None:
    seen: list[set[int]] = []

    def spy(rows: np.ndarray, doubled: np.ndarray) -> float:
        assert (2 * rows[:, 0] == doubled).all()
        seen.append(set(rows[:, 0].tolist()))
        return 0.0

    rows = np.arange(23)
    assert jackknife(spy, [rows[:, None], 2 * rows], groups=5) == (0, 0, 0)
    left_out = [set(rows.tolist()) - kept for kept in seen if len(kept) < 23]
    assert len(left_out) == 5 and sum(map(len, left_out)) == 23 and set().union(*left_out) == set(rows.tolist())
    assert max(map(len, left_out)) - min(map(len, left_out)) == 1
    one, same, other = (jackknife(np.mean, [np.sqrt(rows)], seed=seed) for seed in (0, 0, 1))
    assert one == same != other


def test_a_jackknife_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="same sentences"):
        jackknife(np.mean, [np.ones(5), np.ones(6)], groups=2)
    for groups in (1, 6):
        with pytest.raises(ValueError, match="2 <= groups <= 5"):
            jackknife(np.mean, [np.ones(5)], groups=groups)
