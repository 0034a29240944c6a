"""A run on several devices is the run on one: two gloo processes on a CPU, without dropout."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from frostline.encoder.entries import entries
from tests.commands.run_files import curves, manifest, metrics, predictions

# Runs that a pair of processes trains one after the other, so that they are started, and import torch, only once.
TOGETHER = """
import json, sys
from frostline.__main__ import main

for words in json.loads(sys.argv[1]):
    if status := main(words):
        sys.exit(status)
"""
SHORT = ["optimizer.lr=1e-3", "trainer.max_epochs=2"]
NO_DROPOUT = ["remedy.dropout.hidden=0", "remedy.dropout.attention=0", *SHORT]
PLAIN = ["remedy=dropout", *NO_DROPOUT]
A_SENTENCE_LEFT = "data.train_size=81"  # five batches of 16, and one of a single sentence, which leaves one device without
RUNS = {
    "frozen": ["strategy=frozen", "strategy.layer=2", "optimizer=adamw", "callbacks.dynamics=true", A_SENTENCE_LEFT, *SHORT],
    "partial": ["strategy=partial", "strategy.frozen_depth=2", "data.batch_size=17", *PLAIN],
    "full": ["strategy=full", A_SENTENCE_LEFT, *PLAIN],
    "accumulated": ["strategy=full", "data.batch_size=9", "trainer.accumulate_grad_batches=4", A_SENTENCE_LEFT, *PLAIN],
    "tokens": ["strategy=partial", "strategy.frozen_depth=1", "data.batch_tokens=300", *PLAIN],
    "sharded": ["strategy=full", A_SENTENCE_LEFT, "optimizer.weight_decay=0.5", "optimizer.gradient_clip=0.1", *PLAIN],
}
MORE = {
    "lora": ["strategy=lora", "strategy.dropout=0", *PLAIN],
    "bitfit": ["strategy=bitfit", *PLAIN],
    "lp_ft": ["strategy=lp_ft", *PLAIN],
    "gradual": ["strategy=gradual", "model.blocks=2", *PLAIN, "trainer.max_epochs=3"],
    "remedies": ["strategy=full", "remedy=[dropout,label_smoothing,r_drop,l2_sp,averaging,wise_ft]", *NO_DROPOUT],
    "rehearsal": [
        "strategy=partial",
        "strategy.frozen_depth=2",
        "remedy=[dropout,ewc,replay]",
        "remedy.ewc.sentences=8",
        *NO_DROPOUT,
    ],
    "sharded partial": ["strategy=partial", "strategy.frozen_depth=2", *PLAIN],
}


def on_two(name: str) -> str:
    return "trainer=fsdp_cpu" if name.startswith("sharded") else "trainer=ddp_cpu"


@pytest.fixture
def together(process, tiny, shared) -> Callable[[str], Path]:
    """``together("full")`` is the directory of that run, trained by two processes that torchrun started."""

    def directory(name: str) -> Path:
        runs = RUNS if name in RUNS else MORE
        folder = shared / ("together" if runs is RUNS else "together-more")
        if not folder.exists():
            program = folder.with_suffix(".py")
            program.write_text(TOGETHER)
            commands = [["train", *tiny, *words, on_two(n), f"hydra.run.dir={folder / n}"] for n, words in runs.items()]
            torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program))
            running = process(json.dumps(commands), program=torchrun)
            output, _ = running.communicate(timeout=280)
            assert running.returncode == 0, output
        return folder / name

    return directory


def assert_same(two: Path, one: Path) -> None:
    """Up to the order in which numbers are added up."""
    first, second = curves(one), curves(two)
    assert list(first) == list(second)
    assert len(first) == len(second)
    assert np.nanmax((first - second).abs().to_numpy()) < 1e-5
    assert metrics(two) == pytest.approx(metrics(one), abs=1e-5)
    logits = ["logit_bad", "logit_good"]
    np.testing.assert_allclose(predictions(two)[logits], predictions(one)[logits], atol=1e-4)
    assert predictions(two).drop(columns=logits).equals(predictions(one).drop(columns=logits))


@pytest.mark.parametrize("name", [*RUNS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_two_processes_give_the_curve_of_one(together, finished, tiny, name):
    """Also where a batch has an odd number of sentences, or fewer than devices; and every score counts every sentence once."""
    two, one = together(name), finished(*tiny, *(RUNS | MORE)[name])
    assert_same(two, one)
    if name == "frozen":
        pd.testing.assert_frame_equal(*(pd.read_parquet(run / "dynamics.parquet") for run in (one, two)), atol=1e-5)


def test_no_process_but_one_writes(together):
    """Whoever starts them: here torchrun, below Lightning."""
    files = {
        "config.yaml",
        "manifest.json",
        "metrics.json",
        "curves.csv",
        "predictions.parquet",
        "checkpoint",
        ".hydra",
        "train.log",
    }
    assert {path.name for path in together("full").iterdir()} == files
    assert {path.name for path in together("full").parent.iterdir()} == set(RUNS)


# --- started by Lightning ----------------------------------------------------------------------------------------------


def test_a_job_on_several_devices_runs_in_processes_of_its_own(frostline, tiny, tmp_path, own_cache):
    """One process of a run writes, to one folder and one W&B run; what is frozen is computed by one of them."""
    sweep = tmp_path / "sweep"
    words = [*tiny, "logger=wandb", *RUNS["partial"], f"hydra.sweep.dir={sweep}"]
    result = frostline("train", "-m", *words, "trainer=ddp_cpu,cpu")
    assert result.status == 0, result.err
    assert list(pd.read_csv(sweep / "results.csv")["status"]) == ["finished"] * 2
    devices = [yaml.safe_load((sweep / job / "config.yaml").read_text())["trainer"]["devices"] for job in "01"]
    assert devices == [2, 1]
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["sweep"], "children do not sweep again"
    assert {p.name for p in (sweep / "0").iterdir()} == {p.name for p in (sweep / "1").iterdir()}
    assert_same(sweep / "0", sweep / "1")
    assert len(list(sweep.glob("0/wandb/offline-run-*"))) == 1
    sentences = len(pd.read_csv(tiny[3].removeprefix("data.train=")))
    assert [manifest(sweep / job)["cache"]["computed_sentences"] for job in "01"] == [sentences, 0]
    assert [entry.sentences for entry in entries(own_cache)] == [sentences]


# Frostline in processes of which one comes to a point of its second epoch and does something there.
PROGRAM = """
import os, signal, sys, time
from frostline.__main__ import main
from frostline.strategies import Classifier

own = Classifier.training_step

def training_step(self, batch, index):
    if (self.global_rank, self.current_epoch, index) == ({rank}, 1, 3):
        {action}
    return own(self, batch, index)

Classifier.training_step = training_step
sys.exit(main())
"""


@pytest.fixture
def disturbed(process, tiny, tmp_path) -> Callable[[int, str], tuple[int, str]]:
    """Train ``partial`` with two processes, one of which does something in its second epoch; the exit status and output."""

    def run(rank: int, action: str) -> tuple[int, str]:
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.format(rank=rank, action=action))
        words = [*tiny, *RUNS["partial"], "trainer=ddp_cpu", f"hydra.run.dir={tmp_path / 'run'}"]
        running = process("train", *words, program=(str(path),))
        output, _ = running.communicate(timeout=250)  # and the end of its children, which have the same output
        return running.returncode, output

    return run


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to end"])
def test_nothing_is_left_of_a_run_that_ends_early_and_it_resumes_to_the_same_numbers(
    disturbed, process, together, tiny, tmp_path, number
):
    status, output = disturbed(0, f"os.kill(os.getpid(), {number})")
    assert status == (75 if number == signal.SIGTERM else -number), output
    assert not at_work(str(tmp_path)), "a process outlives the run"
    assert manifest(tmp_path / "run")["status"] == ("interrupted" if number == signal.SIGTERM else "running")
    assert (tmp_path / "run/resume/last.ckpt").exists()
    again = process("train", *tiny, *RUNS["partial"], "trainer=ddp_cpu", f"hydra.run.dir={tmp_path / 'run'}")
    output, _ = again.communicate(timeout=250)
    assert again.returncode == 0, output
    undisturbed = together("partial")
    assert curves(tmp_path / "run").equals(curves(undisturbed))
    assert metrics(tmp_path / "run") == metrics(undisturbed)
    assert predictions(tmp_path / "run").equals(predictions(undisturbed))


def test_a_process_that_fails_ends_the_run_and_says_why(disturbed, tmp_path):
    status, output = disturbed(1, "raise ValueError('of one process only')")
    assert status != 0
    assert "ValueError: of one process only" in output
    assert "ValueError: of one process only" in (tmp_path / "run/error.txt").read_text()
    assert not at_work(str(tmp_path))
    assert manifest(tmp_path / "run")["status"] in ("failed", "running"), "Lightning kills the others after at most 5 s"


def at_work(words: str) -> list[str]:
    """Commands with ``words`` in them that are running."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if words in command:
            found.append(command)
    return found
