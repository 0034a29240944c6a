"""Where learning curves cross."""

from __future__ import annotations

import math

import numpy as np
import pytest

from frostline.report.learning import crossing_point

SIZES = [100, 200, 400, 800]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.1, 0.2, 0.1, 0.3], 100),  # always ahead
        ([-0.1, -0.2, -0.1, -0.3], math.inf),  # never
        ([-0.1, 0.1, 0.2, 0.3], math.sqrt(100 * 200)),  # half-way in the logarithm
        ([-0.1, 0.2, -0.3, 0.1], 400 * 2**0.75),  # the last crossing counts
        ([-0.1, 0.0, 0.2, 0.3], 200),
    ],
)
def test_thawing_pays_from_where_it_stays_ahead(differences: list[float], expected: float) -> None:
    assert crossing_point(SIZES, np.array(differences)) == pytest.approx(expected)
