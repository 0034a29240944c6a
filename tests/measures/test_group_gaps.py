"""Gaps between groups, by hand: which area under the curve is low for which mistake is easily swapped."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from frostline.measures.group_gaps import areas, equality_gap, group_gaps

POSITIVE = np.array([True, True, False, True, True, False])
OF_GROUP = np.array([True, True, True, False, False, False])


def areas_of(score: list[float]) -> dict[str, float]:
    scores = np.array(score)
    return {name: float(roc_auc_score(POSITIVE[rows], scores[rows])) for name, rows in areas(POSITIVE, OF_GROUP).items()}


def test_a_group_that_is_wrongly_taken_for_positive_has_a_low_bpsn() -> None:
    # The group's negative sentence scores 0.7: above one of the two positive ones of the background (0.6), below the other (0.9).
    found = areas_of([0.95, 0.8, 0.7, 0.9, 0.6, 0.1])
    assert found == {"subgroup_auc": 1.0, "bpsn_auc": 0.5, "bnsp_auc": 1.0}


def test_a_group_that_is_wrongly_taken_for_negative_has_a_low_bnsp() -> None:
    # One of the group's two positive sentences scores 0.2: below the background's negative one (0.3).
    found = areas_of([0.9, 0.2, 0.1, 0.9, 0.6, 0.3])
    assert found == {"subgroup_auc": 1.0, "bpsn_auc": 1.0, "bnsp_auc": 0.5}


@pytest.mark.parametrize(
    ("group", "background", "expected"),
    [
        ([0.9, 0.8], [0.1, 0.2], -0.5),
        ([0.1, 0.2], [0.9, 0.8], 0.5),
        ([0.5], [0.5], 0.0),
        ([0.3, 0.7], [0.5], 0.0),
        ([0.6], [0.5, 0.6, 0.7], 0.0),
    ],
)
def test_the_equality_gap_counts_pairs(group: list[float], background: list[float], expected: float) -> None:
    pairs = [(b < g) + 0.5 * (b == g) for g in group for b in background]
    assert expected == pytest.approx(0.5 - np.mean(pairs))
    assert equality_gap(np.array(group), np.array(background)) == pytest.approx(expected)


def test_random_scores_have_no_gap() -> None:
    random, n = np.random.default_rng(0), 40_000
    label, score, groups = random.integers(0, 2, n), random.random(n), random.choice(["a", "b"], n)
    for name, value, _ in group_gaps(label, score, groups):
        assert value is not None
        expected = 0.5 if name.endswith(("auc", "accuracy")) else 0.0
        assert value == pytest.approx(expected, abs=0.025), name


def test_rates_by_hand() -> None:
    label = np.repeat([1, 0, 1, 0], 10)
    groups = np.repeat(["a", "a", "b", "b"], 10)
    said = np.concatenate([np.arange(10) < 9, np.arange(10) < 3, np.arange(10) < 6, np.arange(10) < 1])
    found = {name: value for name, value, _ in group_gaps(label, np.where(said, 0.8, 0.2), groups)}
    assert found["demographic_parity_difference"] == pytest.approx(12 / 20 - 7 / 20)
    assert found["equalized_odds_difference"] == pytest.approx(max(0.9 - 0.6, 0.3 - 0.1))
    assert found["worst_group_accuracy"] == pytest.approx(0.6)
    assert found["a.accuracy"] == pytest.approx(16 / 20)
    assert found["a.calibration_gap"] == pytest.approx((12 * 0.8 + 8 * 0.2 - 10) / 20)


def test_a_group_with_too_few_examples_gets_a_count_and_no_number() -> None:
    label, groups = np.array([1, 0] * 20 + [1] * 4 + [0] * 12), np.array(["many"] * 40 + ["few"] * 16)
    found = {name: (value, n) for name, value, n in group_gaps(label, np.linspace(0, 1, 56), groups)}
    assert found["few.subgroup_auc"] == (None, 4) and found["equalized_odds_difference"] == (None, 4)
    assert found["worst_group_accuracy"] == (None, 4)
    assert found["few.accuracy"][0] is not None and found["many.subgroup_auc"][0] is not None
