"""Which batches are timed, and how they are taken from all."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from frostline.commands.plan.sample import spread


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 70))
def test_the_largest_comes_first_and_the_others_are_spread(sizes: list[int], count: int) -> None:
    first, *others = spread(sizes, sizes, count)
    assert first == max(sizes)
    assert len(others) == min(count, len(sizes))
    assert others == sorted(others)
    if count >= len(sizes):
        assert others == sorted(sizes), "all of them, each once"


def test_the_mean_of_what_is_spread_is_nearly_that_of_all() -> None:
    sizes = np.random.default_rng(0).lognormal(5, 1, 1000)
    assert abs(np.mean(spread(sizes, sizes, 20)[1:]) / sizes.mean() - 1) < 0.1
