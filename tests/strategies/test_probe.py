"""The exact probe is scikit-learn's logistic regression, and its choices come from validation alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning import Trainer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from frostline.data.module import SentenceModule
from frostline.data.sentences import LabelledData
from frostline.encoder.load import Pretrained, load_encoder
from frostline.encoder.pool import pool
from frostline.encoder.split import all_states
from frostline.schema import (
    AdamW,
    CacheConfig,
    CallbacksConfig,
    Config,
    Constant,
    FilesData,
    FrozenStrategy,
    Lbfgs,
    LoggerConfig,
    PathsConfig,
    RandomModel,
    TrainerConfig,
)
from frostline.strategies import FrozenClassifier, build_probe, probed_layers
from frostline.strategies.probe import C_GRID, MAX_WIDENINGS, choose_probe, penalty, standardisation

WIDTH = 12
LBFGS = Lbfgs("lbfgs", "full", C=None, C_grid=list(C_GRID), tolerance=1e-7)
ADAMW = AdamW("adamw", 32, lr=1e-2, weight_decay=0.0, betas=[0.9, 0.999], eps=1e-8, layer_decay=1.0, gradient_clip=None)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors: threads only wait for one another, for seconds where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def problem(classes: int, seed: int, sentences: int = 200, noise: float = 2.0) -> tuple[Tensor, Tensor]:
    """Overlapping clouds of features with unequal scales, some correlated, none centred."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(sentences) % classes)
    centres = random.normal(size=(classes, WIDTH))
    features = (centres[labels] + noise * random.normal(size=(sentences, WIDTH))) * random.uniform(0.2, 2, WIDTH) + 1
    features[:, 1] = features[:, 0] + 0.1 * features[:, 1]
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def sklearn_fit(features: Tensor, labels: Tensor, C: float) -> LogisticRegression:
    return LogisticRegression(C=C, tol=1e-9, max_iter=100_000).fit(features.double().numpy(), labels.numpy())


def relative(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# --- conventions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_gradient_of_our_loss_vanishes_at_scikit_learns_solution(classes: int, C: float) -> None:
    """The penalty's convention, whatever solver is used."""
    features, labels = problem(classes, seed=2)
    expected = sklearn_fit(features, labels, C)
    coef, intercept = torch.tensor(expected.coef_), torch.tensor(expected.intercept_)
    if classes == 2:
        coef, intercept = torch.cat([-coef, coef]) / 2, torch.cat([-intercept, intercept]) / 2
    weight, bias = coef.requires_grad_(), intercept.requires_grad_()
    loss = F.cross_entropy(F.linear(features.double(), weight, bias), labels) + penalty(weight, C, len(labels))
    loss.backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-6
    shrinking = 2 * (2 if classes == 2 else 1) * weight.detach() / (2 * C * len(labels))
    assert shrinking.abs().max() > 1e-5, "the test would hold without any penalty"


def test_standardisation_is_scikit_learns() -> None:
    features, _ = problem(2, seed=4)
    features[:, 3] = 0.1  # constant, and not a binary fraction
    features[:, 4] = 0.0
    mean, scale = standardisation(features)
    expected = StandardScaler().fit(features.double().numpy())
    np.testing.assert_allclose(mean.numpy(), expected.mean_, rtol=1e-12)
    np.testing.assert_allclose(scale.numpy(), expected.scale_, rtol=1e-12)


# --- the choice --------------------------------------------------------------------------------------------------------


def test_what_hardly_varies_is_not_scaled_up() -> None:
    """Undone, such a scale would make a weight of millions, which a fine-tune that starts from the probe does not survive."""
    features = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    features[:, 1] *= 1e-9
    _, scale = standardisation(features)
    assert scale[1] == 1 and 0.5 < scale[0] < 2 and 0.5 < scale[2] < 2
    features[:, 1] *= 1e5  # small, but there
    assert 1e-5 < standardisation(features)[1][1] < 1e-3


def layers_of(seed: int, noises: tuple[float, ...], sentences: int = 150) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Layers that tell the classes apart the better, the less noise they have."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, WIDTH, generator=random)
    labels = torch.arange(2 * sentences) % 3
    states = [centres[labels] + noise * torch.randn(len(labels), WIDTH, generator=random) for noise in noises]
    whole = torch.stack(states) * 3 + 5
    return whole[:, :sentences], labels[:sentences], whole[:, sentences:], labels[sentences:]


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_choice_is_the_best_that_scikit_learn_finds_on_validation(seed: int, standardize: bool) -> None:
    train, y, validation, y_validation = layers_of(seed, (4.0, 1.5, 2.5))
    numbers, grid = [0, 2, 5], (1e-3, 1e-1, 10.0)
    choice = choose_probe(train, y, validation, y_validation, numbers, standardize, grid, widen=False)
    scores: dict[tuple[int, float], tuple[float, float]] = {}
    for i, layer in enumerate(numbers):
        for C in grid:
            regression = LogisticRegression(C=C, tol=1e-8, max_iter=10_000)
            pipeline = make_pipeline(StandardScaler(), regression) if standardize else regression
            pipeline.fit(train[i].double().numpy(), y.numpy())
            probabilities = pipeline.predict_proba(validation[i].double().numpy())
            scores[layer, C] = (
                accuracy_score(y_validation, probabilities.argmax(axis=1)),
                -log_loss(y_validation, probabilities),
            )
    best = max(scores.values())
    accuracy, negative_loss = scores[choice.layer, choice.C]
    assert (accuracy, negative_loss) == best
    assert choice.accuracy == accuracy
    assert choice.loss == pytest.approx(-negative_loss, rel=1e-4)


def test_the_least_noisy_layer_is_chosen() -> None:
    train, y, validation, y_validation = layers_of(5, (9.0, 0.3, 9.0))
    assert choose_probe(train, y, validation, y_validation, [4, 7, 9], True).layer == 7


def test_of_equal_layers_the_first_is_chosen() -> None:
    train, y, validation, y_validation = layers_of(6, (1.0,))
    twice = choose_probe(train.repeat(3, 1, 1), y, validation.repeat(3, 1, 1), y_validation, [2, 3, 5], True)
    assert twice.layer == 2


def test_of_equal_accuracies_the_lower_loss_is_chosen() -> None:
    train, y, validation, y_validation = layers_of(7, (0.05,))  # every strength is right about every sentence
    grid = (1e-2, 1e-1, 1.0)
    choice = choose_probe(train, y, validation, y_validation, [0], True, grid, widen=False)
    assert choice.accuracy == 1
    assert choice.C == 1.0
    losses = [choose_probe(train, y, validation, y_validation, [0], True, (C,), widen=False).loss for C in grid]
    assert choice.loss == pytest.approx(min(losses), rel=1e-5)


def test_the_grid_widens_while_the_best_lies_on_its_edge_three_times_at_most() -> None:
    easy = layers_of(7, (0.05,))  # the weaker the penalty, the lower the loss
    train, y, validation, y_validation = easy
    assert choose_probe(train, y, validation, y_validation, [0], True, (1e-3, 1e-2), widen=False).C == 1e-2
    widened = choose_probe(train, y, validation, y_validation, [0], True, (1e-3, 1e-2)).C
    assert widened == pytest.approx(1e-2 * 10**MAX_WIDENINGS)
    wrong = (y_validation + 1) % 3  # the more is learned, the worse
    opposite = choose_probe(train, y, validation, wrong, [0], True, (1.0, 10.0)).C
    assert opposite == pytest.approx(1.0 / 10**MAX_WIDENINGS)


def test_a_grid_with_its_best_inside_is_not_widened() -> None:
    train, y, validation, y_validation = layers_of(8, (3.0,))
    first = choose_probe(train, y, validation, y_validation, [0], True, tuple(10.0**k for k in range(-6, 4)), widen=False)
    assert first.C not in (1e-6, 1e3)
    around = (first.C / 10, first.C, first.C * 10)
    assert choose_probe(train, y, validation, y_validation, [0], True, around).C == first.C


def test_choosing_changes_none_of_its_inputs() -> None:
    given = layers_of(9, (1.0, 2.0))
    before = [t.clone() for t in given]
    train, y, validation, y_validation = given
    choose_probe(train, y, validation, y_validation, [0, 1], True, (0.1, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


# --- the module --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder() -> Pretrained:
    return load_encoder(RandomModel("random", "mean", "tiny", "bert", 2, WIDTH, 2, 0), Path("no-cache"))


def probe(encoder: Pretrained, classes: int, optimizer: Lbfgs | AdamW, C: float | None, layer: int = 1) -> FrozenClassifier:
    return FrozenClassifier(encoder.model, layer, "mean", classes, optimizer, Constant("constant"), seed=0, C=C)


@pytest.mark.parametrize("C", [None, 1.0], ids=["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 4])
def test_logits_are_those_of_the_scikit_learn_pipeline_with_its_weights(
    encoder: Pretrained, classes: int, C: float | None
) -> None:
    features, labels = problem(classes, seed=10)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000))
    pipeline.fit(features.double().numpy(), labels.numpy())
    module = probe(encoder, classes, ADAMW if C is None else LBFGS, C).eval()
    module.standardize(*standardisation(features))
    coef, intercept = torch.tensor(pipeline[-1].coef_), torch.tensor(pipeline[-1].intercept_)
    if classes == 2:
        coef, intercept = torch.cat([torch.zeros_like(coef), coef]), torch.cat([torch.zeros_like(intercept), intercept])
    module.load_trained_state(module.trained_state() | {"head.weight": coef, "head.bias": intercept})
    with torch.no_grad():
        logits = module({"features": features}).double().numpy()
    found = logits[:, 1] if classes == 2 else logits
    np.testing.assert_allclose(found, pipeline.decision_function(features.double().numpy()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_features_given_or_computed_on_the_way_have_the_same_logits(encoder: Pretrained, layer: int) -> None:
    texts = ["one sentence", "a second, longer one", "x"]
    module = probe(encoder, 3, ADAMW, None, layer).eval()
    batch = dict(encoder.tokenizer(texts, padding=True, return_tensors="pt"))
    with torch.no_grad():
        states = encoder.model(**batch, output_hidden_states=True).hidden_states[layer]
        features = torch.stack([s[: m.sum()].mean(dim=0) for s, m in zip(states, batch["attention_mask"], strict=True)])
        assert (module(batch) - module({"features": features})).abs().max() < 1e-5


def data_module(encoder: Pretrained, cache: Path, test_label: int = 0, test_text: str = "test") -> SentenceModule:
    """Sentences whose first letter mostly tells their class."""
    random = np.random.default_rng(0)

    def split(size: int) -> dict[str, list[Any]]:
        labels = random.integers(0, 3, size)
        noisy = np.where(random.random(size) < 0.2, random.integers(0, 3, size), labels)
        return {"text": [f"{'abc'[y] * 3} {random.integers(0, 99)}" for y in noisy], "label": labels.tolist()}

    splits = {"train": split(90), "validation": split(60), "test": {"text": [test_text] * 30, "label": [test_label] * 30}}
    tables = {name: datasets.Dataset.from_dict(columns) for name, columns in splits.items()}
    data = LabelledData(tables, ["a", "b", "c"], {}, {name: f"{name} {test_label} {test_text}" for name in tables})
    return SentenceModule(data, encoder.tokenizer, encoder.tokenizer_hash, 32, None, 0, cache)


def configuration(layer: Any, optimizer: Lbfgs | AdamW, standardize: bool = True) -> Config:
    return Config(
        seed=0,
        test=True,
        ckpt_path=None,
        data=FilesData("files", "full", None, 32, None, 0.1, 0.1, 0, False, "t", None, None, "text", None, "label", None),
        model=RandomModel("random", "mean", "tiny", "bert", 2, WIDTH, 2, 0),
        strategy=FrozenStrategy("frozen", 1e-3, 10, layer, standardize),
        optimizer=optimizer,
        scheduler=Constant("constant"),
        trainer=TrainerConfig("cpu", 1, 1, "auto", "32-true", 10, 1, False, False),
        callbacks=CallbacksConfig("val/accuracy", "max", None),
        logger=LoggerConfig("csv"),
        cache=CacheConfig("off", "float32", None),
        paths=PathsConfig("out", "cache"),
    )


def untrained(config: Config, encoder: Pretrained, data: SentenceModule) -> FrozenClassifier:
    features = {}
    for name, split in data.splits.items():
        batch = split.tokens.pad(list(range(len(split))))
        with torch.no_grad():
            states = all_states(encoder.model, batch)
        layers = probed_layers(config.strategy.layer, encoder)  # type: ignore[attr-defined]
        features[name] = torch.stack([pool(states[layer], batch["attention_mask"], "mean") for layer in layers])
    return build_probe(config, encoder, data, 3, features)


@pytest.mark.parametrize("optimizer", [LBFGS, ADAMW], ids=["lbfgs", "adamw"])
def test_nothing_about_the_probe_depends_on_the_test_split(encoder: Pretrained, tmp_path: Path, optimizer: Lbfgs | AdamW) -> None:
    found = []
    for label, text in ((0, "test"), (2, "aaa bbb ccc")):
        data = data_module(encoder, tmp_path, label, text)
        module = untrained(configuration("best", optimizer), encoder, data)
        found.append((module.layer, module.C, *(t.tolist() for t in module.trained_state().values())))
    assert found[0] == found[1]


@pytest.mark.parametrize("layer", ["last", 1])
def test_a_given_layer_and_strength_are_taken_as_they_are(encoder: Pretrained, tmp_path: Path, layer: Any) -> None:
    data = data_module(encoder, tmp_path)
    optimizer = Lbfgs("lbfgs", "full", C=0.037, C_grid=[1.0], tolerance=1e-6)
    module = untrained(configuration(layer, optimizer), encoder, data)
    assert (module.layer, module.C) == ({"last": 2, 1: 1}[layer], 0.037)


@pytest.mark.parametrize("standardize", [True, False])
def test_a_trained_probe_is_scikit_learns_logistic_regression(encoder: Pretrained, tmp_path: Path, standardize: bool) -> None:
    data = data_module(encoder, tmp_path)
    optimizer = Lbfgs("lbfgs", "full", C=0.5, C_grid=[1.0], tolerance=1e-7)
    module = untrained(configuration(1, optimizer, standardize), encoder, data)
    features, labels = data.splits["train"].features, data.splits["train"].labels
    assert features is not None
    trainer = Trainer(
        accelerator="cpu", max_epochs=100, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data)
    assert trainer.current_epoch < 100, "it should have noticed that it has converged"
    regression = LogisticRegression(C=0.5, tol=1e-9, max_iter=100_000)
    pipeline = make_pipeline(StandardScaler(), regression) if standardize else regression
    pipeline.fit(features.double().numpy(), labels.numpy())
    with torch.no_grad():
        logits = module({"features": features}).numpy()
    wanted = pipeline.decision_function(features.double().numpy())
    centred = [z - z.mean(axis=1, keepdims=True) for z in (logits, wanted)]
    assert relative(*centred) < 1e-3
    assert module.head.weight.dtype == torch.float64


def test_losses_along_the_grid_are_computed_for_the_strength_they_name() -> None:
    """One strength's result must not depend on the others that are tried with it."""
    train, y, validation, y_validation = layers_of(11, (2.0,))
    grid = (1e-3, 1e-2, 1e-1)
    alone = [choose_probe(train, y, validation, y_validation, [0], True, (C,), widen=False) for C in grid]
    best = max(alone, key=lambda choice: choice.rank)
    together = choose_probe(train, y, validation, y_validation, [0], True, grid, widen=False)
    assert (together.C, together.accuracy) == (best.C, best.accuracy)
    assert together.loss == pytest.approx(best.loss, rel=1e-5)
    assert all(a.loss != b.loss for a, b in pairwise(alone))
