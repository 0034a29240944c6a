"""Separation of classes against literal sums and scikit-learn, and neural collapse where it is complete."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import NearestCentroid

from frostline.errors import FrostlineError
from frostline.measures.separation import fisher_ratio, neural_collapse, silhouette

Space = NDArray[np.float64]


def classes_of(seed: int = 0, classes: int = 3, sentences: int = 240, width: int = 12) -> tuple[Space, NDArray[np.int64]]:
    """Overlapping classes of unequal size, away from the origin."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.choice(classes, size=sentences, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()))
    return 5 + rng.normal(size=(classes, width))[labels] + rng.normal(size=(sentences, width)), labels


def simplex(classes: int, width: int = 12) -> Space:
    """The vertices of a regular simplex around the origin, ``[classes, width]``."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(width, width)))[0]
    return (np.eye(classes) - 1 / classes) @ turn[:classes]


# --- Fisher ratio and silhouette ---------------------------------------------------------------------------------------


def test_fisher_ratio_is_the_sums_of_squares_written_out() -> None:
    x, labels = classes_of()
    within = between = 0.0
    for c in range(3):
        rows = x[labels == c]
        within += np.square(rows - rows.mean(axis=0)).sum()
        between += len(rows) * np.square(rows.mean(axis=0) - x.mean(axis=0)).sum()
    assert fisher_ratio(x, labels) == pytest.approx(between / within, rel=1e-10)
    assert fisher_ratio(7 * x - 3, 10 * labels + 4) == pytest.approx(between / within, rel=1e-10)


def test_fisher_ratio_of_one_feature_is_that_of_the_analysis_of_variance() -> None:
    from scipy.stats import f_oneway

    x, labels = classes_of(2)
    f = f_oneway(*(x[labels == c, 0] for c in range(3))).statistic
    assert fisher_ratio(x[:, :1], labels) == pytest.approx(f * 2 / (240 - 3))


def test_labels_that_mean_nothing_have_the_null() -> None:
    x = np.random.default_rng(3).normal(size=(600, 100))
    ratios = [fisher_ratio(x, np.random.default_rng(seed).integers(4, size=600)) for seed in range(20)]
    assert np.mean(ratios) == pytest.approx(3 / 596, rel=0.1)


def test_fisher_ratio_of_points() -> None:
    labels = np.array([0, 0, 1, 1])
    assert fisher_ratio(np.array([[0.0], [0], [1], [1]]), labels) == np.inf
    assert np.isnan(fisher_ratio(np.zeros((4, 1)), labels))


def test_silhouette_is_scikit_learn_s() -> None:
    x, labels = classes_of(4)
    assert silhouette(x, labels) == pytest.approx(silhouette_samples(x, labels).mean())
    assert np.isnan(silhouette(x, np.zeros(240, dtype=int)))
    assert np.isnan(silhouette(x, np.arange(240)))


def test_silhouette_of_many_sentences_is_that_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = classes_of(5, sentences=900)
    whole = silhouette(x, labels)
    monkeypatch.setattr("frostline.measures.separation.SILHOUETTE_SENTENCES", 600)
    assert silhouette(x, labels, seed=1) == silhouette(x, labels, seed=1) != silhouette(x, labels, seed=2)
    assert silhouette(x, labels) == pytest.approx(whole, abs=0.03)


# --- neural collapse ---------------------------------------------------------------------------------------------------


def test_collapsed_features_with_their_own_means_as_head_have_all_zeros() -> None:
    means, labels = simplex(4), np.repeat(np.arange(4), [10, 20, 30, 40])
    found = neural_collapse(3 * means[labels] + 8, labels, 2 * means, -6 * means @ np.full(12, 8 / 3))
    assert (found.nc1, found.nc2_equinorm, found.nc2_equiangle, found.nc3) == pytest.approx((0, 0, 0, 0), abs=1e-10)
    assert found.nc4 == 0


def test_nc1_falls_with_the_variance_within_classes() -> None:
    labels = np.repeat(np.arange(4), 50)
    noise = np.random.default_rng(6).normal(size=(200, 12))
    values = [neural_collapse(simplex(4)[labels] + spread * noise, labels, None).nc1 for spread in (0.1, 0.01, 0.001)]
    assert values[0] / values[1] == pytest.approx(100, rel=0.2)
    assert values[1] / values[2] == pytest.approx(100, rel=0.02)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_neural_collapse_is_its_definition(classes: int) -> None:
    x, labels = classes_of(7, classes)
    weight = np.random.default_rng(8).normal(size=(classes, 12))
    means = np.stack([x[labels == c].mean(axis=0) for c in range(classes)])
    m = means - means.mean(axis=0)
    within = sum(np.outer(row, row) for row in x - means[labels]) / len(x)
    between = sum(np.outer(row, row) for row in m) / classes
    found = neural_collapse(x, labels, weight)
    assert found.nc1 == pytest.approx(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / classes, rel=1e-8)
    assert found.nc3 == pytest.approx(np.linalg.norm(weight / np.linalg.norm(weight) - m / np.linalg.norm(m)))
    if classes > 2:
        norms = [np.linalg.norm(row) for row in m]
        cosines = [m[i] @ m[j] / norms[i] / norms[j] for i in range(classes) for j in range(i)]
        assert found.nc2_equinorm == pytest.approx(np.std(norms) / np.mean(norms))
        assert found.nc2_equiangle == pytest.approx(np.mean([abs(c + 1 / (classes - 1)) for c in cosines]))


def test_two_classes_have_no_simplex_to_be_far_from() -> None:
    x, labels = classes_of(9, 2)
    found = neural_collapse(x, labels, None)
    assert found.nc2_equinorm is None and found.nc2_equiangle is None
    m = np.stack([x[labels == c].mean(axis=0) for c in range(2)])
    m -= m.mean(axis=0)
    assert m[0] @ m[1] / np.linalg.norm(m[0]) / np.linalg.norm(m[1]) == pytest.approx(-1), "which is why"


def test_nc4_is_0_for_the_classifier_by_nearest_mean() -> None:
    x, labels = classes_of(10)
    means = np.stack([x[labels == c].mean(axis=0) for c in range(3)])
    assert neural_collapse(x, labels, means, -np.square(means).sum(axis=1) / 2).nc4 == 0
    assert neural_collapse(x, labels, -means, np.square(means).sum(axis=1) / 2).nc4 > 0.5


def test_nc4_agrees_with_scikit_learn() -> None:
    x, labels = classes_of(11)
    head = LinearDiscriminantAnalysis().fit(x, labels)
    expected = np.mean(head.predict(x) != NearestCentroid().fit(x, labels).predict(x))
    assert expected > 0
    assert neural_collapse(x, labels, head.coef_, head.intercept_).nc4 == pytest.approx(expected)


def test_without_a_head_of_this_width_there_is_no_nc3_and_no_nc4() -> None:
    x, labels = classes_of()
    for weight in (None, np.ones((3, 11))):
        found = neural_collapse(x, labels, weight)
        assert found.nc3 is None and found.nc4 is None and found.nc1 > 0


def test_equal_class_means_are_not_a_collapse() -> None:
    x = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert np.isnan(neural_collapse(x, np.array([0, 0, 1, 1]), np.eye(2)).nc1)


def test_classes_that_cannot_be_compared_are_refused() -> None:
    x, labels = classes_of()
    with pytest.raises(FrostlineError, match="Class 1 has no sentence"):
        neural_collapse(x[labels != 1], labels[labels != 1], None)
    with pytest.raises(FrostlineError, match="Class 3 has no sentence"):
        neural_collapse(x, labels, np.ones((4, 12)))
    with pytest.raises(FrostlineError, match="label 2, but the head has 2"):
        neural_collapse(x, labels, np.ones((2, 12)))
    with pytest.raises(FrostlineError, match="only one"):
        neural_collapse(x, np.zeros(240, dtype=int), None)
    for measure in (fisher_ratio, silhouette):
        with pytest.raises(ValueError, match="label a sentence"):
            measure(x, labels[1:])
