"""Training sentences are scored after every epoch, and nothing of the training changes by it."""

from __future__ import annotations

import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from scipy.special import softmax

from frostline.data.module import SentenceModule
from frostline.encoder.load import Pretrained
from frostline.errors import FrostlineError
from frostline.schema import PartialStrategy
from frostline.strategies.averaging import AverageWeights
from frostline.strategies.dynamics import TrainingDynamics
from frostline.strategies.predict import predict
from frostline.strategies.trainer import Resume
from tests.strategies.tiny import BLOCKS, build, data_module, encoder, fit, snapshot

pytestmark = pytest.mark.usefixtures("one_thread")
PARTIAL = PartialStrategy("partial", 1e-4, 3, BLOCKS - 1, False)
EPOCHS, STEPS = 3, 9


def follow(data: SentenceModule) -> TrainingDynamics:
    return TrainingDynamics(data, "32-true", Resume())


def one_by_one(module: Any, pretrained: Pretrained, data: SentenceModule) -> np.ndarray[Any, Any]:
    """The logits of the training sentences, each tokenised and scored alone, in eval mode: an implementation of its own."""
    was_training = module.training
    module.eval()
    with torch.no_grad():
        batches = [dict(pretrained.tokenizer([text], return_tensors="pt")) for text in data.data.splits["train"]["text"][:]]
        logits = torch.cat([module(batch) for batch in batches])
    module.train(was_training)
    return logits.double().numpy()


class Recompute(Callback):
    """What the module says of the training sentences in the middle of every validation."""

    def __init__(self, pretrained: Pretrained, data: SentenceModule) -> None:
        self.pretrained, self.data = pretrained, data
        self.logits: list[np.ndarray[Any, Any]] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.logits.append(one_by_one(pl_module, self.pretrained, self.data))


@pytest.mark.parametrize("averaged", [False, True], ids=["own weights", "averaged weights"])
def test_every_epoch_is_scored_with_the_weights_that_are_validated(averaged: bool, tmp_path: Path) -> None:
    pretrained = encoder()
    data = data_module(pretrained, tmp_path)
    module, dynamics, again = build(pretrained, PARTIAL), follow(data), Recompute(pretrained, data)
    fit(module, pretrained, tmp_path, dynamics, again, *([AverageWeights(1.0, STEPS)] if averaged else []), epochs=EPOCHS)
    found, is_right = dynamics.epochs()
    assert found.shape == is_right.shape == (EPOCHS, 24)
    labels = data.labels("train")
    for epoch, logits in enumerate(again.logits):
        expected = softmax(logits, axis=1)[np.arange(len(labels)), labels]
        np.testing.assert_allclose(found[epoch], expected, atol=1e-6, err_msg=f"epoch {epoch}")
        np.testing.assert_array_equal(is_right[epoch], logits.argmax(axis=1) == labels)
    assert np.abs(np.diff(found, axis=0)).max() > 1e-3, "the epochs differ"


def test_training_goes_the_same_way_with_and_without(tmp_path: Path) -> None:
    ends = []
    for is_followed in (True, False):
        pretrained = encoder()
        module, data = build(pretrained, PARTIAL), data_module(pretrained, tmp_path)
        fit(module, pretrained, tmp_path, *([follow(data)] if is_followed else []), epochs=EPOCHS)
        ends.append(snapshot(module))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])


@pytest.mark.parametrize("devices", [2, 5, 30])  # the last: more than there are sentences in a batch, some have fillers only
def test_what_devices_share_out_adds_up_to_the_whole(devices: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frostline.data.module.SCORING_TOKENS", 60)  # several batches
    pretrained = encoder()
    module, data, cpu = build(pretrained, PARTIAL), data_module(pretrained, tmp_path), torch.device("cpu")
    parts = [predict(module, data, "train", cpu, "32-true", rank, devices) for rank in range(devices)]
    scored_by = sum((part != 0).any(axis=1).astype(int) for part in parts)
    np.testing.assert_array_equal(scored_by, 1, "every sentence once")
    np.testing.assert_allclose(sum(parts), predict(module, data, "train", cpu, "32-true"), atol=1e-6)


def test_the_epochs_so_far_come_through_a_checkpoint(tmp_path: Path) -> None:
    pretrained = encoder()
    data = data_module(pretrained, tmp_path)
    dynamics, file = follow(data), io.BytesIO()
    fit(build(pretrained, PARTIAL), pretrained, tmp_path, dynamics, epochs=2)
    torch.save(dynamics.state_dict(), file)
    file.seek(0)
    resumed = follow(data)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for kept, own in zip(resumed.epochs(), dynamics.epochs(), strict=True):
        np.testing.assert_array_equal(kept, own, strict=True)


def test_a_checkpoint_without_its_epochs_is_refused(tmp_path: Path) -> None:
    data = data_module(encoder(), tmp_path)
    trainer: Any = SimpleNamespace(current_epoch=2, max_epochs=5, is_global_zero=True)
    with pytest.raises(FrostlineError, match="needs every epoch, but those in ckpt_path were trained without it"):
        follow(data).on_train_start(trainer, None)
    of_others = follow(data)
    of_others.probabilities = of_others.is_right = [torch.ones(23)] * 2
    with pytest.raises(FrostlineError, match="or on other sentences"):
        of_others.on_train_start(trainer, None)
    with pytest.raises(FrostlineError, match="leave ckpt_path out"):
        follow(data).epochs()


@pytest.mark.parametrize(("epochs", "warns"), [(4, True), (5, False)])
def test_few_epochs_are_warned_of(epochs: int, warns: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer: Any = SimpleNamespace(current_epoch=0, max_epochs=epochs, is_global_zero=True)
    follow(data_module(encoder(), tmp_path)).on_train_start(trainer, None)
    assert ("the map is rough" in caplog.text) == warns


def test_the_clock_stands_still_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 5.0, 105.0, 107.0])  # made, started, stopped, on again, read
    monkeypatch.setattr("frostline.strategies.trainer.time", SimpleNamespace(monotonic=lambda: next(now)))
    clock = Resume()
    clock.on_train_start(SimpleNamespace(loggers=[]), None)  # type: ignore[arg-type]
    with clock.stopped():
        pass
    clock.count()
    assert clock.seconds == 7


def test_scoring_is_no_part_of_the_training_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = encoder()
    data = data_module(pretrained, tmp_path)
    dynamics, scorings = follow(data), []

    def scored(*args: Any) -> np.ndarray[Any, Any]:
        scorings.append(args)
        logits = predict(*args)
        time.sleep(0.2)
        return logits

    monkeypatch.setattr("frostline.strategies.dynamics.predict", scored)
    started = time.monotonic()
    fit(build(pretrained, PARTIAL), pretrained, tmp_path, dynamics, dynamics.clock, epochs=2)
    dynamics.clock.count()
    assert len(scorings) == 2
    assert dynamics.clock.seconds < time.monotonic() - started - 0.4, "what was slept is left out"
