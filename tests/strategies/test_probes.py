"""Probes fitted many at once are those fitted one at a time: exact ones scikit-learn's, the others Lightning's."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning import Trainer
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from frostline.data.module import SentenceModule
from frostline.data.sentences import LabelledData
from frostline.encoder.load import Pretrained, load_encoder
from frostline.errors import FrostlineError
from frostline.schema import AdamW, Constant, RandomModel, SchedulerConfig, Warmup
from frostline.strategies import FrozenClassifier, probes
from frostline.strategies.probe import penalty, standardisation
from frostline.strategies.probes import adamw_probes, exact_probes

pytestmark = pytest.mark.usefixtures("one_thread")
SETS = 2
STRENGTHS = (1e-3, 0.1, 1.0, 30.0)


def problem(classes: int, sentences: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Feature sets ``[SETS, sentences, width]`` of overlapping clouds, unequal in scale, correlated, not centred."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(sentences) % classes)
    centres = random.normal(size=(SETS, classes, width))
    features = centres[:, labels] + 3 * random.normal(size=(SETS, sentences, width))
    features = features * random.uniform(0.2, 2, width) + 2
    features[..., 1] = features[..., 0] + 0.1 * features[..., 1]
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def logits_of(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(features.to(weight.dtype), weight, bias)


# --- exact -------------------------------------------------------------------------------------------------------------

SIZES = [(2, 300, 12), (4, 300, 12), (2, 40, 60), (3, 40, 60)]  # classes, sentences, width


@pytest.mark.parametrize(("classes", "sentences", "width"), SIZES)
def test_decision_values_are_those_of_scikit_learn(classes: int, sentences: int, width: int) -> None:
    features, labels = problem(classes, sentences, width)
    new, _ = problem(classes, 100, width, seed=1)
    weight, bias = exact_probes(features, labels, classes, STRENGTHS, tolerance=1e-10)
    assert weight.shape == (SETS, len(STRENGTHS), classes, width)
    assert bias.shape == (SETS, len(STRENGTHS), classes)
    assert weight.dtype == bias.dtype == torch.float64
    for i, (j, C) in itertools.product(range(SETS), enumerate(STRENGTHS)):
        expected = LogisticRegression(C=C, tol=1e-10, solver="newton-cholesky").fit(features[i].double(), labels)
        logits = logits_of(new[i], weight[i, j], bias[i, j])
        found = logits[:, 1] - logits[:, 0] if classes == 2 else logits - logits.mean(dim=1, keepdim=True)
        wanted = expected.decision_function(new[i].double())
        wanted = wanted if classes == 2 else wanted - wanted.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def alone(features: Tensor, labels: Tensor, classes: int, C: float) -> Tensor:
    """The logits of one probe, by torch's L-BFGS and autograd."""
    features = features.double()
    weight = features.new_zeros(classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=10_000, tolerance_grad=1e-10, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(features, weight, bias), labels) + penalty(weight, C, len(labels))
        loss.backward()
        return loss

    optimizer.step(closure)
    return F.linear(features, weight, bias).detach()


@pytest.mark.parametrize(("classes", "sentences", "width"), SIZES)
def test_logits_are_those_of_one_probe_alone(classes: int, sentences: int, width: int) -> None:
    features, labels = problem(classes, sentences, width, seed=2)
    weight, bias = exact_probes(features, labels, classes, STRENGTHS, tolerance=1e-10)
    for i, (j, C) in itertools.product(range(SETS), enumerate(STRENGTHS[:-1])):  # the last is too weak for torch's solver
        logits = logits_of(features[i], weight[i, j], bias[i, j])
        torch.testing.assert_close(logits, alone(features[i], labels, classes, C), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("classes", [2, 3])
def test_no_component_of_the_gradient_exceeds_the_tolerance(classes: int, tolerance: float) -> None:
    """Of features as unequal as those of real encoders; hardly penalised, though a plane separates the classes."""
    features, labels = problem(classes, 60, 80, seed=3)
    features[..., 2] = features[..., 2] * 100 + 500
    features[..., 3] = 7
    strengths = (1e-6, 1.0, 1e5)
    weights, biases = exact_probes(features, labels, classes, strengths, tolerance)
    for i, (j, C) in itertools.product(range(SETS), enumerate(strengths)):
        weight, bias = weights[i, j].clone().requires_grad_(), biases[i, j].clone().requires_grad_()
        loss = F.cross_entropy(logits_of(features[i], weight, bias), labels) + penalty(weight, C, len(labels))
        gradients = torch.autograd.grad(loss, [weight, bias])
        assert max(g.abs().max().item() for g in gradients) <= tolerance * (1 + 1e-3)


def test_an_unreachable_tolerance_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "MAX_ITERATIONS", 3)
    features, labels = problem(2, 50, 12)
    with pytest.raises(FrostlineError, match="did not converge"):
        exact_probes(features, labels, 2, (1.0,), tolerance=1e-14)


# --- AdamW -------------------------------------------------------------------------------------------------------------

WIDTH, SENTENCES, BATCH, EPOCHS = 12, 70, 16, 8  # the last of a shuffled epoch's five batches has 6 sentences
ADAMW = AdamW("adamw", BATCH, lr=0.0, weight_decay=0.1, betas=[0.9, 0.99], eps=1e-8, layer_decay=1.0, gradient_clip=0.5)
RATES, SEEDS = (3e-3, 3e-2), (1, 4)


@pytest.fixture(scope="module")
def encoder() -> Pretrained:
    return load_encoder(RandomModel("random", "mean", "tiny", "bert", 2, WIDTH, 2, 0), Path("no-cache"))


def data_module(encoder: Pretrained, features: Tensor, labels: Tensor, cache: Path, seed: int) -> SentenceModule:
    texts = [f"{'word ' * (i % 7)}{i}" for i in range(len(labels))]
    splits = {name: datasets.Dataset.from_dict({"text": texts, "label": labels.tolist()}) for name in ("train", "validation")}
    data = LabelledData(splits, ["a", "b", "c"], {}, {name: name for name in splits})
    module = SentenceModule(data, encoder.tokenizer, encoder.tokenizer_hash, 16, BATCH, seed, cache)
    for split in module.splits.values():
        split.features = features
    return module


def by_lightning(
    encoder: Pretrained, data: SentenceModule, classes: int, optimizer: AdamW, scheduler: SchedulerConfig
) -> FrozenClassifier:
    module = FrozenClassifier(encoder.model, 1, "mean", classes, optimizer, scheduler, data.seed)
    assert data.splits["train"].features is not None
    module.standardize(*standardisation(data.splits["train"].features))
    trainer = Trainer(
        accelerator="cpu", max_epochs=EPOCHS, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=optimizer.gradient_clip,
    )  # fmt: skip
    trainer.fit(module, data)
    return module


@pytest.mark.parametrize(
    ("classes", "scheduler", "clip", "seeds"),
    [
        (2, Warmup("linear_warmup", 0.1), 0.5, SEEDS),
        (3, Warmup("linear_warmup", 0.1), 0.5, SEEDS),
        (3, Warmup("cosine", 0.3), None, SEEDS[:1]),
        (2, Constant("constant"), None, SEEDS[:1]),
    ],
    ids=["two classes", "three classes", "cosine", "constant"],
)
def test_logits_are_those_of_single_probes_trained_by_lightning(
    encoder: Pretrained, tmp_path: Path, classes: int, scheduler: SchedulerConfig, clip: float | None, seeds: tuple[int, ...]
) -> None:
    features, labels = problem(classes, SENTENCES, WIDTH, seed=5)
    optimizer = dataclasses.replace(ADAMW, gradient_clip=clip)
    lengths = data_module(encoder, features[0], labels, tmp_path, 0).splits["train"].tokens.lengths
    scaling = [[t.float() for t in standardisation(one)] for one in features]
    scaled = torch.stack([(one - mean) / scale for one, (mean, scale) in zip(features, scaling, strict=True)])
    weight, bias = adamw_probes(scaled, labels, lengths, classes, optimizer, scheduler, RATES, seeds, BATCH, EPOCHS)
    assert weight.shape == (SETS, len(RATES), len(seeds), classes, WIDTH)
    assert bias.shape == (SETS, len(RATES), len(seeds), classes)
    assert weight.dtype == bias.dtype == torch.float32
    for i, (j, rate), (k, seed) in itertools.product(range(SETS), enumerate(RATES), enumerate(seeds)):
        data = data_module(encoder, features[i], labels, tmp_path, seed)
        single = by_lightning(encoder, data, classes, dataclasses.replace(optimizer, lr=rate), scheduler)
        with torch.no_grad():
            wanted = single({"features": features[i]})
        torch.testing.assert_close(logits_of(scaled[i], weight[i, j, k], bias[i, j, k]), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_does_not_depend_on_those_it_is_trained_with(classes: int) -> None:
    features, labels = problem(classes, SENTENCES, WIDTH, seed=6)
    lengths = np.arange(SENTENCES) % 9
    rates = (*RATES, 1e38)  # the last diverges

    def train(features: Tensor, rates: tuple[float, ...], seeds: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return adamw_probes(features, labels, lengths, classes, ADAMW, Warmup("cosine", 0.1), rates, seeds, BATCH, 3)

    weight, bias = train(features, rates, SEEDS)
    assert not weight[:, -1].isfinite().all()
    for i, j, k in itertools.product(range(SETS), range(len(RATES)), range(len(SEEDS))):
        own_weight, own_bias = train(features[i : i + 1], rates[j : j + 1], SEEDS[k : k + 1])
        torch.testing.assert_close(weight[i, j, k], own_weight[0, 0, 0], rtol=0, atol=1e-6)
        torch.testing.assert_close(bias[i, j, k], own_bias[0, 0, 0], rtol=0, atol=1e-6)
    assert len({w.sum().item() for w in weight[:, :-1].flatten(0, 2)}) == SETS * len(RATES) * len(SEEDS)
