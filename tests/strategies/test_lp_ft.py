"""The head starts as the converged probe: scikit-learn's pipeline with its standardisation undone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frostline.data.module import SentenceModule
from frostline.encoder.load import Pretrained
from frostline.encoder.pool import pool
from frostline.encoder.split import last_states
from frostline.schema import Constant, LpFtStrategy
from frostline.strategies.classifier import Classifier
from frostline.strategies.lp_ft import start_from_probe
from frostline.strategies.probe import C_GRID, standardised
from frostline.strategies.probes import exact_probes
from tests.strategies.tiny import ADAMW, BLOCKS, CLASSES, WIDTH, build, data_module, encoder, fit, snapshot

pytestmark = pytest.mark.usefixtures("one_thread")


def problem(classes: int, sentences: int = 240) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(sentences) % classes)
    means = random.normal(size=(classes, WIDTH))[labels]
    features = 5 + 3 * random.normal(size=WIDTH) * (means + 1.5 * random.normal(size=(sentences, WIDTH)))
    half = sentences // 2
    x, y = torch.tensor(features, dtype=torch.float32), torch.from_numpy(labels)
    return {"train": x[:half], "validation": x[half:]}, {"train": y[:half], "validation": y[half:]}


def scikit_learns(features: dict[str, torch.Tensor], labels: dict[str, torch.Tensor], C: float) -> NDArray[np.float64]:
    """Log-probabilities of the validation split, ``[sentences, classes]``."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=C, solver="newton-cg", tol=1e-10, max_iter=10_000))
    pipeline.fit(features["train"].double().numpy(), labels["train"].numpy())
    found: NDArray[np.float64] = pipeline.predict_log_proba(features["validation"].double().numpy())
    return found


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("C", [0.002, 0.02])
def test_the_heads_logits_are_those_of_scikit_learns_pipeline(classes: int, C: float) -> None:
    """Penalised enough for the probe's tolerance, which is one of the gradient, to bound the error of the logits, too."""
    features, labels = problem(classes)
    module = Classifier(WIDTH, classes, ADAMW, Constant("constant"), 0)
    assert start_from_probe(module, features, labels, classes, C) == C
    with torch.no_grad():
        found = module.head(features["validation"]).double().log_softmax(dim=1).numpy()
    expected = scikit_learns(features, labels, C)
    np.testing.assert_allclose(np.exp(found), np.exp(expected), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], rtol=0, atol=1e-5)
    assert np.abs(scikit_learns(features, labels, 1.1 * C) - expected).max() > 1e-3, "another C can be told apart"


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("C", [1.0, 100.0])
def test_the_head_loses_nothing_of_the_probe(classes: int, C: float) -> None:
    """However large its weights are, and though the head has less precision."""
    features, labels = problem(classes)
    features = {name: torch.cat([states, torch.full((len(states), 1), 0.7)], dim=1) for name, states in features.items()}
    module = Classifier(WIDTH + 1, classes, ADAMW, Constant("constant"), 0)
    start_from_probe(module, features, labels, classes, C)
    assert module.head.weight.dtype == torch.float32
    train, validation = standardised(features["train"], features["validation"])
    (((weight,),), ((bias,),)) = exact_probes(train[None], labels["train"], classes, [C])
    with torch.no_grad():
        logits = module.head(features["validation"]).double()
    torch.testing.assert_close(logits, F.linear(validation, weight, bias), rtol=1e-5, atol=1e-5)


def test_a_class_that_no_training_sentence_has_keeps_its_place() -> None:
    features, labels = problem(2)
    module = Classifier(WIDTH, 3, ADAMW, Constant("constant"), 0)
    start_from_probe(module, features, labels, 3, 1.0)
    with torch.no_grad():
        found = module.head(features["validation"]).softmax(dim=1)
    assert torch.isfinite(found).all()
    assert (found[:, 2] < found[:, :2].max(dim=1).values).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_without_a_strength_validation_chooses_it(classes: int) -> None:
    features, labels = problem(classes)
    module, given = (Classifier(WIDTH, classes, ADAMW, Constant("constant"), 0) for _ in range(2))
    chosen = start_from_probe(module, features, labels, classes, None)
    start_from_probe(given, features, labels, classes, chosen)
    assert torch.equal(module.head.weight, given.head.weight) and torch.equal(module.head.bias, given.head.bias)

    def accuracy(C: float) -> float:
        return float((scikit_learns(features, labels, C).argmax(axis=1) == labels["validation"].numpy()).mean())

    assert accuracy(chosen) == max(accuracy(C) for C in (chosen, *C_GRID))


# --- on an encoder -----------------------------------------------------------------------------------------------------


def frozen_features(
    pretrained: Pretrained, cache: Path
) -> tuple[SentenceModule, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Sentences, their last states and labels; every sentence by itself, as the activation cache has them."""
    data = data_module(pretrained, cache)
    features = {}
    for name in ("train", "validation"):
        tokens = data.splits[name].tokens
        batches = [tokens.pad([row]) for row in range(len(tokens.lengths))]
        with torch.no_grad():
            states = [pool(last_states(pretrained.model, b), b["attention_mask"], "mean") for b in batches]
        features[name] = torch.cat(states)
    return data, features, {name: data.splits[name].labels for name in features}


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("depth", range(BLOCKS))
def test_the_first_step_starts_from_the_probes_logits(family: str, depth: int, tmp_path: Path) -> None:
    pretrained = encoder(family)
    data, features, labels = frozen_features(pretrained, tmp_path)
    module = build(pretrained, LpFtStrategy("lp_ft", 5e-5, 3, depth, 0.01))
    before = snapshot(module)
    start_from_probe(module, features, labels, CLASSES, 0.01)
    assert {name for name, p in module.named_parameters() if not torch.equal(p, before[name])} == {"head.weight", "head.bias"}
    rows = list(range(len(labels["validation"])))
    with torch.no_grad():
        logits = module.eval()(data.splits["validation"].tokens.pad(rows))
        torch.testing.assert_close(logits, module.head(features["validation"]), rtol=0, atol=1e-5)
    expected = np.exp(scikit_learns(features, labels, 0.01))
    np.testing.assert_allclose(logits.double().softmax(dim=1).numpy(), expected, rtol=0, atol=1e-5)


def test_head_and_blocks_go_on_training_from_there(tmp_path: Path) -> None:
    pretrained = encoder()
    _, features, labels = frozen_features(pretrained, tmp_path)
    module = build(pretrained, LpFtStrategy("lp_ft", 5e-5, 3, 1, 1.0))
    start_from_probe(module, features, labels, CLASSES, 1.0)
    start = snapshot(module)
    fit(module, pretrained, tmp_path, epochs=1)
    changed = {name for name, p in module.named_parameters() if not torch.equal(p, start[name])}
    assert changed == {name for name, p in module.named_parameters() if p.requires_grad} > {"head.weight", "head.bias"}
