"""Shapes of clouds whose shape is known, against literal definitions and scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from frostline.measures.shape import (
    anisotropy,
    centred,
    intrinsic_dimension,
    isoscore,
    outlier_dimensions,
    participation_ratio,
    unit_rows,
    without_dimensions,
)

Space = NDArray[np.float64]


def cloud(seed: int = 0, sentences: int = 200, width: int = 30) -> Space:
    return np.random.default_rng(seed).normal(size=(sentences, width)) * np.linspace(0.2, 2, width) + 0.7


def sheet(dimension: int, sentences: int, seed: int) -> Space:
    """A flat sheet of some dimension in 384."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(384, dimension)))[0]
    return rng.random((sentences, dimension)) @ basis.T


def test_only_what_float32_cannot_tell_apart_is_constant() -> None:
    x = cloud()
    np.testing.assert_allclose(centred(x), x - x.mean(axis=0))
    rounding = np.float32(1) + np.random.default_rng(1).integers(0, 2, size=(50, 4)).astype(np.float32) * np.float32(1.2e-7)
    assert rounding.std() > 0 and not centred(rounding).any()
    assert centred(1 + 1e-4 * x).any()


# --- direction ---------------------------------------------------------------------------------------------------------


def test_anisotropy_is_the_mean_cosine_of_pairs() -> None:
    for x in (cloud(), cloud().astype(np.float32), centred(cloud(2))):
        pairs = cosine_similarity(x.astype(np.float64))[np.triu_indices(len(x), 1)]
        assert anisotropy(x) == pytest.approx(pairs.mean(), abs=1e-10)


def test_anisotropy_counts_a_row_of_zeros_as_orthogonal_to_all() -> None:
    x = cloud()
    x[3] = 0
    assert anisotropy(x) == pytest.approx(cosine_similarity(x)[np.triu_indices(len(x), 1)].mean(), abs=1e-10)
    np.testing.assert_array_equal(unit_rows(x)[3], 0)


def test_anisotropy_at_its_ends() -> None:
    assert anisotropy(np.ones((5, 3))) == pytest.approx(1)
    assert anisotropy(np.array([[1.0, 0], [-2, 0]])) == pytest.approx(-1)
    x = np.random.default_rng(3).normal(size=(2000, 100))
    assert anisotropy(x) == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match="at least 2"):
        anisotropy(np.ones((1, 3)))


# --- spread of variance ------------------------------------------------------------------------------------------------


def literal_isoscore(x: Space) -> float:
    """The published steps: variances along principal axes, their normalised distance from equal ones, and its rescaling."""
    d = x.shape[1]
    variances = np.diag(np.cov(PCA().fit_transform(x).T))
    normalised = np.sqrt(d) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(normalised - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    return ((d - defect**2 * (d - np.sqrt(d))) ** 2 - d) / (d * (d - 1))


def test_participation_ratio_is_that_of_the_covariance_s_eigenvalues() -> None:
    for sentences in (200, 30, 12):  # more sentences than dimensions, as many, fewer
        x = cloud(4, sentences)
        spectrum = np.linalg.eigvalsh(np.cov(x.T))
        assert participation_ratio(x) == pytest.approx(spectrum.sum() ** 2 / np.square(spectrum).sum(), rel=1e-10)


def test_isoscore_is_the_published_one() -> None:
    x = cloud(5)
    assert isoscore(x) == pytest.approx(literal_isoscore(x), abs=1e-10)
    assert isoscore(x) == pytest.approx((participation_ratio(x) - 1) / (30 - 1), abs=1e-10)


def test_isoscore_at_its_ends() -> None:
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=6)))  # covariance exactly the identity
    assert isoscore(signs) == pytest.approx(1, abs=1e-12)
    assert participation_ratio(signs) == pytest.approx(6)
    line = np.outer(np.arange(10.0), np.arange(1.0, 7))
    assert isoscore(line) == pytest.approx(0, abs=1e-12)


def test_isotropic_features_have_the_nulls() -> None:
    for sentences, width in ((1000, 384), (300, 384)):
        x = np.random.default_rng(6).normal(size=(sentences, width))
        null = sentences / (sentences + width)
        assert participation_ratio(x) == pytest.approx(null * width, rel=0.02)
        assert isoscore(x) == pytest.approx(null, rel=0.02)


def test_a_constant_space_has_no_shape() -> None:
    constant = np.full((20, 5), 0.1, dtype=np.float32)
    assert np.isnan(participation_ratio(constant)) and np.isnan(isoscore(constant))
    assert np.isnan(isoscore(cloud()[:, :1]))
    found = intrinsic_dimension(constant)
    assert np.isnan(found.dimension) and found.distinct == 1


# --- intrinsic dimension -----------------------------------------------------------------------------------------------


def literal_two_nn(x: Space) -> float:
    logs = []
    for i in range(len(x)):
        r1, r2 = np.sort(np.linalg.norm(np.delete(x, i, axis=0) - x[i], axis=1))[:2]
        logs.append(np.log(r2 / r1))
    return (len(x) - 1) / sum(logs)


def test_intrinsic_dimension_equals_a_search_by_hand() -> None:
    x = cloud(7, 150, 10)
    assert intrinsic_dimension(x).dimension == pytest.approx(literal_two_nn(x), rel=1e-10)
    assert intrinsic_dimension(1000 + x).dimension == pytest.approx(literal_two_nn(x), rel=1e-6)


@pytest.mark.parametrize(("dimension", "expected", "tolerance"), [(2, 2.0, 0.1), (5, 4.8, 0.2)])
def test_intrinsic_dimension_of_a_sheet(dimension: int, expected: float, tolerance: float) -> None:
    draws = [intrinsic_dimension(sheet(dimension, 3000, seed)).dimension for seed in range(4)]
    assert np.mean(draws) == pytest.approx(expected, abs=tolerance)


def test_duplicate_texts_are_counted_once() -> None:
    x = cloud(8, 100, 6)
    twice = np.random.default_rng(0).permutation(np.concatenate([x, x[:40]]))
    found = intrinsic_dimension(twice)
    assert found.distinct == 100
    assert found.dimension == pytest.approx(intrinsic_dimension(x).dimension, rel=1e-10)


def test_points_at_equal_distances_have_no_bounded_dimension() -> None:
    assert intrinsic_dimension(np.eye(5)).dimension > 1e6


# --- outlier dimensions ------------------------------------------------------------------------------------------------


def test_large_means_and_large_variances_are_outliers() -> None:
    x = np.random.default_rng(9).normal(size=(500, 100))
    assert outlier_dimensions(np.sign(x)).tolist() == []  # all of one magnitude
    x[:, 3] -= 20
    x[:, 41] *= 25
    assert outlier_dimensions(x).tolist() == [3, 41]
    assert outlier_dimensions(x, sds=100).tolist() == []
    rest = without_dimensions(x, outlier_dimensions(x))
    np.testing.assert_array_equal(rest, x[:, [i for i in range(100) if i not in (3, 41)]])
    assert without_dimensions(x.astype(np.float32), np.array([], dtype=np.int64)).dtype == np.float32
