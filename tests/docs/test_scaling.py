"""The page about scaling: its sessions give what it shows, and its table and sums follow from them."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import yaml

from frostline.costs import Flops, Shape, forward, run_flops

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text()
BERT_LARGE = Shape(24, 1024, 4096)
BLOCK = 1e6 * forward(BERT_LARGE, 1, [32])
RATE, RUNS = 1e14, 200  # FLOP/s, and runs of each depth


def flops(depth: int, cached: bool) -> float:
    if depth == 24:  # a probe: one pass, or nothing
        return 0.0 if cached else 24 * 1.02 * BLOCK
    run: Flops = run_flops(BERT_LARGE, [depth] * 3, BLOCK, 0.01 * BLOCK, 1.01 * BLOCK, cached=depth if cached else 0)
    return run.total


def hours(depth: int, cached: bool) -> float:
    return RUNS * flops(depth, cached) / RATE / 3600


def test_the_sessions_give_what_the_page_shows() -> None:
    names: dict[str, Any] = {}
    sessions = "\n".join(re.findall(r"```pycon\n(.*?)```", PAGE, flags=re.DOTALL))
    test = doctest.DocTestParser().get_doctest(sessions, names, "scaling.md", "docs/scaling.md", 0)
    told: list[str] = []
    doctest.DocTestRunner().run(test, out=told.append)
    assert len(test.examples) > 12
    assert not told, "".join(told)


def test_the_table_and_its_sums_are_recomputed() -> None:
    rows = re.findall(r"^\| (\d+) of 24 \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, flags=re.MULTILINE)
    depths = [int(row[0]) for row in rows]
    assert depths == [0, 6, 12, 18, 24]
    for depth, *cells in rows:
        k = int(depth)
        expected = [flops(k, False) / 1e15, flops(k, True) / 1e15, hours(k, False), hours(k, True)]
        assert [int(cell) for cell in cells] == [round(value) for value in expected]
    without, with_it = (sum(hours(k, cached) for k in depths) for cached in (False, True))
    filling = 24 * 1.02 * BLOCK / RATE / 60
    words = f"In all {without:.0f} GPU-hours without the cache, {with_it:.0f} with it, and {filling:.0f} minutes for the pass"
    assert words in PAGE
    assert f"{with_it:.0f} GPU-hours become {with_it * (190 * 0.1 + 10) / RUNS:.0f}" in PAGE
    assert f"ends {with_it:.0f} GPU-hours in about five and a half" in PAGE and 5.25 < with_it / 50 < 5.75
    assert "two fifths of it" in PAGE and 0.35 < hours(0, True) / with_it < 0.45


def test_the_cache_is_as_large_as_the_page_says() -> None:
    size = yaml.safe_load((ROOT / "conf" / "cache" / "disk.yaml").read_text())["max_size"]
    assert f"`cache.max_size` is {size.replace('GB', ' GB')} as it comes" in PAGE
