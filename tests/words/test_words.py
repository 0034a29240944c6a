"""The packaged words: whole sets, equal sizes, nothing on both sides."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from frostline.errors import FrostlineError
from frostline.words import read_words, read_words_file

ASSOCIATIONS = read_words("associations")


@pytest.mark.parametrize("name", ASSOCIATIONS)
def test_association_tests_have_targets_of_one_size_and_no_word_twice(name: str) -> None:
    given = ASSOCIATIONS[name]
    assert len(given["X"]) == len(given["Y"]) >= 6 and min(len(given["A"]), len(given["B"])) >= 6
    assert len(given["names"]) == 4
    for one, other in (("X", "Y"), ("A", "B")):
        assert not set(given[one]) & set(given[other])
        assert len(set(given[one])) == len(given[one])


def test_the_controls_come_first() -> None:
    assert [given["control"] for given in ASSOCIATIONS.values()][:3] == [True, True, False]


@pytest.mark.parametrize("name", read_words("dialect"))
def test_rules_are_regular_expressions_whose_groups_exist(name: str) -> None:
    for pattern, replacement in read_words("dialect")[name]["rules"]:
        groups = re.compile(pattern).groups
        assert all(int(number) <= groups for number in re.findall(r"\\(\d)", replacement))


def test_targets_of_templates_are_in_every_template() -> None:
    for given in read_words("templates").values():
        assert all("{target}" in text and "{attribute}" in text for text in given["templates"])
        assert len(given["targets"]) == 2 and len(given["attributes"]) == 2


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FrostlineError, match="There is no file of words"):
        read_words_file(tmp_path / "none.yaml")
