"""What a probe must beat, and a control task that only memory of words can solve."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from frostline.errors import FrostlineError
from frostline.measures.controls import control_labels, control_token_labels, majority_accuracy, tfidf_correct, word_type_correct
from frostline.measures.layer_probes import fit_probes

pytestmark = pytest.mark.usefixtures("one_thread")
SPLITS = ("train", "validation", "test")


def numbers(*splits: list[int]) -> dict[str, Tensor]:
    return {name: torch.tensor(split) for name, split in zip(SPLITS, splits, strict=True)}


def test_the_majority_is_that_of_the_training_split() -> None:
    labels = numbers([0, 1, 1, 1, 2], [0], [0, 0, 0, 1])
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((5, 1)), labels["train"])
    assert majority_accuracy(labels) == dummy.score(np.zeros((4, 1)), labels["test"]) == 0.25


# --- bags of words -----------------------------------------------------------------------------------------------------


def reviews(seed: int = 0) -> tuple[dict[str, list[str]], dict[str, Tensor]]:
    random = np.random.default_rng(seed)
    texts, labels = {}, {}
    for name, size in zip(SPLITS, (80, 40, 60), strict=True):
        truth = random.integers(0, 2, size)
        tone = [[["dull", "grim"], ["warm", "witty"]][y if random.random() < 0.8 else 1 - y] for y in truth]
        texts[name] = [f"{random.choice(words)} film number {random.integers(30)}" for words in tone]
        labels[name] = torch.from_numpy(truth)
    return texts, labels


def test_a_bag_of_words_is_scikit_learns_with_the_strength_that_validation_prefers() -> None:
    texts, labels = reviews()
    grid = (1e-3, 0.1, 10.0)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+\b").fit(texts["train"])
    train, validation, test = (vectorizer.transform(texts[name]) for name in SPLITS)
    fits = [LogisticRegression(C=C, max_iter=1000).fit(train, labels["train"]) for C in grid]
    scores = [fit.score(validation, labels["validation"]) for fit in fits]
    expected = fits[int(np.argmax(scores))].predict(test) == labels["test"].numpy()
    correct = tfidf_correct(texts, labels, grid)
    assert correct.dtype == bool
    assert np.array_equal(correct, expected)
    assert correct.mean() > 0.6, "words tell the class four times in five"


def test_the_order_of_two_words_is_seen() -> None:
    texts = {name: ["good not bad", "bad not good"] * 20 for name in SPLITS}
    labels = {name: torch.tensor([1, 0] * 20) for name in SPLITS}
    assert tfidf_correct(texts, labels, (1.0, 100.0)).all()


def test_sentences_without_words_are_told() -> None:
    texts, labels = reviews()
    with pytest.raises(FrostlineError, match="no bag of words"):
        tfidf_correct(texts | {"train": ["!"] * 80}, labels, (1.0,))


def test_a_word_has_its_types_most_frequent_label_and_a_new_one_that_of_all() -> None:
    words = {
        "train": ["run", "Run", "run", "cat", "cat", "cat", "cat"],
        "validation": ["cat"],
        "test": ["RUN", "cat", "new", "run"],
    }
    labels = numbers([1, 1, 0, 0, 0, 0, 2], [0], [1, 0, 0, 0])
    assert word_type_correct(words, labels).tolist() == [True, True, True, False]


# --- control tasks -----------------------------------------------------------------------------------------------------


def words_of(types: int, sizes: tuple[int, int, int], seed: int = 0) -> dict[str, list[str]]:
    """Words of which every type is in the training split."""
    random = np.random.default_rng(seed)
    drawn = {name: random.integers(0, types, size) for name, size in zip(SPLITS, sizes, strict=True)}
    drawn["train"][:types] = np.arange(types)
    return {name: [f"w{number}" for number in split] for name, split in drawn.items()}


def test_a_type_has_one_label_in_all_splits_however_it_is_spelled() -> None:
    words = words_of(50, (300, 100, 100))
    words["test"] = [word.upper() for word in words["test"]]
    labels = {name: torch.arange(len(split)) % 3 for name, split in words.items()}
    control = control_token_labels(words, labels, seed=0)
    pairs = {(word.lower(), label) for name in SPLITS for word, label in zip(words[name], control[name].tolist(), strict=True)}
    assert len(pairs) == len({word for word, _ in pairs}) == 50
    assert all(control[name].dtype == torch.int64 and control[name].shape == labels[name].shape for name in SPLITS)


def test_labels_are_drawn_from_the_training_splits_shares() -> None:
    words = words_of(20_000, (20_000, 5, 5))
    labels = numbers([0] * 10 + [1] * 60 + [2] * 30, [3] * 5, [3] * 5)
    drawn = control_token_labels(words, labels, seed=1)["train"]
    shares = torch.bincount(drawn) / len(drawn)
    np.testing.assert_allclose(shares, [0.1, 0.6, 0.3], atol=0.02)  # five deviations


def test_a_seed_draws_the_same_labels_and_another_seed_others() -> None:
    words = words_of(50, (300, 10, 10))
    labels = {name: torch.arange(len(split)) % 2 for name, split in words.items()}
    first, again, other = (control_token_labels(words, labels, seed)["train"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_sentences_control_label_hangs_on_its_first_content_word_alone() -> None:
    texts = {
        "train": ["The film is long", "film!", 'a "Film" of his', *(f"the word{i} here" for i in range(200))],
        "validation": ["of the"],  # stop words alone: the first of them
        "test": ["It was the film, again", "of that", "...", "word7"],
    }
    labels = {name: torch.arange(len(split)) % 2 for name, split in texts.items()}
    for seed in range(5):
        control = control_labels(texts, labels, seed)
        assert len({*control["train"][:3].tolist(), control["test"][0].item()}) == 1
        assert control["validation"][0] == control["test"][1]
        assert control["train"][10] == control["test"][3]  # word7
        assert control["train"].bincount().min() > 60  # words differ in their labels: six deviations


def test_words_as_features_solve_the_control_task_and_a_narrow_projection_does_not() -> None:
    """Hewitt & Liang's point: a probe with room for every word type has no selectivity.

    A linear probe of width d can memorise the labels of about 2 d types (Cover 1965); here there are 8 d.
    """
    types, width = 240, 30
    words = words_of(types, (600, 300, 300))
    real = {name: torch.tensor([int(word[1:]) % 2 for word in split]) for name, split in words.items()}
    control = control_token_labels(words, real, seed=0)
    one_hot = {name: torch.eye(types)[[int(word[1:]) for word in split]][None] for name, split in words.items()}
    projection = torch.randn(types, width, generator=torch.Generator().manual_seed(0))
    (of_real,), (of_control,) = (fit_probes(one_hot, labels, 2, C_grid=(1.0,)) for labels in (real, control))
    (narrow,) = fit_probes({name: split @ projection for name, split in one_hot.items()}, control, 2, C_grid=(1.0,))
    assert of_control.accuracy > 0.99
    assert abs(of_real.accuracy - of_control.accuracy) < 0.01, "selectivity"
    assert narrow.accuracy < 0.9
