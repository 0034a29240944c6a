"""Scores on examples that can be counted by hand, and against independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score
from torchmetrics.functional.classification import multiclass_f1_score

from frostline.measures.scores import score


def certain(predictions: list[int], classes: int, strength: float = 3.0) -> NDArray[np.float64]:
    return np.eye(classes)[predictions] * strength


def test_an_example_counted_by_hand() -> None:
    # class 0: 2 of 3 found, 1 false -> F1 = 2/3; class 1: 1 of 2, 1 false -> 1/2; class 2: 1 of 1, 0 false -> 1
    found = score(certain([0, 0, 1, 1, 0, 2], 3), np.array([0, 0, 0, 1, 1, 2]), "test")
    assert found.keys() == {"test/accuracy", "test/macro_f1", "test/loss"}
    assert found["test/accuracy"] == pytest.approx(4 / 6)
    assert found["test/macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    right, wrong = -np.log(np.exp(3) / (np.exp(3) + 2)), -np.log(1 / (np.exp(3) + 2))
    assert found["test/loss"] == pytest.approx((4 * right + 2 * wrong) / 6)
    assert all(type(value) is float for value in found.values()), "they go into a JSON file"


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(3))
def test_random_predictions_agree_with_scikit_learn_and_torch(classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, 40)])
    logits = random.normal(size=(len(labels), classes)) * 3
    found = score(logits, labels, "val")
    predicted = logits.argmax(axis=1)
    assert found["val/accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["val/macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found["val/loss"] == pytest.approx(F.cross_entropy(torch.tensor(logits), torch.tensor(labels)).item())


def test_a_class_never_predicted_counts_as_zero_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    found = score(certain([0, 0, 0], 2), np.array([0, 0, 1]), "test")
    assert found["test/macro_f1"] == pytest.approx((4 / 5 + 0) / 2)
    assert not recwarn.list


def test_a_class_only_predicted_counts_as_zero() -> None:
    found = score(certain([0, 1, 2], 3), np.array([0, 1, 1]), "test")
    assert found["test/macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize("present", [[0, 1], [1, 2], [2]])
def test_with_absent_classes_the_final_score_is_the_one_that_chose_the_epoch(present: list[int]) -> None:
    """The training curve's val/macro_f1 is torchmetrics'; metrics.json must not say something else of the same logits."""
    labels = np.array(present * 4)
    predictions = np.roll(labels, 1)
    predictions[: len(present)] = labels[: len(present)]
    found = score(certain(predictions.tolist(), 3), labels, "val")
    during_training = multiclass_f1_score(torch.tensor(predictions), torch.tensor(labels), num_classes=3, average="macro")
    assert found["val/macro_f1"] == pytest.approx(during_training.item())


def test_one_class_alone_can_be_scored() -> None:
    found = score(certain([1, 1], 2), np.array([1, 1]), "test")
    assert found["test/accuracy"] == 1
    assert found["test/loss"] == pytest.approx(np.log1p(np.exp(-3)))


@pytest.mark.parametrize("strength", [20.0, 50.0, 1000.0])
def test_the_loss_of_confident_mistakes_is_not_cut_off(strength: float) -> None:
    logits, labels = certain([0, 1], 2, strength), np.array([1, 1])
    expected = F.cross_entropy(torch.tensor(logits), torch.tensor(labels)).item()
    assert score(logits, labels, "test")["test/loss"] == pytest.approx(expected)


def test_large_logits_do_not_overflow() -> None:
    found = score(np.array([[1e4, 1e4 - 1], [-1e4, -1e4 + 1]]), np.array([0, 1]), "test")
    assert found["test/loss"] == pytest.approx(np.log1p(np.exp(-1)))
