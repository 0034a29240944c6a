"""A row a scored sentence, with what is known of it."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from frostline.runs.predictions import prediction_table, words_in

LOGITS = np.array([[0.0, 1.0], [3.0, 2.0], [0.0, 0.5]])
TEXTS = ["The good film", "Bad, bad!", "?!"]


def table(known: set[str] | None = None, **columns: list[Any]) -> Any:
    sentences = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 0, 1], **columns})
    return prediction_table("test", sentences, LOGITS, ["no", "yes"], known)


def test_what_was_predicted() -> None:
    found = table()
    assert list(found) == ["split", "index", "text", "label", "prediction", "logit_no", "logit_yes"]
    assert found["prediction"].tolist() == [1, 0, 1]
    assert found["logit_yes"].tolist() == [1.0, 2.0, 0.5]
    assert set(found["split"]) == {"test"}


def test_words_are_unknown_that_no_training_sentence_has() -> None:
    train = datasets.Dataset.from_dict({"text": ["A GOOD one.", "the end"], "label": [0, 1]})
    assert words_in(train) == {"a", "good", "one", "the", "end"}
    assert table(words_in(train))["unknown_words"].tolist() == pytest.approx([1 / 3, 1, 0])


def test_the_texts_of_a_pair_count_together() -> None:
    pairs = ["film film", "good", "Été"]
    train = datasets.Dataset.from_dict({"text": ["the good"], "text_pair": ["été"], "label": [0]})
    assert table(words_in(train), text_pair=pairs)["unknown_words"].tolist() == pytest.approx([3 / 5, 2 / 3, 0])


def test_single_values_come_along_behind_and_lists_do_not() -> None:
    found = table(set(), rating=[0.5, None, 2.0], judgements=[[1], [2, 3], []], author=["x", None, "y"], year=[1999, 2000, 2001])
    assert list(found)[-4:] == ["unknown_words", "rating", "author", "year"]
    np.testing.assert_array_equal(found["rating"], [0.5, np.nan, 2.0])
    assert found["author"].fillna("").tolist() == ["x", "", "y"]
