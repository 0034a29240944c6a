from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.commands.run_files import curves, manifest, metrics, predictions

# Long enough to be killed in the middle: some epochs of about a second.
SLOW = ["strategy=full", "optimizer.lr=1e-3", "trainer.max_epochs=12", "data.batch_size=4"]


def kill_after_first_checkpoint(running, runs: Path) -> Path:
    """Wait until the run has a state to resume from, let it begin another epoch, and kill it."""
    deadline = time.monotonic() + 120
    while not (found := list(runs.glob("*/*/resume/last.ckpt"))):
        assert running.poll() is None, running.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    run_dir = found[0].parents[1]
    assert manifest(run_dir)["status"] == "running", "killed too late"
    assert not (run_dir / "metrics.json").exists(), "a killed run leaves no file that looks finished"
    return run_dir


@pytest.mark.parametrize("strategy", [SLOW, ["strategy=partial", "strategy.frozen_depth=2", *SLOW[1:]]], ids=["full", "partial"])
def test_a_killed_run_resumes_to_the_same_numbers(process, frostline, tiny, tmp_path, strategy):
    words = ["train", *tiny[:-1], *strategy]
    assert frostline(*words, f"hydra.run.dir={tmp_path / 'undisturbed'}").status == 0

    run_dir = kill_after_first_checkpoint(process(*words), tmp_path / "outputs/runs")
    again = process(*words)
    output, _ = again.communicate(timeout=200)
    assert again.returncode == 0, output
    assert f"Resuming the unfinished run in {run_dir}" in output
    assert len(list((tmp_path / "outputs/runs").glob("*/*"))) == 1, "it resumes in its own directory"
    assert metrics(run_dir) == metrics(tmp_path / "undisturbed")
    assert predictions(run_dir).equals(predictions(tmp_path / "undisturbed"))
    assert curves(run_dir).equals(curves(tmp_path / "undisturbed"))


def test_a_run_that_is_still_alive_is_not_taken_over(process, frostline, tiny, tmp_path):
    words = ["train", *tiny[:-1], *SLOW]
    first = process(*words)
    while not list((tmp_path / "outputs/runs").glob("*/*/manifest.json")):
        assert first.poll() is None
        time.sleep(0.02)
    result = frostline(*words, "trainer.max_epochs=12")
    output, _ = first.communicate(timeout=200)
    assert (first.returncode, result.status) == (0, 0), output + result.err
    assert "Resuming" not in result.err
    assert len(list((tmp_path / "outputs/runs").glob("*/*/metrics.json"))) == 2


def test_a_finished_run_is_not_run_again_in_its_directory(frostline, tiny, tmp_path):
    words = ["train", *tiny, "strategy=full", f"hydra.run.dir={tmp_path / 'run'}"]
    assert frostline(*words).status == 0
    before = (tmp_path / "run/metrics.json").stat().st_mtime_ns
    again = frostline(*words)
    assert again.status == 0 and "Already finished" in again.err
    assert (tmp_path / "run/metrics.json").stat().st_mtime_ns == before


def test_a_given_checkpoint_is_resumed_from(process, frostline, tiny, tmp_path):
    words = ["train", *tiny[:-1], *SLOW]
    assert frostline(*words, f"hydra.run.dir={tmp_path / 'undisturbed'}").status == 0
    killed = kill_after_first_checkpoint(process(*words), tmp_path / "outputs/runs")
    path = killed / "resume/last.ckpt"
    result = frostline(*words, f"ckpt_path={path}", f"hydra.run.dir={tmp_path / 'continued'}")
    assert result.status == 0, result.err
    assert metrics(tmp_path / "continued") == metrics(tmp_path / "undisturbed")
    assert curves(tmp_path / "continued")["step"].min() > 0, "the first epoch was not trained again"


def test_a_run_is_not_resumed_on_other_data(process, frostline, tiny, tmp_path, reviews_csv):
    words = ["train", *tiny[:-1], *SLOW]
    run_dir = kill_after_first_checkpoint(process(*words), tmp_path / "outputs/runs")
    reviews_csv.write_text(reviews_csv.read_text().replace("lovely", "loud"))
    result = frostline(*words)
    assert result.status == 1
    assert f"'{run_dir}' cannot be resumed: its data hashes changed" in result.err
