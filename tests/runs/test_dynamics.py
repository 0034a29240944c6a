"""What is written of training sentences: statistics against closed forms."""

from __future__ import annotations

import math

import datasets
import numpy as np
import pytest

from frostline.runs.dynamics import dynamics_table, statistics


def of_one(probabilities: list[float], is_right: list[bool]) -> dict[str, float]:
    found = statistics(np.array(probabilities)[:, None], np.array(is_right)[:, None])
    return {name: float(value[0]) for name, value in found.items()}


def test_two_values_in_turn_have_their_mean_and_half_their_distance() -> None:
    found = of_one([0.2, 0.8] * 3, [False, True] * 3)
    assert found == pytest.approx({"confidence": 0.5, "variability": 0.3, "correctness": 0.5, "forgetting_events": 2})


@pytest.mark.parametrize("epochs", [2, 5, 10])
def test_a_straight_rise_has_the_deviation_of_an_even_distribution(epochs: int) -> None:
    """Of 0, 1, …, n - 1 the variance is (n² - 1) / 12."""
    found = of_one((np.arange(epochs) / 10).tolist(), [True] * epochs)
    assert found["variability"] == pytest.approx(math.sqrt((epochs**2 - 1) / 12) / 10)
    assert found["confidence"] == pytest.approx((epochs - 1) / 20)


def test_one_epoch_varies_and_forgets_nothing() -> None:
    assert of_one([0.7], [True]) == {"confidence": 0.7, "variability": 0, "correctness": 1, "forgetting_events": 0}


@pytest.mark.parametrize(
    ("right", "events"), [("11111", 0), ("00000", 0), ("01111", 0), ("11110", 1), ("10101", 2), ("10011", 1), ("01010", 2)]
)
def test_only_right_then_wrong_is_forgetting(right: str, events: int) -> None:
    is_right = [letter == "1" for letter in right]
    found = of_one([0.5] * 5, is_right)
    assert found["forgetting_events"] == events
    assert found["correctness"] == pytest.approx(sum(is_right) / 5)


def test_each_sentence_has_its_own_row_and_what_the_data_say_of_it() -> None:
    columns = {
        "text": ["a", "b", "c"], "text_pair": ["d", "e", "f"], "label": [0, 1, 1], "clean_label": [0, 0, 1],
        "rating": [0.5, None, -1.0], "judgements": [[1], [2], [3]],
    }  # fmt: skip
    probabilities = np.array([[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]])
    table = dynamics_table(datasets.Dataset.from_dict(columns), probabilities, probabilities > 0.25)
    assert list(table) == [
        *("index", "text", "text_pair", "label", "epoch_0", "epoch_1"),
        *("confidence", "variability", "correctness", "forgetting_events", "flipped", "clean_label", "rating"),
    ]
    assert table["index"].tolist() == [0, 1, 2]
    assert table["epoch_1"].tolist() == [0.5, 0.6, 0.7]
    assert table["confidence"].tolist() == pytest.approx([0.3, 0.4, 0.5])
    assert table["correctness"].tolist() == [0.5, 0.5, 1]
    assert table["flipped"].tolist() == [False, True, False]
    np.testing.assert_array_equal(table["rating"], [0.5, np.nan, -1])


def test_without_noise_nothing_is_called_flipped() -> None:
    sentences = datasets.Dataset.from_dict({"text": ["a"], "label": [0]})
    assert "flipped" not in dynamics_table(sentences, np.array([[0.5]]), np.array([[True]]))
