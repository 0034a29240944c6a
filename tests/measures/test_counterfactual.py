"""Pairs of sentences that differ in one thing only."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from frostline.errors import FrostlineError
from frostline.measures.counterfactual import from_rules, from_templates, unit_means
from frostline.words import read_words

SETS = read_words("emotion") | read_words("identity")
RULES = read_words("dialect")


@pytest.mark.parametrize("name", SETS)
def test_versions_differ_in_the_term_alone(name: str) -> None:
    pairs, terms = from_templates(SETS[name]), SETS[name]["pairs"]
    templates = SETS[name]["templates"]
    assert len(set(pairs.unit)) == len(templates) * len(terms)
    for first, second, unit in zip(pairs.first, pairs.second, pairs.unit, strict=True):
        one, other = (term.lower() for term in terms[unit % len(terms)])
        assert first != second and "{" not in first + second
        normal = [re.sub(r"\ban ", "a ", text.lower()) for text in (first, second)]
        assert normal[0].replace(one, other, 1) == normal[1]
    assert pairs.classes is not None and set(pairs.classes) == {"positive", "negative"}


GIVEN: dict[str, Any] = {
    "groups": ["x", "y"],
    "pairs": [["she", "Ann"]] * 5,
    "templates": ["{person} is a {word} guest."],
    "fill": {"word": {"k": ["odd", "kind"]}},
}


def test_an_article_and_a_capital_follow_the_word() -> None:
    pairs = from_templates(GIVEN)
    assert pairs.first[:2] == ["She is an odd guest.", "She is a kind guest."] and pairs.second[0] == "Ann is an odd guest."
    assert pairs.classes is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"templates": ["Nobody is {word}."]}, "has no place for a term"),
        ({"pairs": []}, "it has no pairs"),
        ({"groups": None}, "it has no groups"),
        ({"pairs": [["she", "he"]] * 4}, "4 pairs of template and terms; at least 5"),
    ],
)
def test_a_set_that_cannot_be_used_is_told(change: dict[str, Any], says: str) -> None:
    with pytest.raises(FrostlineError, match=says):
        from_templates(GIVEN | change)


@pytest.mark.parametrize(
    ("name", "text", "rewritten"),
    [
        ("habitual_be", "They are always late.", "They be always late."),
        ("copula_deletion", "I think she is so good.", "I think she so good."),
        ("copula_deletion", "they're really slow", "they really slow"),
        ("negative_concord", "I don't want anything.", "I don't want nothing."),
        ("negative_concord", "it never gave any hint", "it never gave no hint"),
        ("negation_with_aint", "This isn't right.", "This ain't right."),
        ("done_perfective", "I've seen it.", "I done seen it."),
        ("third_person_without_s", "she doesn't care", "she don't care"),
        ("third_person_without_s", "it makes sense", "it make sense"),
    ],
)
def test_rules_rewrite_what_they_say(name: str, text: str, rewritten: str) -> None:
    rules = from_rules(RULES[name], [text, *[f"{text} {word}" for word in "abcd"], "A plain sentence."])
    assert rules.first[0] == text and rules.second[0] == rewritten
    assert "A plain sentence." not in rules.first


def test_rules_that_change_too_little_are_told() -> None:
    with pytest.raises(FrostlineError, match="change 1 test sentences; at least 5"):
        from_rules(RULES["negation_with_aint"], ["It isn't.", "It is."])


def test_the_unit_is_what_belongs_together() -> None:
    assert unit_means(np.array([1.0, 3.0, 10.0]), np.array([4, 4, 7])).tolist() == [2.0, 10.0]
