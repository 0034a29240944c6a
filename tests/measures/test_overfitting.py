"""The gap between two groups of sentences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from frostline.measures.overfitting import welch_difference


def test_the_interval_is_welchs() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(1, 2, size=40), random.normal(0, 1, size=90)
    found = welch_difference(a, b)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found == pytest.approx((a.mean() - b.mean(), expected.low, expected.high))


def test_groups_without_variance_have_no_interval() -> None:
    assert welch_difference(np.ones(5), np.zeros(5)) == (1.0, 1.0, 1.0)
