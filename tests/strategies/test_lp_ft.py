"""The head starts as the converged probe: scikit-learn's pipeline with its standardisation undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frostline.encoder.pool import pool
from frostline.strategies.lp_ft import start_from_probe
from frostline.strategies.probe import C_GRID
from tests.strategies.tiny import CLASSES, WIDTH, batch_of, build, encoder

pytestmark = pytest.mark.usefixtures("one_thread")


def problem(classes: int, sentences: int = 240) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(sentences) % classes)
    means = random.normal(size=(classes, WIDTH))[labels]
    features = 5 + 3 * random.normal(size=WIDTH) * (means + 1.5 * random.normal(size=(sentences, WIDTH)))
    half = sentences // 2
    x, y = torch.tensor(features, dtype=torch.float32), torch.from_numpy(labels)
    return {"train": x[:half], "validation": x[half:]}, {"train": y[:half], "validation": y[half:]}


@pytest.mark.parametrize("C", [0.01, 1.0])
def test_the_heads_logits_are_those_of_scikit_learns_pipeline(C: float) -> None:
    module = build(encoder())
    features, labels = problem(CLASSES)
    assert start_from_probe(module, features, labels, CLASSES, C) == C
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000))
    pipeline.fit(features["train"].double().numpy(), labels["train"].numpy())
    expected = pipeline.predict_proba(features["validation"].double().numpy())
    with torch.no_grad():
        found = module.head(features["validation"]).double().softmax(dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_a_strength_validation_chooses_it() -> None:
    features, labels = problem(CLASSES)
    chosen = start_from_probe(build(encoder()), features, labels, CLASSES, None)

    def accuracy(C: float) -> float:
        module = build(encoder())
        start_from_probe(module, features, labels, CLASSES, C)
        with torch.no_grad():
            return float((module.head(features["validation"]).argmax(dim=1) == labels["validation"]).double().mean())

    assert accuracy(chosen) >= max(accuracy(C) for C in C_GRID) - 1e-9


def test_the_first_step_starts_from_the_probes_logits() -> None:
    pretrained = encoder()
    module = build(pretrained).eval()
    batch = batch_of(pretrained)
    with torch.no_grad():
        states = pretrained.model(**{k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids")}).last_hidden_state
        features = pool(states, batch["attention_mask"], "mean")
        split, labels = {"train": features, "validation": features}, {"train": batch["labels"], "validation": batch["labels"]}
        start_from_probe(module, split, labels, CLASSES, 1.0)
        torch.testing.assert_close(module(batch), module.head(features), atol=1e-5, rtol=0)
