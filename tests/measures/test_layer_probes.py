"""Probes on layers are scikit-learn's logistic regression; validation chooses, and the test split has no say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from frostline.measures.layer_probes import fit_probes
from frostline.strategies import probes
from frostline.strategies.probe import C_GRID
from frostline.strategies.probes import exact_probes

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"train": 240, "validation": 120, "test": 150}
WIDTH = 48


def problem(classes: int, seed: int, noises: tuple[float, ...] = (4.0, 2.0)) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Layers like those of an encoder: a steep spectrum, unequal scales, a few dimensions far from 0; one a noise level."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, WIDTH))
    mixing = random.normal(size=(WIDTH, WIDTH)) * np.exp(-np.arange(WIDTH) / 10)[:, None]
    scale, offset = np.exp(random.normal(size=WIDTH)), 5 * random.normal(size=WIDTH) * (random.random(WIDTH) < 0.1)
    labels = {name: torch.from_numpy(random.permutation(np.arange(size) % classes)) for name, size in SIZES.items()}
    features = {}
    for name, truth in labels.items():
        states = [(centres[truth] + noise * random.normal(size=(len(truth), WIDTH))) @ mixing for noise in noises]
        features[name] = torch.tensor(np.stack(states) * scale + offset, dtype=torch.float32)
    return features, labels


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_probe_of_the_chosen_strength_is_scikit_learns(classes: int, standardize: bool) -> None:
    features, labels = problem(classes, seed=classes)
    for i, probe in enumerate(fit_probes(features, labels, classes, standardize=standardize)):
        regression = LogisticRegression(C=probe.C, tol=1e-10, solver="newton-cholesky", max_iter=1000)
        pipeline = make_pipeline(StandardScaler(), regression) if standardize else regression
        pipeline.fit(features["train"][i].double().numpy(), labels["train"].numpy())
        on = {name: features[name][i].double().numpy() for name in ("validation", "test")}
        truth = {name: labels[name].numpy() for name in on}
        assert probe.correct.shape == (SIZES["test"],)
        assert np.array_equal(probe.correct, pipeline.predict(on["test"]) == truth["test"])
        assert probe.accuracy == pytest.approx(pipeline.score(on["test"], truth["test"]), abs=1e-6)
        likelihoods = pipeline.predict_log_proba(on["validation"])
        assert probe.validation_accuracy == accuracy_score(truth["validation"], likelihoods.argmax(axis=1))
        # Not log_loss, which clips. Hardly penalised, the loss depends on the last digits of the gradient.
        loss = -likelihoods[np.arange(len(likelihoods)), truth["validation"]].mean()
        assert probe.validation_loss == pytest.approx(loss, rel=1e-3)


def test_no_strength_of_the_grid_is_better_on_validation() -> None:
    features, labels = problem(3, seed=1)
    for i, probe in enumerate(fit_probes(features, labels, 3)):
        scaler = StandardScaler().fit(features["train"][i].double().numpy())
        train, validation = (scaler.transform(features[name][i].double().numpy()) for name in ("train", "validation"))
        for C in C_GRID:
            exact = LogisticRegression(C=C, tol=1e-8, solver="newton-cholesky").fit(train, labels["train"].numpy())
            # A sentence on the very border may fall to either side at the looser tolerance of the choice.
            assert exact.score(validation, labels["validation"].numpy()) <= probe.validation_accuracy + 1.5 / SIZES["validation"]


def test_every_set_is_probed_as_if_alone() -> None:
    features, labels = problem(2, seed=2, noises=(4.0, 1.0, 9.0))
    together = fit_probes(features, labels, 2)
    assert len(together) == 3
    for i, probe in enumerate(together):
        (alone,) = fit_probes({name: split[i : i + 1] for name, split in features.items()}, labels, 2)
        assert (alone.C, alone.validation_loss) == (probe.C, probe.validation_loss)
        assert np.array_equal(alone.correct, probe.correct)


def test_the_test_split_decides_nothing_but_its_own_score() -> None:
    features, labels = problem(2, seed=3)
    others = labels | {"test": 1 - labels["test"]}
    for probe, opposite in zip(fit_probes(features, labels, 2), fit_probes(features, others, 2), strict=True):
        assert (probe.C, probe.validation_loss) == (opposite.C, opposite.validation_loss)
        assert np.array_equal(probe.correct, ~opposite.correct)


def test_constant_features_say_as_much_as_the_majority() -> None:
    """The first token's state before the first block is the same for all sentences."""
    _, labels = problem(2, seed=4)
    labels["train"] = (torch.arange(SIZES["train"]) % 5 == 0).long()  # four fifths are class 0
    features = {name: torch.full((1, size, WIDTH), 0.1) for name, size in SIZES.items()}
    (probe,) = fit_probes(features, labels, 2)
    assert np.array_equal(probe.correct, (labels["test"] == 0).numpy())


def test_a_descent_whose_precision_is_used_up_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many labels as those of the movie reviews, for which single precision cannot reach the tolerance."""
    searches = []
    search = probes._line_search
    monkeypatch.setattr(probes, "_line_search", lambda *state: searches.append(1) or search(*state))
    labels = torch.arange(7049) < 3497
    _, bias = exact_probes(torch.zeros(1, 7049, 4), labels.long(), 2, (1e-4, 1.0, 100.0))
    assert torch.allclose(bias.softmax(dim=-1)[..., 1], torch.tensor(3497 / 7049, dtype=torch.float64), atol=1e-6)
    assert len(searches) < 20


def test_an_affine_map_of_each_feature_changes_nothing_once_standardised() -> None:
    features, labels = problem(2, seed=5)
    factor = torch.tensor(np.exp(np.random.default_rng(6).normal(size=WIDTH)), dtype=torch.float64)
    mapped = {name: split.double() * factor + 3 for name, split in features.items()}
    for plain, other in zip(fit_probes(features, labels, 2), fit_probes(mapped, labels, 2), strict=True):
        assert other.C == plain.C
        assert other.validation_loss == pytest.approx(plain.validation_loss, abs=1e-4)
