"""The online code against its definition, its bounds, and labels that are trivial or impossible to read."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from frostline.errors import FrostlineError
from frostline.measures.codelength import EACH, FIRST, SHARES, block_ends, online_codelength

pytestmark = pytest.mark.usefixtures("one_thread")
SEEDS = (0, 1, 2)


def problem(examples: int, classes: int, distance: float, seed: int = 0, width: int = 10) -> tuple[Tensor, Tensor]:
    """Clouds around the corners of a simplex, ``distance`` deviations from its centre."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(examples) % classes)
    features = random.normal(size=(examples, width)) + distance * np.eye(classes, width)[labels]
    return torch.tensor(features, dtype=torch.float32), torch.from_numpy(labels)


def test_a_code_of_one_strength_is_the_sum_of_its_definition() -> None:
    """Voita & Titov's equation 3, by scikit-learn; the strength that leaves class shares alone never wins here."""
    features, labels = problem(500, 3, distance=3.0)
    order = np.random.default_rng(4).permutation(500)
    x, y = features.numpy()[order].astype(np.float64), labels.numpy()[order]
    ends = block_ends(y, 3)
    bits = ends[0] * math.log2(3)
    for start, end in itertools.pairwise(ends):
        scaler = StandardScaler().fit(x[:start])
        fit = LogisticRegression(C=0.1, tol=1e-10, solver="newton-cholesky").fit(scaler.transform(x[:start]), y[:start])
        likelihoods = fit.predict_proba(scaler.transform(x[start:end]))
        bits -= np.log2(likelihoods[np.arange(end - start), y[start:end]]).sum()
    code = online_codelength(features, labels, 3, [4], C_grid=(0.1,))
    assert code.bits == pytest.approx(bits, rel=1e-4)


def test_the_mean_over_shuffles_is_reported_with_each() -> None:
    features, labels = problem(200, 2, distance=1.0)
    code = online_codelength(features, labels, 2, SEEDS)
    single = [online_codelength(features, labels, 2, [seed]).bits for seed in SEEDS]
    assert code.by_shuffle.tolist() == single
    assert len(set(single)) == len(SEEDS)
    assert code.bits == pytest.approx(np.mean(single))
    assert code.compression == pytest.approx(200 / code.bits)


def test_a_probe_that_can_say_nothing_compresses_nothing() -> None:
    features, labels = torch.zeros(2000, 4), torch.arange(2000) % 4
    code = online_codelength(features, labels, 4, SEEDS)
    assert code.uniform_bits == pytest.approx(2000 * 2)
    assert code.compression == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("classes", [2, 4])
def test_separable_labels_cost_little_more_than_the_first_block(classes: int) -> None:
    features, labels = problem(2000, classes, distance=20.0)
    code = online_codelength(features, labels, classes, SEEDS)
    first = code.first_block * math.log2(classes)
    assert first <= code.bits <= first + 0.02 * code.uniform_bits
    assert code.compression > 20


@pytest.mark.parametrize(("examples", "classes", "width"), [(300, 2, 20), (300, 2, 100), (600, 4, 40)])
def test_labels_without_a_pattern_are_not_compressed_and_cost_little_more(examples: int, classes: int, width: int) -> None:
    codes = []
    for seed in range(3):
        features, labels = problem(examples, classes, distance=0.0, seed=seed, width=width)
        codes.append(online_codelength(features, labels, classes, SEEDS))
    assert all(code.compression <= 1.01 for code in codes)
    # The first blocks choose on four examples, so single codes of so few labels lose up to a fifth.
    assert np.mean([code.compression for code in codes]) > 0.8


def test_the_more_easily_labels_are_read_the_shorter_the_code() -> None:
    codes = [online_codelength(*problem(600, 2, distance), 2, SEEDS).bits for distance in (0.0, 1.0, 2.0, 4.0)]
    assert codes == sorted(codes, reverse=True)
    assert codes[0] > codes[-1] * 2


def test_blocks_end_at_the_papers_shares_from_one_percent_on() -> None:
    labels = np.arange(10_000) % 2
    assert block_ends(labels, 2) == [round(share * 10_000) for share in SHARES]


def test_the_first_block_of_few_examples_has_enough() -> None:
    assert block_ends(np.arange(400) % 2, 2) == [FIRST, 25, 50, 100, 200, 400]


def test_the_first_block_has_every_class_twice_where_its_probe_is_fitted() -> None:
    labels = np.zeros(1000, dtype=np.int64)
    labels[[100, 150, 151, 152]] = 1  # the second is number 151
    ends = block_ends(labels, 2)
    assert ends[0] > 151
    assert (labels[: int(0.8 * ends[0])] == 1).sum() >= EACH
    assert ends[-1] == 1000
    assert all(a < b for a, b in itertools.pairwise(ends))


def test_a_class_that_comes_late_is_sent_without_a_model() -> None:
    labels = np.zeros(100, dtype=np.int64)
    labels[[98, 99]] = 1
    assert block_ends(labels, 2) == [100]


def test_too_few_examples_are_told() -> None:
    features, labels = problem(2 * FIRST - 1, 2, distance=1.0)
    with pytest.raises(FrostlineError, match="at least 40 examples"):
        online_codelength(features, labels, 2, SEEDS)
    rare = torch.zeros(100, dtype=torch.int64)
    rare[0] = 1
    with pytest.raises(FrostlineError, match="class 1 has 1"):
        online_codelength(torch.zeros(100, 3), rare, 2, SEEDS)
