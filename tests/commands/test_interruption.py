"""SIGTERM and Ctrl-C end a sweep or a run in order: with a sentence, a status to requeue on, and nothing lost."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pandas as pd
import pytest

from tests.commands.run_files import curves, manifest
from tests.commands.test_resume import STRATEGIES, assert_same
from tests.conftest import Frostline, Result


@pytest.fixture
def stopped(frostline: Frostline, monkeypatch: pytest.MonkeyPatch):
    """Run a command that gets a signal in a step of its second epoch."""
    from frostline.strategies import Classifier

    def run(number: signal.Signals, *words: str) -> Result:
        own = Classifier.training_step

        def step(self: Classifier, batch: object, index: int) -> object:
            if (self.current_epoch, index) == (1, 3):
                os.kill(os.getpid(), number)
            return own(self, batch, index)  # type: ignore[arg-type]

        with monkeypatch.context() as during:
            during.setattr(Classifier, "training_step", step)
            before = signal.getsignal(number)
            result = frostline(*words)
            assert signal.getsignal(number) is before
        assert "Traceback" not in result.err
        return result

    return run


def test_a_sweep_told_to_end_stops_at_once_and_goes_on_later(stopped, frostline, finished, tiny, tmp_path) -> None:
    """SIGTERM is what a cluster sends at the end of the time limit."""
    sweep = tmp_path / "outputs/a sweep"
    words = ["train", "-m", *tiny[:-1], "strategy=partial", *STRATEGIES["full"][1:]]
    depths = "strategy.frozen_depth=0,2"
    result = stopped(signal.SIGTERM, *words, depths, f"hydra.sweep.dir='{sweep}'")
    assert result.status == 75
    told = f"frostline train: Stopped by SIGTERM; go on with frostline train resume='{sweep}'."
    assert result.err.splitlines()[-1] == told
    assert (manifest(sweep / "0")["status"], manifest(sweep / "0")["exit_status"]) == ("interrupted", 75)
    assert not (sweep / "1").exists() and not (sweep / "results.csv").exists()
    status = frostline("status", f"run={sweep}")
    assert status.status == 1 and "0 of 2 finished, 1 interrupted, 1 missing." in status.out

    others = frostline(*words, "strategy.frozen_depth=0,1", f"resume={sweep}")
    assert others.status == 1 and "holds other jobs than this command makes: its job 1 is" in others.err
    again = frostline("train", f"resume={sweep}")
    assert again.status == 0, again.err
    assert list(pd.read_csv(sweep / "results.csv")["status"]) == ["finished"] * 2
    for job, name in enumerate(("full", "partial")):
        assert_same(sweep / str(job), finished(*tiny[:-1], *STRATEGIES[name]))
    assert frostline("status", f"run={sweep}").status == 0
    once_more = frostline(*words, depths, f"resume={sweep}")
    assert once_more.status == 0 and f"2 of 2 jobs in {sweep} are finished already" in once_more.err


def test_ctrl_c_ends_a_run_with_a_sentence_and_it_resumes_by_itself(stopped, frostline, finished, tiny, tmp_path) -> None:
    import wandb

    words = ["model=tiny", "logger=wandb", *tiny[2:-1], *STRATEGIES["full"]]
    result = stopped(signal.SIGINT, "train", *words)
    assert result.status == 130
    (run_dir,) = (tmp_path / "outputs/runs").glob("*/*")
    assert result.err.splitlines()[-1] == f"frostline train: Stopped by Ctrl-C; go on with frostline train resume='{run_dir}'."
    assert manifest(run_dir)["status"] == "interrupted" and not (run_dir / "error.txt").exists()
    assert wandb.run is None, "its W&B run is closed"
    again = frostline("train", *words)
    assert again.status == 0 and f"Resuming the unfinished run in {run_dir}" in again.err
    assert_same(run_dir, finished(*tiny[:-1], *STRATEGIES["full"]))


def test_a_run_is_resumed_by_its_directory_alone(frostline, finished, tiny, tmp_path) -> None:
    words = [*tiny, "strategy=full", "optimizer.lr=1e-3"]
    again = frostline("train", f"resume={finished(*words)}")
    assert again.status == 0 and "Already finished" in again.err
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "empty", tmp_path / "nowhere"):
        refused = frostline("train", f"resume={directory}")
        assert refused.status == 1 and f"resume: '{directory}' is the directory of no sweep and of no run" in refused.err
    (tmp_path / "empty" / "sweep.yaml").touch()
    refused = frostline("train", f"resume={tmp_path / 'empty'}")
    assert refused.status == 1 and "does not say which command began it" in refused.err


def test_before_anything_is_trained_a_command_just_says_that_it_was_stopped(frostline, monkeypatch, tmp_path: Path) -> None:
    from frostline.commands import claims

    monkeypatch.setattr(claims, "claims", lambda output_dir: os.kill(os.getpid(), signal.SIGINT))
    result = frostline("claims")
    assert (result.status, result.err) == (130, "frostline claims: Stopped by Ctrl-C.\n")


def test_a_run_that_stopped_early_does_not_train_on_when_it_is_resumed(frostline, monkeypatch, finished, tiny, tmp_path) -> None:
    """Interrupted after its last epoch. Nothing is learned, so that it stops after two of three."""
    from frostline.commands import train

    words = [
        *tiny[:-1],
        *STRATEGIES["full"],
        "optimizer.lr=1e-12",
        "callbacks=early_stopping",
        "callbacks.early_stopping_patience=1",
    ]
    with monkeypatch.context() as during:
        during.setattr(train, "save_checkpoint", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert frostline("train", *words).status == 75
    (run_dir,) = (tmp_path / "outputs/runs").glob("*/*")
    assert frostline("train", *words).status == 0
    assert_same(run_dir, finished(*words))
    assert curves(run_dir)["epoch"].max() == 1


def test_a_changed_byte_in_the_state_to_resume_from_is_noticed_and_the_run_starts_afresh(
    stopped, frostline, finished, tiny, tmp_path
):
    import torch

    from frostline.strategies.trainer import is_readable

    words, draw = ["train", *tiny[:-1], *STRATEGIES["full"]], random.Random()
    assert stopped(signal.SIGTERM, *words).status == 75
    (path,) = (tmp_path / "outputs/runs").glob("*/*/resume/last.ckpt")
    content, whole = path.read_bytes(), torch.load(path, weights_only=True)["state_dict"]
    for _ in range(40):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        if is_readable(path):  # it hit what nobody reads, between the parts of the file
            read = torch.load(path, weights_only=True)["state_dict"]
            assert all(torch.equal(read[name], whole[name]) for name in whole)
    weights = max(whole.values(), key=torch.Tensor.numel).numpy().tobytes()
    changed = bytearray(content)
    changed[content.index(weights) + len(weights) // 2] ^= 1
    path.write_bytes(changed)
    result = frostline(*words)
    assert result.status == 0 and f"'{path}' is damaged; the run starts afresh" in result.err
    assert_same(path.parents[1], finished(*words[1:]))
