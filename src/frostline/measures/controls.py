"""What a probe must beat: the majority class, a bag of words, and a control task that only memory can solve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from frostline.errors import FrostlineError

Labels = Mapping[str, Tensor]  # per split, class numbers, [items], int64
BAG_C_GRID = (0.1, 1.0, 10.0, 100.0)  # rows of TF-IDF have length 1, so the best penalty is weaker than a probe's


def majority_accuracy(labels: Labels) -> float:
    """Return the test accuracy of always naming the training split's most frequent class, 0 … 1."""
    most_frequent = int(torch.bincount(labels["train"]).argmax())
    return float((labels["test"] == most_frequent).double().mean())


def tfidf_correct(texts: Mapping[str, Sequence[str]], labels: Labels, C_grid: Iterable[float] = BAG_C_GRID) -> NDArray[np.bool_]:
    """Return which test sentences logistic regression on TF-IDF of words and word pairs gets right, ``[sentences]``.

    Args:
        texts: of ``train``, ``validation`` and ``test``.
        labels: of the same splits.
        C_grid: inverse strengths; validation chooses.

    Raises:
        FrostlineError: no training sentence has a word.
    """
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        train = vectorizer.fit_transform(texts["train"])
    except ValueError:
        raise FrostlineError("No training sentence has a word, so there is no bag of words to compare with.") from None
    truth = {name: split.numpy() for name, split in labels.items()}
    validation = vectorizer.transform(texts["validation"])
    fits = [LogisticRegression(C=C, max_iter=1000).fit(train, truth["train"]) for C in C_grid]
    best = max(fits, key=lambda fit: fit.score(validation, truth["validation"]))
    correct: NDArray[np.bool_] = best.predict(vectorizer.transform(texts["test"])) == truth["test"]
    return correct


def word_type_correct(words: Mapping[str, Sequence[str]], labels: Labels) -> NDArray[np.bool_]:
    """Return which test words are right if each has its type's most frequent training label, ``[words]``; new types the most
    frequent of all."""
    counts: dict[str, NDArray[np.int64]] = {}
    classes = int(torch.cat(list(labels.values())).max()) + 1
    for word, label in zip(words["train"], labels["train"].tolist(), strict=True):
        counts.setdefault(word.lower(), np.zeros(classes, dtype=np.int64))[label] += 1
    overall = int(torch.bincount(labels["train"]).argmax())
    guesses = [int(counts[word.lower()].argmax()) if word.lower() in counts else overall for word in words["test"]]
    correct: NDArray[np.bool_] = np.array(guesses, dtype=np.int64) == labels["test"].numpy()
    return correct


def control_labels(texts: Mapping[str, Sequence[str]], labels: Labels, seed: int) -> dict[str, Tensor]:
    """Return the labels of a sentence's control task: a random one that hangs on its first content word alone.

    Every word type draws its label once, from the shares that the real task's training labels have, for all splits
    (Hewitt & Liang 2019, carried over to sentences). The content word is the first that is no English stop word, else the
    first. A probe learns it as far as it can memorise words; its accuracy beside the real task's is the selectivity.

    Args:
        texts: per split.
        labels: the real task's.
        seed: of the draws.
    """
    return control_token_labels({name: [_content_word(text) for text in split] for name, split in texts.items()}, labels, seed)


def control_token_labels(words: Mapping[str, Sequence[str]], labels: Labels, seed: int) -> dict[str, Tensor]:
    """Return the labels of a word's control task: a random one for each word type (Hewitt & Liang 2019).

    Args:
        words: per split.
        labels: the real task's; their training shares are those of the draws.
        seed: of the draws.
    """
    types = sorted({word.lower() for split in words.values() for word in split})
    shares = torch.bincount(labels["train"]).double()
    drawn = np.random.default_rng(seed).choice(len(shares), size=len(types), p=(shares / shares.sum()).numpy())
    label_of = dict(zip(types, drawn.tolist(), strict=True))
    return {name: torch.tensor([label_of[word.lower()] for word in split], dtype=torch.int64) for name, split in words.items()}


def _content_word(text: str) -> str:
    words = [cleaned for word in text.split() if (cleaned := word.strip(".,;:!?\"'()[]-").lower())] or [text]
    return next((word for word in words if word not in ENGLISH_STOP_WORDS), words[0])
