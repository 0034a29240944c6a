"""Calibration against torchmetrics, scikit-learn, closed forms and simulated calibrated models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import brentq
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from frostline.measures.calibration import (
    TEMPERATURES,
    brier,
    calibrated_null,
    expected_calibration_error,
    fit_temperature,
    reliability,
    tempered,
)
from frostline.measures.scores import nll


def drawn(sentences: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn from what they say: a calibrated model."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(sentences, classes)) * 2
    return logits, (tempered(logits).cumsum(axis=1) > random.random((sentences, 1))).argmax(axis=1)


def sure(confidence: np.ndarray) -> np.ndarray:
    """Probabilities of two classes, the first the larger."""
    return np.stack([confidence, 1 - confidence], axis=1)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_error_is_torchmetrics(classes: int, bins: int) -> None:
    logits, labels = drawn(400, classes)
    said = tempered(logits, 0.6)
    theirs = multiclass_calibration_error(torch.tensor(said), torch.tensor(labels), classes, n_bins=bins, norm="l1")
    assert expected_calibration_error(said, labels, bins) == pytest.approx(theirs.item(), abs=1e-6)


def test_the_error_by_hand_and_that_a_bin_holds_its_upper_bound() -> None:
    said, labels = sure(np.array([0.6, 0.8, 0.8, 0.9])), np.array([1, 0, 1, 0])
    # five bins: (0.4, 0.6] is wrong, (0.6, 0.8] half right, (0.8, 1] right
    assert expected_calibration_error(said, labels, bins=5) == pytest.approx((0.6 + 2 * 0.3 + 0.1) / 4)
    # two of equal mass: 0.6 and both 0.8 (ties stay together), 0.9
    assert expected_calibration_error(said, labels, bins=2, equal_mass=True) == pytest.approx((abs(1 - 2.2) + 0.1) / 4)


def test_bins_of_equal_mass_are_as_large_each() -> None:
    logits, labels = drawn(1000)
    table = reliability(tempered(logits), labels, 15, equal_mass=True)
    assert len(table) == 15 and table["n"].sum() == 1000 and table["n"].between(66, 67).all()
    assert table["confidence"].is_monotonic_increasing


def test_a_calibrated_model_has_an_error_and_its_null_says_how_much() -> None:
    """Of 1,000 sentences in 15 bins: 0.012, 95th percentile 0.02 (confidences of two classes, 1/2 + Beta(8, 1.2) / 2)."""
    random = np.random.default_rng(1)
    confidence = 0.5 + 0.5 * random.beta(8, 1.2, (2000, 1000))
    right = random.random(confidence.shape) < confidence
    errors = [expected_calibration_error(sure(c), np.where(r, 0, 1)) for c, r in zip(confidence, right, strict=True)]
    assert np.mean(errors) == pytest.approx(0.0124, abs=0.0005)
    assert np.quantile(errors, 0.95) == pytest.approx(0.0205, abs=0.001)
    null = calibrated_null(sure(confidence[0]), resamples=2000)
    assert null == pytest.approx((np.mean(errors), np.quantile(errors, 0.95)), abs=0.0015)


@pytest.mark.parametrize("equal_mass", [False, True])
def test_the_null_is_that_of_labels_drawn_one_by_one(equal_mass: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said, random = tempered(drawn(150)[0]), np.random.default_rng(2)
    literal = [
        expected_calibration_error(said, (said.cumsum(axis=1) > random.random((150, 1))).argmax(axis=1), 15, equal_mass)
        for _ in range(1500)
    ]
    monkeypatch.setattr("frostline.measures.calibration.CHUNK_CELLS", 150 * 700)  # some chunks of unequal size
    null = calibrated_null(said, 3000, equal_mass=equal_mass)
    assert null.mean == pytest.approx(np.mean(literal), abs=4 * np.std(literal) / np.sqrt(1000))
    assert null.p95 == pytest.approx(np.quantile(literal, 0.95), abs=0.006)


def test_the_null_exposes_a_model_that_is_too_sure_and_not_one_that_is_calibrated() -> None:
    logits, labels = drawn(2000)
    for temperature, is_calibrated in ((1.0, True), (0.5, False), (2.0, False)):
        said = tempered(logits, temperature)
        assert (expected_calibration_error(said, labels) <= calibrated_null(said).p95 * 1.2) == is_calibrated


def test_brier_is_the_squared_distance_not_divided_by_classes() -> None:
    logits, labels = drawn(200, 4)
    said = tempered(logits)
    assert brier(said, labels) == pytest.approx(((said - np.eye(4)[labels]) ** 2).sum(axis=1).mean())
    assert brier(sure(np.ones(3)), np.ones(3, dtype=int)) == 2, "wholly wrong, and a class that no label has"
    assert brier(sure(np.full(2, 0.7)), np.array([0, 1])) == pytest.approx((2 * 0.3**2 + 2 * 0.7**2) / 2)


def test_nll_is_scikit_learn_s_and_is_not_cut_off() -> None:
    logits, labels = drawn(200, 4)
    assert nll(logits, labels) == pytest.approx(log_loss(labels, tempered(logits)))
    assert nll(np.array([[1000.0, 0.0]]), np.array([1])) == pytest.approx(1000)


@pytest.mark.parametrize("classes", [2, 3])
def test_calibrated_logits_have_a_temperature_of_1(classes: int) -> None:
    found = [np.log(fit_temperature(*drawn(5000, classes, seed))) for seed in range(20)]
    assert np.abs(found).mean() < 0.05 and abs(np.mean(found)) < 0.02
    logits, labels = drawn(5000, classes, 1)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * fit_temperature(logits, labels), rel=1e-4)


def test_the_temperature_is_where_the_derivative_is_0_and_no_prediction_changes() -> None:
    logits, labels = drawn(300)
    logits = 0.2 * logits - 5
    right = logits[np.arange(300), labels]

    def slope(inverse: float) -> float:
        return float((tempered(logits, 1 / inverse) * logits).sum(axis=1).mean() - right.mean())

    found = fit_temperature(logits, labels)
    assert found == pytest.approx(1 / brentq(slope, 0.1, 50), rel=1e-4)
    assert nll(logits / found, labels) < nll(logits, labels)
    for temperature in (*TEMPERATURES, found):
        assert (tempered(logits, temperature).argmax(axis=1) == logits.argmax(axis=1)).all()


def test_temperatures_of_sentences_that_cannot_tell_are_bounded() -> None:
    logits = np.random.default_rng(3).normal(size=(50, 3))
    assert fit_temperature(logits, logits.argmax(axis=1)) == pytest.approx(TEMPERATURES[0])
    assert fit_temperature(logits, logits.argmin(axis=1)) == pytest.approx(TEMPERATURES[1])
    assert fit_temperature(np.ones((4, 2)), np.array([0, 1, 1, 1])) == 1


def test_bars_and_band_of_a_reliability_diagram() -> None:
    said = sure(np.repeat([0.6, 0.95], [40, 60]))
    labels = np.repeat([0, 1, 0, 1], [20, 20, 57, 3])
    table = reliability(said, labels, bins=10)
    assert list(table) == ["confidence", "accuracy", "low", "high", "n", "null_low", "null_high"]
    assert table[["confidence", "accuracy", "n"]].to_numpy() == pytest.approx(np.array([[0.6, 0.5, 40], [0.95, 0.95, 60]]))
    for row in table.itertuples():
        z2, p, n = 1.959964**2, row.accuracy, row.n
        centre, half = (p + z2 / 2 / n) / (1 + z2 / n), np.sqrt(z2 * (p * (1 - p) / n + z2 / 4 / n**2)) / (1 + z2 / n)
        assert (row.low, row.high) == pytest.approx((centre - half, centre + half), abs=1e-5)
        for share, bound in ((0.05, row.null_low), (0.95, row.null_high)):
            right = round(bound * n)
            assert stats.binom.cdf(right - 1, n, row.confidence) < share <= stats.binom.cdf(right, n, row.confidence)


def test_tables_of_different_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes are"):
        expected_calibration_error(np.ones((3, 2)), np.ones(2, dtype=int))
