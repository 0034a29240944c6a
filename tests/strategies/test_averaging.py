"""The mean of the last steps' weights is what is validated and kept; training goes on from its own."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from frostline.schema import Config, PartialStrategy
from frostline.strategies.averaging import AverageWeights
from frostline.strategies.predict import predict
from frostline.strategies.trainer import KeepBest
from tests.strategies.tiny import ADAMW, BLOCKS, build, data_module, encoder, fit

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 9  # three epochs of three
PARTIAL = PartialStrategy("partial", 1e-4, 3, BLOCKS - 1, False)
Weights = dict[str, Tensor]


def trained(module: nn.Module) -> Weights:
    return {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}


def same(first: Weights, second: Weights) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Watch(Callback):
    """Weights before and after every step, and during every validation. It stands in front, so it sees what others left."""

    def __init__(self) -> None:
        self.before: list[Weights] = []
        self.after: list[Weights] = []
        self.validated: list[Weights] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.before.append(trained(pl_module))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.after.append(trained(pl_module))

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.validated.append(trained(pl_module))


def mean(weights: list[Weights]) -> Weights:
    return {name: torch.stack([w[name] for w in weights]).double().mean(dim=0).float() for name in weights[0]}


def keep_best(module: Any) -> KeepBest:
    callbacks = SimpleNamespace(monitor="val/loss", mode="min")
    return KeepBest(module, cast("Config", SimpleNamespace(callbacks=callbacks, optimizer=ADAMW)))


@pytest.mark.parametrize(("share", "averaged"), [(1.0, 9), (0.5, 4), (1 / 3, 3), (0.01, 0)])
def test_validation_sees_the_mean_of_the_last_steps(share: float, averaged: int, tmp_path: Path) -> None:
    pretrained = encoder()
    module, watch, averaging = build(pretrained, PARTIAL), Watch(), AverageWeights(share, STEPS)
    fit(module, pretrained, tmp_path, watch, averaging, epochs=3)
    assert len(watch.after) == STEPS
    assert averaging.count == averaged
    for epoch, seen in enumerate(watch.validated, 1):
        steps = watch.after[STEPS - averaged : 3 * epoch]
        expected = mean(steps) if steps else watch.after[3 * epoch - 1]
        for name, weight in expected.items():
            torch.testing.assert_close(seen[name], weight, rtol=1e-6, atol=1e-7, msg=f"{name} after epoch {epoch}")
        if not steps:
            assert same(seen, expected)
        if len(steps) > 1:
            assert not same(seen, watch.after[3 * epoch - 1])


def test_the_best_weights_are_a_mean_and_score_what_was_validated(tmp_path: Path) -> None:
    pretrained = encoder()
    module, watch = build(pretrained, PARTIAL), Watch()
    best, averaging = keep_best(module), AverageWeights(1.0, STEPS)
    fit(module, pretrained, tmp_path, watch, best, averaging, epochs=3)
    assert any(same(best.state, seen) for seen in watch.validated)
    assert not any(same(best.state, after) for after in watch.after[1:])
    module.load_state_dict(best.state, strict=False)
    data = data_module(pretrained, tmp_path)
    logits = predict(module, data, "validation", torch.device("cpu"), "32-true")
    np.testing.assert_array_equal(best.logits, logits, strict=True)
    loss = F.cross_entropy(torch.tensor(logits), torch.tensor(data.labels("validation"))).item()
    assert loss == pytest.approx(best.score, rel=1e-5)


def test_training_goes_on_from_its_own_weights(tmp_path: Path) -> None:
    """Not one bit of the steps changes, whether or not their mean is kept."""
    watches = []
    for averaging in ([], [AverageWeights(1.0, STEPS)]):
        pretrained, watch = encoder(), Watch()
        module = build(pretrained, PARTIAL)
        fit(module, pretrained, tmp_path, watch, *averaging, epochs=3)
        assert same(trained(module), watch.after[-1]), "the module ends with its own weights, too"
        watches.append(watch)
    plain, averaged = watches
    assert all(same(a, b) for a, b in zip(plain.after, averaged.after, strict=True))
    assert all(same(a, b) for a, b in zip(averaged.before[1:], averaged.after[:-1], strict=True))
    assert not same(plain.validated[-1], averaged.validated[-1])


def test_what_is_frozen_has_no_mean(tmp_path: Path) -> None:
    pretrained = encoder()
    module, averaging = build(pretrained, PARTIAL), AverageWeights(1.0, STEPS)
    fit(module, pretrained, tmp_path, averaging, epochs=1)
    assert averaging.mean.keys() == {name for name, p in module.named_parameters() if p.requires_grad}
    assert not any(name.startswith("encoder.prefix.") for name in averaging.mean)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_a_batch_without_a_step_is_not_counted(accumulate: int, tmp_path: Path) -> None:
    pretrained = encoder()
    steps = 3 * math.ceil(3 / accumulate)
    module, watch, averaging = build(pretrained, PARTIAL), Watch(), AverageWeights(1.0, steps)
    fit(module, pretrained, tmp_path, watch, averaging, epochs=3, accumulate_grad_batches=accumulate)
    assert averaging.count == steps
    ends = [after for before, after in zip(watch.before, watch.after, strict=True) if not same(before, after)]
    assert len(ends) == steps
    for name, weight in mean(ends).items():
        torch.testing.assert_close(averaging.mean[name], weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("share", ["0.01", "0.58", "0.7", "0.999", "1"])
@pytest.mark.parametrize("steps", [7, 90, 100])
def test_the_share_is_rounded_to_whole_steps(share: str, steps: int) -> None:
    module: Any = nn.Linear(1, 1)
    averaging = AverageWeights(float(share), steps)
    for step in range(1, steps + 1):
        trainer: Any = SimpleNamespace(global_step=step)
        averaging.on_train_batch_end(trainer, module)
    assert averaging.count == round(Fraction(share) * steps)


def test_the_state_survives_a_checkpoint_and_the_mean_goes_on(tmp_path: Path) -> None:
    pretrained = encoder()
    module, averaging = build(pretrained, PARTIAL), AverageWeights(1.0, STEPS)
    trainer = fit(module, pretrained, tmp_path, averaging, epochs=2)
    file = io.BytesIO()
    torch.save(averaging.state_dict(), file)
    file.seek(0)
    resumed = AverageWeights(1.0, STEPS)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.count == averaging.count == 6
    assert same(resumed.mean, averaging.mean)

    earlier = {name: weight.clone() for name, weight in averaging.mean.items()}
    snapshot = AverageWeights(1.0, STEPS)
    snapshot.load_state_dict(averaging.state_dict())
    after: Any = SimpleNamespace(global_step=7)
    for callback in (averaging, resumed):
        callback.on_train_batch_end(after, module)
    assert same(resumed.mean, averaging.mean) and resumed.count == 7
    for name, weight in trained(module).items():
        torch.testing.assert_close(averaging.mean[name], (6 * earlier[name] + weight) / 7)
    assert same(snapshot.mean, earlier), "a state that was taken does not change any more"
    assert trainer.global_step == 6
