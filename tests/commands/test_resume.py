from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.run_files import curves, manifest, metrics, predictions

SHORT = ["optimizer.lr=1e-3", "trainer.max_epochs=3", "data.batch_size=8"]
STRATEGIES = {
    "full": ["strategy=full", *SHORT],
    "partial": ["strategy=partial", "strategy.frozen_depth=2", *SHORT],
    "gradual": ["strategy=gradual", "model.blocks=2", *SHORT],
    # The mean begins in the first epoch, so that it must come through the resume.
    "remedies": ["strategy=full", "remedy=[averaging,l2_sp,mixout]", "remedy.averaging.last_share=0.9", *SHORT],
}

# Frostline in a process that comes to a point of its second epoch and does something there.
PROGRAM = """
import functools, os, signal, sys, time
from pathlib import Path
from frostline.__main__ import main
from frostline.strategies import Classifier
from frostline.strategies.trainer import KeepBest

own = {hook}

@functools.wraps(own)
def hook(*args):
    if {when}:
        {action}
    return own(*args)

{hook} = hook
sys.exit(main())
"""
IN_A_STEP = ("Classifier.training_step", "(args[0].current_epoch, args[2]) == (1, 3)")
BEFORE_THE_CHECKPOINT = ("KeepBest.on_validation_end", "args[1].current_epoch == 1")  # the epoch's curves are on disk by then
POINTS = dict.fromkeys(STRATEGIES, IN_A_STEP) | {"full": BEFORE_THE_CHECKPOINT}
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def program(point: tuple[str, str], action: str) -> tuple[str, str]:
    hook, when = point
    return ("-c", PROGRAM.format(hook=hook, when=when, action=action))


@pytest.fixture
def killed(process, tiny, shared, tmp_path) -> Callable[[str], Path]:
    """The directory of a run that was killed in its second epoch: a copy, below the outputs of the test."""

    def directory(strategy: str) -> Path:
        kept, runs = shared / f"killed-{strategy}", tmp_path / "outputs/runs"
        if not kept.exists():
            running = process("train", *tiny[:-1], *STRATEGIES[strategy], program=program(POINTS[strategy], KILL))
            output, _ = running.communicate(timeout=200)
            assert running.returncode == -signal.SIGKILL, output
            shutil.move(runs, kept)
        shutil.copytree(kept, runs)
        (run_dir,) = runs.glob("*/*")
        assert manifest(run_dir)["status"] == "running", "killed too late"
        assert (run_dir / "resume/last.ckpt").exists(), "killed too early"
        assert not (run_dir / "metrics.json").exists(), "a killed run leaves no file that looks finished"
        return run_dir

    return directory


def assert_same(resumed: Path, undisturbed: Path) -> None:
    assert metrics(resumed) == metrics(undisturbed)
    assert predictions(resumed).equals(predictions(undisturbed))
    assert curves(resumed).equals(curves(undisturbed))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_run_resumes_to_the_same_numbers(process, frostline, killed, finished, tiny, tmp_path, strategy):
    """One of them in a new process, as after a real kill."""
    words, run_dir = [*tiny[:-1], *STRATEGIES[strategy]], killed(strategy)
    if strategy == "full":
        again = process("train", *words)
        output, _ = again.communicate(timeout=200)
        status = again.returncode
    else:
        result = frostline("train", *words)
        output, status = result.err, result.status
    assert status == 0, output
    assert f"Resuming the unfinished run in {run_dir}" in output
    assert len(list((tmp_path / "outputs/runs").glob("*/*"))) == 1, "it resumes in its own directory"
    assert_same(run_dir, finished(*words))


def test_a_run_that_is_still_alive_is_not_taken_over(process, frostline, tiny, tmp_path):
    words, go = ["train", *tiny[:-1], *STRATEGIES["full"]], tmp_path / "go"
    wait = f"while not Path({str(go)!r}).exists(): time.sleep(0.02)"
    first = process(*words, program=program(IN_A_STEP, wait))
    try:
        while not list((tmp_path / "outputs/runs").glob("*/*/resume/last.ckpt")):
            assert first.poll() is None, first.stdout.read()
            time.sleep(0.02)
        result = frostline(*words)
        assert first.poll() is None, "it is alive all the time"
    finally:
        go.touch()
        output, _ = first.communicate(timeout=200)
    assert (first.returncode, result.status) == (0, 0), output + result.err
    assert "Resuming" not in result.err
    one, other = (path.parent for path in (tmp_path / "outputs/runs").glob("*/*/metrics.json"))
    assert_same(one, other)


def test_a_finished_run_is_not_run_again_in_its_directory(frostline, finished, tiny):
    words = [*tiny, "strategy=full", "optimizer.lr=1e-3"]
    run_dir = finished(*words)
    before = (run_dir / "metrics.json").stat().st_mtime_ns
    again = frostline("train", *words, f"hydra.run.dir={run_dir}")
    assert again.status == 0 and "Already finished" in again.err
    assert (run_dir / "metrics.json").stat().st_mtime_ns == before


def test_a_given_checkpoint_is_resumed_from(frostline, killed, finished, tiny, tmp_path):
    words = [*tiny[:-1], *STRATEGIES["full"]]
    path = killed("full") / "resume/last.ckpt"
    result = frostline("train", *words, f"ckpt_path={path}", f"hydra.run.dir={tmp_path / 'continued'}")
    assert result.status == 0, result.err
    assert metrics(tmp_path / "continued") == metrics(finished(*words))
    assert curves(tmp_path / "continued")["step"].min() > 0, "the first epoch was not trained again"


def test_a_run_is_not_resumed_on_other_data(frostline, killed, tiny, tmp_path):
    run_dir = killed("full")
    source = Path(tiny[3].removeprefix("data.train="))  # written anew for every test
    source.write_text(source.read_text().replace("lovely", "loud"))
    result = frostline("train", *tiny[:-1], *STRATEGIES["full"])
    assert result.status == 1
    assert f"'{run_dir}' cannot be resumed: its data hashes changed" in result.err
