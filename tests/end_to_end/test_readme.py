"""What the README says a user can choose. Its commands are tested in tests/docs, its script in test_page.py."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_choice_of_every_group_is_in_the_readme():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, flags=re.MULTILINE))
    for group in (
        "data",
        "model",
        "strategy",
        "optimizer",
        "scheduler",
        "trainer",
        "callbacks",
        "cache",
        "logger",
        "experiment",
        "sweep",
    ):
        listed = set(re.findall(r"`(\w+)`", rows[group]))
        assert {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} <= listed, group
