"""Probing tasks that need no annotation, made from any English sentences (after SentEval: Conneau et al. 2018).

What is asked of the form: how long a sentence is, which of some words it has; of the syntax: whether two neighbouring words were
swapped; of the meaning: its tense, and the number of its subject. Classes are balanced, no sentence is in two splits, and where
a probe could learn words by heart (tense, number) no verb or noun is.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from frostline.errors import FrostlineError
from frostline.measures.word_forms import FINITE_PASTS, NOUNS, NUMBERED_VERBS, PRONOUNS, VERBS

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
LEVELS = {
    "sentence_length": "surface",
    "word_content": "surface",
    "bigram_shift": "syntax",
    "tense": "meaning",
    "subject_number": "meaning",
}
LEAST = 10  # examples of a class in a split
WORDS = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
LENGTHS = (3, 40)  # words
BINS = 6  # of the sentence length, fewer where there are few sentences
TARGETS = 20  # at most, words of the word content: 10,000 sentences have not a thousand words often
TARGET_SENTENCES, TARGET_SHARE = 120, 0.05  # at least so many sentences have a target, and at most this share of all
CONTRACTED = {r"n't\b": " not", r"'re\b": " are", r"'m\b": " am", r"'ve\b": " have", rf"\b({'|'.join(PRONOUNS)})'s\b": r"\1 is"}
AUXILIARIES = {"is", "are", "was", "were", "be", "been", "being", "has", "have", "had", "having", "get", "gets", "got"}


@dataclass(frozen=True)
class ProbingTask:
    """One task.

    Attributes:
        texts: its sentences.
        labels: class numbers, ``[sentences]``, int64.
        classes: what the classes are.
        split: ``train``, ``validation`` or ``test`` of each sentence.
    """

    texts: list[str]
    labels: NDArray[np.int64]
    classes: list[str]
    split: NDArray[np.str_]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the numbers of a split's sentences."""
        return np.flatnonzero(self.split == split)


@dataclass(frozen=True)
class _Example:
    """A usable sentence; ``word`` is what must not be in two splits, if anything."""

    text: str
    label: int
    word: str | None = None


def make_task(name: str, texts: Sequence[str], sentences: int, seed: int) -> ProbingTask:
    """Make one task.

    Args:
        name: a key of :data:`LEVELS`.
        texts: English sentences; of equal ones (but for white space) one is used.
        sentences: at most so many examples, but for the rounding of each class and split.
        seed: draws everything that is drawn.

    Raises:
        FrostlineError: too few of the texts can be used, or too few are asked for.
    """
    rng = np.random.default_rng([seed, list(LEVELS).index(name)])
    texts = list({" ".join(text.split()): text for text in texts}.values())
    order = rng.permutation(len(texts))
    examples, classes = MAKERS[name]([texts[row] for row in order], rng)
    split_of = _split_words(examples, rng) if any(e.word for e in examples) else _split_rows(examples)
    needed = round(LEAST * len(classes) / min(SHARES.values()))
    if sentences < needed:
        raise FrostlineError(
            f"{sentences:,} sentences are too few for {name}: raise task_sentences to {needed:,} or more, {LEAST} "
            f"of each of {len(classes)} classes in every split."
        )
    chosen: list[tuple[_Example, str]] = []
    for split, share in SHARES.items():
        by_class: dict[int, list[_Example]] = defaultdict(list)
        for example, where in zip(examples, split_of, strict=True):
            if where == split:
                by_class[example.label].append(example)
        rarest = min(len(by_class[label]) for label in range(len(classes)))
        if rarest < LEAST:
            raise FrostlineError(
                f"Of {len(texts):,} sentences, {len(examples):,} can be used for {name}; it needs about {needed:,} or more, "
                f"{LEAST} of each of {len(classes)} classes in every split, but of its rarest class {split} has {rarest}."
            )
        each = min(rarest, round(sentences * share / len(classes)))
        chosen += [(example, split) for label in range(len(classes)) for example in by_class[label][:each]]
    labels = np.array([example.label for example, _ in chosen], dtype=np.int64)
    return ProbingTask([example.text for example, _ in chosen], labels, classes, np.array([split for _, split in chosen]))


# --- the tasks --------------------------------------------------------------------------------------------------------------


def _sentence_length(texts: Sequence[str], rng: np.random.Generator) -> tuple[list[_Example], list[str]]:
    """Bins of words, their edges the quantiles of these texts, so that bins are about equally full."""
    counts = np.array([len(text.split()) for text in texts])
    usable = (counts >= LENGTHS[0]) & (counts <= LENGTHS[1])
    if not usable.any():
        return [], ["short", "long"]
    bins = int(np.clip(usable.sum() * min(SHARES.values()) // (1.5 * LEAST), 2, BINS))
    edges = np.unique(np.quantile(counts[usable], np.linspace(0, 1, bins + 1)[1:-1], method="higher"))
    labels = np.searchsorted(edges, counts, side="right")
    bounds = [LENGTHS[0], *edges.tolist(), LENGTHS[1] + 1]
    classes = [f"{low} to {high - 1} words" for low, high in itertools.pairwise(bounds)]
    return [_Example(text, int(labels[i])) for i, text in enumerate(texts) if usable[i]], classes


def _word_content(texts: Sequence[str], rng: np.random.Generator) -> tuple[list[_Example], list[str]]:
    """Which one of some words of middling frequency a sentence has; sentences with none or two of them are left out."""
    words_of = [{word.lower() for word in WORDS.findall(text)} for text in texts]
    letters = [word for words in words_of for word in words if len(word) >= 4 and word.isalpha()]  # no "that's"
    counts = Counter(word for word in letters if word not in ENGLISH_STOP_WORDS)
    middling = sorted(word for word, count in counts.items() if TARGET_SENTENCES <= count <= TARGET_SHARE * len(texts))
    targets = sorted(rng.permutation(middling)[:TARGETS].tolist())
    number = {word: i for i, word in enumerate(targets)}
    found = [(text, words & number.keys()) for text, words in zip(texts, words_of, strict=True)]
    return [_Example(text, number[next(iter(hits))]) for text, hits in found if len(hits) == 1], targets or ["none", "some"]


def _bigram_shift(texts: Sequence[str], rng: np.random.Generator) -> tuple[list[_Example], list[str]]:
    """Whether two neighbouring words within the sentence were swapped; both in small letters, so that nothing else tells."""
    examples: list[_Example] = []
    for text in texts:
        words = text.split()
        places = [
            i
            for i in range(1, len(words) - 2)
            if all(word.isalpha() and word.islower() for word in words[i : i + 2]) and words[i] != words[i + 1]
        ]
        if not places or not LENGTHS[0] <= len(words) <= LENGTHS[1]:
            continue
        shifted = len(examples) % 2
        if shifted:
            i = int(rng.choice(places))
            words[i], words[i + 1] = words[i + 1], words[i]
        examples.append(_Example(" ".join(words), shifted))
    return examples, ["in order", "swapped"]


def _tense(texts: Sequence[str], rng: np.random.Generator) -> tuple[list[_Example], list[str]]:
    """Present or past, of sentences whose verbs of the list all are in one tense and are forms of one verb."""
    examples = []
    for text in texts:
        words = _spelled_out(text)
        found = {VERBS[word] for i, word in enumerate(words) if word in VERBS and _is_finite(words, i)}
        if len(found) == 1:
            ((lemma, is_past),) = found
            examples.append(_Example(text, int(is_past), lemma))
    return examples, ["present", "past"]


def _spelled_out(text: str) -> list[str]:
    """The words in small letters, ``it's`` and ``isn't`` as two."""
    for pattern, words in CONTRACTED.items() if "'" in text else ():
        text = re.sub(pattern, words, text, flags=re.IGNORECASE)
    return [word.lower() for word in WORDS.findall(text)]


def _is_finite(words: Sequence[str], place: int) -> bool:
    """Whether a form can be taken for a finite verb.

    After a form of ``be``, ``have`` or ``get``, up to three words before, none is. A past that may be a participle, an adjective
    or a noun (``a lost soul``, ``thought provoking``) is one only right after a pronoun or a noun of the list.
    """
    word, before = words[place], words[max(0, place - 3) : place]
    if word not in AUXILIARIES and any(earlier in AUXILIARIES for earlier in before):
        return False
    can_be_other = VERBS[word][1] and word not in FINITE_PASTS
    return not can_be_other or any(earlier in PRONOUNS or earlier in NOUNS for earlier in before[-1:])


def _subject_number(texts: Sequence[str], rng: np.random.Generator) -> tuple[list[_Example], list[str]]:
    """Singular or plural, of the noun right before the first finite verb of the list."""
    examples = []
    for text in texts:
        words = [word.lower() for word in WORDS.findall(text)]
        place = next((i for i, word in enumerate(words) if word in NUMBERED_VERBS), 0)
        if place > 0 and words[place - 1] in NOUNS:
            lemma, is_plural = NOUNS[words[place - 1]]
            examples.append(_Example(text, int(is_plural), lemma))
    return examples, ["singular", "plural"]


MAKERS: dict[str, Callable[[Sequence[str], np.random.Generator], tuple[list[_Example], list[str]]]] = {
    "sentence_length": _sentence_length,
    "word_content": _word_content,
    "bigram_shift": _bigram_shift,
    "tense": _tense,
    "subject_number": _subject_number,
}


# --- splits -------------------------------------------------------------------------------------------------------------------


def _split_rows(examples: Sequence[_Example]) -> list[str]:
    """Cut the (shuffled) examples of each class by the splits' shares."""
    by_class: dict[int, list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        by_class[example.label].append(row)
    split_of = [""] * len(examples)
    for rows in by_class.values():
        ends = np.cumsum([round(share * len(rows)) for share in SHARES.values()])
        for place, row in enumerate(rows):
            split_of[row] = list(SHARES)[min(int(np.searchsorted(ends, place, side="right")), len(SHARES) - 1)]
    return split_of


def _split_words(examples: Sequence[_Example], rng: np.random.Generator) -> list[str]:
    """Give every word, with all of its sentences, to the split that lacks most of its rarer class; frequent words first."""
    counts: dict[str, NDArray[np.int64]] = {}
    for example in examples:
        assert example.word is not None
        counts.setdefault(example.word, np.zeros(2, dtype=np.int64))[example.label] += 1
    whole = sum(counts.values(), np.zeros(2, dtype=np.int64))
    filled = {split: np.zeros(2) for split in SHARES}
    where: dict[str, str] = {}
    # Chance decides between words of about one frequency, so that seeds differ.
    rank = {word: np.log(count.sum()) + rng.normal(0, 0.3) for word, count in sorted(counts.items())}
    for word in sorted(rank, key=lambda word: -rank[word]):
        lacks = {
            split: float(((share * whole - filled[split]) / np.maximum(share * whole, 1)).clip(min=0) @ counts[word])
            for split, share in SHARES.items()
        }
        where[word] = max(lacks, key=lambda split: lacks[split])
        filled[where[word]] += counts[word]
    return [where[str(example.word)] for example in examples]
