"""A concept that was erased cannot be found by any linear probe, and what is left moved as little as it can."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from frostline.errors import FrostlineError
from frostline.strategies.erasure import fit_eraser, fold

ONE_CLASS = torch.zeros(300, dtype=torch.int64)
pytestmark = pytest.mark.usefixtures("one_thread")


def features(n: int = 300, width: int = 12, classes: int = 2) -> tuple[torch.Tensor, np.ndarray]:
    random = np.random.default_rng(0)
    concept = random.integers(0, classes, n)
    x = random.normal(size=(n, width)) @ random.normal(size=(width, width)) + 5 + random.normal(size=(classes, width))[concept]
    return torch.from_numpy(x), concept


@pytest.mark.parametrize("classes", [2, 3])
def test_nothing_linear_tells_of_the_concept_any_more(classes: int) -> None:
    x, concept = features(classes=classes)
    assert LogisticRegression(max_iter=5000).fit(x, concept).score(x, concept) > 0.6
    erased = fit_eraser(x, concept, ONE_CLASS)(x)
    for value in range(classes):  # the means of all values are the same
        torch.testing.assert_close(erased[concept == value].mean(dim=0), x.mean(dim=0), atol=1e-9, rtol=0)
    majority = np.bincount(concept).max() / len(concept)
    assert LogisticRegression(max_iter=5000).fit(erased, concept).score(erased, concept) == pytest.approx(majority, abs=0.02)


def test_only_as_many_directions_as_needed_go_and_erasing_twice_is_erasing_once() -> None:
    x, concept = features(classes=3)
    eraser = fit_eraser(x, concept, ONE_CLASS)
    torch.testing.assert_close(eraser.projection @ eraser.projection, eraser.projection)
    assert torch.linalg.matrix_rank(eraser.projection) == x.shape[1] - 2
    torch.testing.assert_close(eraser(eraser(x)), eraser(x))


def test_it_moves_features_less_than_any_orthogonal_projection() -> None:
    x, concept = features()
    difference = x[concept == 1].mean(dim=0) - x[concept == 0].mean(dim=0)
    direction = difference / difference.norm()
    projected = x - (x - x.mean(dim=0)) @ torch.outer(direction, direction)
    assert (fit_eraser(x, concept, ONE_CLASS)(x) - x).square().sum() < (projected - x).square().sum()


def test_constant_features_stay() -> None:
    x, concept = features()
    x[:, 3] = 7.0
    erased = fit_eraser(x, concept, ONE_CLASS)(x)
    torch.testing.assert_close(erased[:, 3], x[:, 3])
    torch.testing.assert_close(erased[concept == 0].mean(dim=0), erased[concept == 1].mean(dim=0))


def test_a_folded_probe_says_of_plain_features_what_the_probe_says_of_erased_ones() -> None:
    x, concept = features()
    eraser, generator = fit_eraser(x, concept, ONE_CLASS), torch.Generator().manual_seed(0)
    weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((2, 12), (2,)))
    mean, scale = eraser(x).mean(dim=0), eraser(x).std(dim=0) + 0.1
    expected = F.linear((eraser(x) - mean) / scale, weight, bias)
    folded = fold(weight, bias, mean, scale, eraser)
    found = F.linear((x - folded["mean"]) / folded["scale"], folded["head.weight"], folded["head.bias"])
    torch.testing.assert_close(found, expected)


def test_a_concept_with_one_value_is_told() -> None:
    with pytest.raises(FrostlineError, match="all training sentences have the value 'a'"):
        fit_eraser(torch.randn(4, 3), ["a"] * 4, torch.zeros(4, dtype=torch.int64))


def test_a_class_that_goes_with_the_concept_stays_readable() -> None:
    random, n = np.random.default_rng(1), 4000
    label = np.arange(n) % 2
    concept = np.where(random.random(n) < 0.9, label, 1 - label)
    x = random.normal(size=(n, 6))
    x[:, 0] += 2.0 * label
    x[:, 1] += 1.5 * concept
    eraser = fit_eraser(torch.from_numpy(x), concept, torch.from_numpy(label))
    erased = eraser(torch.from_numpy(x)).numpy()
    probe = LogisticRegression().fit(erased, label)
    assert probe.score(erased, label) > 0.8
    for value in (0, 1):  # within a class, nothing linear tells of the concept
        of = label == value
        apart = erased[of & (concept == 1)].mean(axis=0) - erased[of & (concept == 0)].mean(axis=0)
        assert np.abs(apart).max() < 0.25  # exact over both classes together; here up to sampling
    both = x.copy()
    both[:, 1] += 1.5 * (1 - 2 * concept)  # the same sentences with the other value of the concept
    change = probe.decision_function(eraser(torch.from_numpy(both)).numpy()) - probe.decision_function(erased)
    plain = LogisticRegression().fit(x, label)
    unerased = plain.decision_function(both) - plain.decision_function(x)
    assert np.abs(change).mean() < 0.3 * np.abs(unerased).mean()
