"""The mix leans on the layer that knows, and on none where all know the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from frostline.measures.scalar_mix import ScalarMix, scalar_mix

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS, WIDTH, CLASSES, C = 4, 8, 3, 0.1


def problem(knowing: int | None, seed: int = 0, sentences: int = 250) -> tuple[Tensor, Tensor]:
    """Layers of noise, of which one knows the label; or, for None, copies of one that does."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(sentences) % CLASSES)
    signal = 1.5 * random.normal(size=(CLASSES, WIDTH))[labels] + random.normal(size=(sentences, WIDTH))
    states = random.normal(size=(LAYERS, sentences, WIDTH))
    if knowing is None:
        states[:] = signal
    else:
        states[knowing] = signal
    return torch.tensor(states, dtype=torch.float32), torch.from_numpy(labels)


@pytest.mark.parametrize("knowing", range(LAYERS))
def test_the_only_layer_that_knows_the_label_dominates(knowing: int) -> None:
    mix = scalar_mix(*problem(knowing), CLASSES, C)
    assert mix.weights.sum() == pytest.approx(1.0)
    assert mix.weights.argmax() == knowing
    assert mix.weights[knowing] > 0.7
    assert abs(mix.expected_layer - knowing) < 0.6


def test_copies_of_one_layer_keep_equal_weights() -> None:
    mix = scalar_mix(*problem(None), CLASSES, C)
    np.testing.assert_allclose(mix.weights, 1 / LAYERS, atol=1e-4)
    assert mix.expected_layer == pytest.approx((LAYERS - 1) / 2, abs=1e-3)


def test_the_expected_layer_is_the_centre_of_gravity() -> None:
    assert ScalarMix(np.array([0.1, 0.2, 0.3, 0.4])).expected_layer == pytest.approx(2.0)


def test_a_layers_scale_and_offset_do_not_move_the_mix() -> None:
    """Weights of layers with unequal norms would say nothing (Tenney et al. normalise them, too)."""
    train, labels = problem(2)
    factor, offset = torch.tensor([100.0, 1.0, 0.01, 5.0])[:, None, None], torch.tensor([3.0, 0.0, 0.1, -9.0])[:, None, None]
    plain = scalar_mix(train, labels, CLASSES, C)
    scaled = scalar_mix(train * factor + offset, labels, CLASSES, C)
    np.testing.assert_allclose(scaled.weights, plain.weights, atol=0.01)


def test_the_same_data_give_the_same_mix() -> None:
    first, second = (scalar_mix(*problem(1), CLASSES, C) for _ in range(2))
    assert np.array_equal(first.weights, second.weights)


def test_weights_are_those_of_scipys_minimum() -> None:
    train, labels = problem(1)
    mix = scalar_mix(train, labels, CLASSES, C)
    states = train.double()
    states = (states - states.mean(dim=1, keepdim=True)) / states.std(dim=1, keepdim=True, correction=0)

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = torch.tensor(values, requires_grad=True)
        scalars, weight, bias = parameters.split([LAYERS, CLASSES * WIDTH, CLASSES])
        weight = weight.view(CLASSES, WIDTH)
        mixed = (scalars.softmax(dim=0)[:, None, None] * states).sum(dim=0)
        squares = weight.square().sum() / C + scalars.square().sum()  # Gaussian priors of weights and scalars
        loss = F.cross_entropy(mixed @ weight.T + bias, labels) + squares / (2 * len(labels))
        loss.backward()
        assert parameters.grad is not None
        return loss.item(), parameters.grad.numpy()

    found = minimize(objective, np.zeros(LAYERS + CLASSES * (WIDTH + 1)), jac=True, method="BFGS", options={"gtol": 1e-8})
    expected = torch.tensor(found.x[:LAYERS]).softmax(dim=0).numpy()
    np.testing.assert_allclose(mix.weights, expected, atol=2e-3)
