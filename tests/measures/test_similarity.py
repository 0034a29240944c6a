"""Similarities against literal definitions and SciPy, at the nulls, and where they are known to mislead."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import pdist

from frostline.measures.shape import centred, outlier_dimensions, without_dimensions
from frostline.measures.similarity import (
    cka,
    cka_debiased,
    cka_debiased_interval,
    neighbour_overlap,
    procrustes,
    procrustes_held_out,
    rsa,
)
from frostline.measures.statistics import jackknife

Space = NDArray[np.float64]


def orthogonal(width: int, seed: int = 0) -> Space:
    return stats.ortho_group.rvs(width, random_state=seed)


def related(seed: int = 0, sentences: int = 300, width: int = 20) -> tuple[Space, Space]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(sentences, width)) * np.linspace(0.5, 2, width)
    return x, x @ rng.normal(size=(width, width)) + rng.normal(size=(sentences, width))


def literal_hsic(x: Space, y: Space) -> float:
    """HSIC_1 as it is written down, with the n x n matrices."""
    n, one = len(x), np.ones(len(x))
    k, l = x @ x.T, y @ y.T  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    terms = np.trace(k @ l), (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)), -2 / (n - 2) * (one @ k @ l @ one)
    return sum(terms) / (n * (n - 3))


# --- CKA ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [cka, cka_debiased])
@pytest.mark.parametrize("sentences", [60, 10], ids=["more sentences than dimensions", "fewer"])
def test_cka_is_1_for_any_rotation_scale_and_shift(measure, sentences: int) -> None:
    x, _ = related(sentences=sentences)
    assert measure(x, x) == pytest.approx(1, abs=1e-12)
    assert measure(x, 1.7 * x @ orthogonal(20) + 5) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("measure", [cka, cka_debiased])
def test_cka_does_not_change_with_rotation_and_scale(measure) -> None:
    x, y = related()
    assert 0.1 < measure(x, y) < 0.99
    assert measure(3 * x @ orthogonal(20, 1), -y @ orthogonal(20, 2) + 1) == pytest.approx(measure(x, y), abs=1e-10)


@pytest.mark.parametrize("sentences", [4, 15, 80])
def test_cka_equals_its_definition_with_gram_matrices(sentences: int) -> None:
    x, y = related(3, sentences)
    y = y[:, :13]  # another width
    k, l = (centred(a) @ centred(a).T for a in (x, y))  # noqa: E741
    assert cka(x, y) == pytest.approx(np.sum(k * l) / np.sqrt(np.sum(k * k) * np.sum(l * l)), rel=1e-10)
    expected = literal_hsic(x, y) / np.sqrt(literal_hsic(x, x) * literal_hsic(y, y))
    assert cka_debiased(x, y) == pytest.approx(expected, rel=1e-8)


def test_hsic_is_unbiased_over_all_samples_without_replacement() -> None:
    """The mean over all subsets of 5 of 7 sentences is the value of all 7, which no biased estimator has."""
    x, y = related(4, 7, 3)
    subsets = [list(rows) for rows in itertools.combinations(range(7), 5)]
    means = [np.mean([literal_hsic(a[r], b[r]) for r in subsets]) for a, b in ((x, y), (x, x), (y, y))]
    assert means[0] / np.sqrt(means[1] * means[2]) == pytest.approx(cka_debiased(x, y), rel=1e-9)


def test_biased_cka_of_independent_features_is_d_over_n_plus_d() -> None:
    rng = np.random.default_rng(5)
    for sentences, width, other in ((500, 100, 100), (200, 200, 200), (300, 50, 200)):
        x, y = rng.normal(size=(sentences, width)), rng.normal(size=(sentences, other))
        null = np.sqrt(width * other / ((sentences + width) * (sentences + other)))
        assert cka(x, y) == pytest.approx(null, abs=0.01)


def test_debiased_cka_of_independent_features_is_0() -> None:
    rng = np.random.default_rng(6)
    draws = [cka_debiased(*rng.normal(size=(2, 500, 384))) for _ in range(20)]
    assert abs(np.mean(draws)) < 0.005
    assert min(draws) < 0 < max(draws)


def test_batches_give_what_all_sentences_give() -> None:
    differences, biased = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        shared = rng.normal(size=(2048, 32))
        x, y = (np.hstack([shared, rng.normal(size=(2048, 64))]) @ rng.normal(size=(96, 96)) for _ in range(2))
        order = np.argsort(shared[:, 0])  # sorted sentences must not matter
        whole = cka_debiased(x, y)
        assert 0.05 < whole < 0.95
        assert cka_debiased(x, y, 5000) == whole
        differences.append(cka_debiased(x[order], y[order], 256) - whole)
        biased.append(np.mean([cka(x[i::8], y[i::8]) for i in range(8)]) - whole)
    assert abs(np.mean(differences)) < 0.005
    assert np.mean(biased) > 0.05, "biased batches must not pass this test"


def test_a_common_offset_in_float32_does_no_harm() -> None:
    x, y = related(8, 500, 40)
    offset_x, offset_y = (x + 100).astype(np.float32), (y + 100).astype(np.float32)
    for measure in (cka, cka_debiased):
        assert measure(offset_x, offset_y) == pytest.approx(measure(x, y), abs=1e-5)


def test_a_shared_outlier_dimension_makes_independent_spaces_alike_until_it_is_left_out() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(2, 1000, 64))
    x[:, 7] = y[:, 7] = 30 * rng.normal(size=1000)
    assert cka_debiased(x, y) > 0.99
    outliers = np.union1d(outlier_dimensions(x), outlier_dimensions(y))
    assert outliers.tolist() == [7]
    assert abs(cka_debiased(without_dimensions(x, outliers), without_dimensions(y, outliers))) < 0.02


def test_a_constant_space_is_like_nothing() -> None:
    x, _ = related()
    constant = np.full((300, 20), 0.1, dtype=np.float32)
    constant[::3] = np.nextafter(constant[::3], np.float32(1))  # up to rounding
    for measure in (cka, cka_debiased, rsa, neighbour_overlap):
        assert np.isnan(measure(x, constant)) and np.isnan(measure(constant, constant))
    assert np.isnan(cka_debiased(x, constant, 100))
    assert np.isnan(procrustes_held_out(x, constant, 0)) and np.isnan(procrustes_held_out(constant, x, 0))


def test_too_few_or_different_sentences_are_refused() -> None:
    x, y = related()
    with pytest.raises(ValueError, match="at least 4 sentences"):
        cka_debiased(x[:3], y[:3])
    with pytest.raises(ValueError, match="at least 4 sentences"):
        cka_debiased(x, y, 3)
    for measure in (cka, cka_debiased, procrustes, rsa, neighbour_overlap):
        with pytest.raises(ValueError, match="same sentences"):
            measure(x, y[1:])


# --- Procrustes --------------------------------------------------------------------------------------------------------


def test_procrustes_recovers_what_was_done_and_its_parts_add_up() -> None:
    rng = np.random.default_rng(10)
    x, turn = rng.normal(size=(2000, 30)), orthogonal(30)
    y = 1.7 * x @ turn + rng.normal(size=30) + 0.01 * rng.normal(size=x.shape)
    found = procrustes(x, y)
    assert found.scaling == pytest.approx(1.7, abs=1e-3)
    np.testing.assert_allclose(found.rotation_matrix, turn, atol=2e-3)
    assert found.translation + found.rotation + found.scale + found.residual == pytest.approx(found.total, rel=1e-14)
    assert found.total == pytest.approx(np.square(y - x).sum(), rel=1e-8)


def test_procrustes_parts_are_those_of_their_definition() -> None:
    x, y = related(11)
    xc, yc = x - x.mean(axis=0), y - y.mean(axis=0)
    u, s, vt = np.linalg.svd(xc.T @ yc)
    c = s.sum() / np.square(xc).sum()
    distances = [np.square(yc - z).sum() for z in (xc, xc @ u @ vt, c * xc @ u @ vt)]
    found = procrustes(x, y)
    assert found.translation == pytest.approx(len(x) * np.square(y.mean(axis=0) - x.mean(axis=0)).sum())
    assert (found.rotation, found.scale) == pytest.approx((distances[0] - distances[1], distances[1] - distances[2]))
    assert found.residual == pytest.approx(distances[2])
    share = scipy_procrustes(x, y)[2]  # of the whole, both spaces scaled to length 1
    assert found.residual / np.square(yc).sum() == pytest.approx(share)


def test_each_part_of_procrustes_stands_for_one_change() -> None:
    x, _ = related(12)
    x -= x.mean(axis=0)
    for name, y in (("translation", x + 0.5), ("rotation", x @ orthogonal(20)), ("scale", 1.3 * x)):
        found = procrustes(x, y)
        for part in ("translation", "rotation", "scale", "residual"):
            if part == name:
                assert getattr(found, part) == pytest.approx(found.total)
            else:
                assert 0 <= getattr(found, part) < 1e-9 * np.square(x).sum()


def test_procrustes_of_equal_spaces_is_0() -> None:
    x, _ = related(13)
    x = (x + 3).astype(np.float32)
    found = procrustes(x, x.copy())
    parts = (found.translation, found.rotation, found.scale, found.residual, found.total)
    assert all(0 <= part <= 1e-9 * np.square(centred(x)).sum() for part in parts)
    assert found.scaling == pytest.approx(1)


def test_small_changes_keep_their_digits() -> None:
    x, noise = related(14)
    y = x + 1e-7 * noise
    assert procrustes(x, y).total == pytest.approx(np.square(y - x).sum(), rel=1e-8)


def test_procrustes_of_a_constant_space_leaves_all_as_residual() -> None:
    x, y = related(15)
    found = procrustes(np.ones_like(x), y)
    assert np.isnan(found.scaling) and found.rotation == found.scale == 0
    assert found.total == pytest.approx(np.square(y - 1).sum())


def test_spaces_of_different_width_have_no_procrustes_distance() -> None:
    x, y = related()
    for measure in (lambda: procrustes(x, y[:, 1:]), lambda: procrustes_held_out(x, y[:, 1:], 0)):
        with pytest.raises(ValueError, match="same width"):
            measure()


def test_a_held_out_half_shows_what_procrustes_overfits() -> None:
    rng = np.random.default_rng(16)
    x, noise = rng.normal(size=(2, 600, 100))
    in_sample = procrustes(x, noise)
    assert in_sample.residual / np.square(centred(noise)).sum() < 0.9
    assert procrustes_held_out(x, noise, 0) > 1
    y = 0.6 * x @ orthogonal(100) + 2
    assert procrustes_held_out(x, y, 0) < 1e-20
    signal = np.square(centred(y)).sum() / y.size
    noisy = y + 0.2 * noise
    assert procrustes_held_out(x, noisy, 1) == pytest.approx(0.04 / (signal + 0.04), rel=0.3)
    assert procrustes_held_out(x, noisy, 1) == procrustes_held_out(x, noisy, 1) != procrustes_held_out(x, noisy, 2)


# --- distances and neighbours ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize(("method", "reference"), [("spearman", stats.spearmanr), ("pearson", stats.pearsonr)])
def test_rsa_agrees_with_scipy(distance, method, reference) -> None:
    x, y = related(17, 80)
    expected = reference(pdist(x, distance), pdist(y[:, :9], distance)).statistic
    assert rsa(x, y[:, :9], distance, method) == pytest.approx(expected, abs=1e-9)


def test_rsa_sees_neither_rotation_nor_scale() -> None:
    x, _ = related(18, 100)
    for distance in ("cosine", "euclidean"):
        assert rsa(x, 2 * x @ orthogonal(20), distance) == pytest.approx(1, abs=1e-6)


def literal_overlap(x: Space, y: Space, k: int) -> float:
    def nearest(space: Space, i: int) -> set[int]:
        cosines = [float(np.round(a @ space[i] / np.linalg.norm(a) / np.linalg.norm(space[i]), 9)) for a in space]
        return set(sorted((j for j in range(len(space)) if j != i), key=lambda j: (-cosines[j], j))[:k])

    pairs = [(nearest(x, i), nearest(y, i)) for i in range(len(x))]
    return float(np.mean([len(a & b) / len(a | b) for a, b in pairs]))


def test_overlap_of_neighbours_equals_the_sets_written_out() -> None:
    x, y = related(19, 60)
    x[10:20], y[10:20] = x[10], y[10]  # duplicate texts
    for k in (1, 5, 59):
        assert neighbour_overlap(x, y, k) == pytest.approx(literal_overlap(x, y, k))


def test_equal_spaces_share_all_neighbours_even_of_duplicate_texts() -> None:
    rng = np.random.default_rng(20)
    x = rng.normal(size=(50, 30))[rng.integers(50, size=400)]  # eight copies of each, on average
    assert neighbour_overlap(x, x.copy()) == 1
    assert neighbour_overlap(x, 3 * x @ orthogonal(30)) == 1
    assert neighbour_overlap(x.astype(np.float32), x.astype(np.float32)) == 1


def test_overlap_does_not_depend_on_how_many_cosines_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = related(21, 150)
    at_once = neighbour_overlap(x, y)
    monkeypatch.setattr("frostline.measures.similarity.CHUNK_CELLS", 150 * 37)
    assert neighbour_overlap(x, y) == at_once


def test_overlap_of_independent_spaces_is_that_of_random_sets() -> None:
    x, y = np.random.default_rng(22).normal(size=(2, 1000, 40))
    shared = 100 / 999
    assert neighbour_overlap(x, y) == pytest.approx(shared / (20 - shared), abs=0.003)


def test_more_neighbours_than_sentences_are_refused() -> None:
    x, y = related()
    for k in (0, 300):
        with pytest.raises(ValueError, match="1 <= k < 300"):
            neighbour_overlap(x, y, k)


@pytest.mark.parametrize("widths", [(12, 12), (30, 7)])
def test_the_quick_interval_is_that_of_the_jackknife(widths: tuple[int, int]) -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(57, widths[0])) + 5
    y = x[:, :1] @ rng.normal(size=(1, widths[1])) + rng.normal(size=(57, widths[1]))
    assert cka_debiased_interval(x, y, groups=6, seed=3) == pytest.approx(jackknife(cka_debiased, (x, y), groups=6, seed=3))
    assert cka_debiased_interval(x, x) == pytest.approx((1, 1, 1))
    with pytest.raises(ValueError, match="needs at least 20 sentences"):
        cka_debiased_interval(x[:19], y[:19])
