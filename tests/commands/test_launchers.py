"""Sweeps whose jobs run elsewhere than in the launching process, and how jobs share a machine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from frostline.commands import placement
from frostline.commands.placement import choose_gpu
from frostline.interruption import Interrupted, interruptible
from tests.commands.run_files import curves, manifest, metrics

MEASURED = ["fit_seconds", "examples_per_second", "peak_memory_mb"]


def results(sweep_dir: Path) -> pd.DataFrame:
    return pd.read_csv(sweep_dir / "results.csv").drop(columns=MEASURED)


@pytest.fixture
def own_workers():
    """joblib keeps its worker processes, with the environment that they were started in."""
    from joblib.externals.loky import get_reusable_executor

    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_sweep_ends_with_the_same_table_whatever_launched_it(frostline, tiny, tmp_path, own_workers):
    """Three jobs, of which one diverges; where they run side by side, the first one computes what all of them need."""
    grids = "[{strategy.frozen_depth: '2', optimizer.lr: '0.01,1e30'}, {strategy.frozen_depth: '3', optimizer.lr: '0.01'}]"
    words = ["train", "-m", *tiny, "strategy=partial", "optimizer=sgd", "trainer.max_epochs=1", f"hydra.sweeper.grids={grids}"]
    options = {"basic": [], "joblib": ["hydra.launcher.n_jobs=2"], "submitit_local": ["hydra.sweeper.max_batch_size=3"]}
    tables = {}
    for launcher, more in options.items():
        sweep = tmp_path / launcher
        places = [f"paths.cache_dir={tmp_path / 'caches' / launcher}", f"hydra.sweep.dir={sweep}"]
        end = frostline(*words, f"hydra/launcher={launcher}", *more, *places, env={"OMP_NUM_THREADS": "1"})
        assert end.status == 1, "a job has diverged"
        assert (sweep / "report.html").is_file()
        tables[launcher] = results(sweep)
        assert list(tables[launcher]["status"]) == ["finished", "diverged", "finished"], end.err
        pd.testing.assert_frame_equal(tables[launcher], tables["basic"])
        computed = [manifest(sweep / str(job))["cache"]["computed_sentences"] for job in range(3)]
        assert sum(computed) == sum(manifest(sweep / "0")["sentences"].values())
    assert len(list((tmp_path / "submitit_local/.submitit").glob("[0-9]*"))) == 3


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_job_that_a_cluster_preempts_goes_back_into_the_queue_and_resumes(process, finished, tiny, tmp_path):
    """What submitit does on SLURM, on this machine: SIGUSR2 to a job's process."""
    words = [*tiny, "strategy=full", "trainer.max_epochs=30", "seed=3"]
    sweep = tmp_path / "sweep"
    running = process("train", "-m", *words, "hydra/launcher=submitit_local", f"hydra.sweep.dir={sweep}")
    last, deadline = sweep / "0/resume/last.ckpt", time.monotonic() + 300
    while not last.is_file():
        assert running.poll() is None and time.monotonic() < deadline, running.communicate()
        time.sleep(0.05)
    (controller,) = (int(folder.name) for folder in (sweep / ".submitit").glob("[0-9]*"))
    (job,) = map(int, Path(f"/proc/{controller}/task/{controller}/children").read_text().split())
    os.kill(job, signal.SIGUSR2)
    output, _ = running.communicate(timeout=500)
    assert running.returncode == 0, output
    (log,) = (sweep / f".submitit/{controller}").glob("*_log.err")
    assert "Requeued job" in log.read_text()
    undisturbed = finished(*words)
    assert {k: v for k, v in metrics(sweep / "0").items() if k not in MEASURED} == {
        k: v for k, v in metrics(undisturbed).items() if k not in MEASURED
    }
    assert curves(sweep / "0").equals(curves(undisturbed))


def test_slurm_is_given_one_array_whose_jobs_may_go_back_into_the_queue(frostline, tiny, tmp_path):
    """As far as sbatch, which here keeps what it is given, and refuses it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = f"#!/bin/sh\ncp $1 {folder}/given; env > {folder}/env; echo Invalid account >&2; exit 1\n"
    for name in ("sbatch", "srun"):
        (folder / name).write_text(program)
        (folder / name).chmod(0o755)
    words = [*tiny, "strategy=full", "seed=0,1,2", "hydra/launcher=slurm", "hydra.launcher.array_parallelism=2"]
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}
    result = frostline("train", "-m", *words, f"hydra.sweep.dir={tmp_path / 'sweep'}", env=env)
    assert result.status == 1
    assert "The launcher could not start the jobs" in result.err and "Invalid account" in result.err
    given = (folder / "given").read_text().splitlines()
    for flag in ("array=0-2%2", "signal=USR2@120", "time=240", "cpus-per-task=4", "ntasks-per-node=1", "mem=16GB"):
        assert f"#SBATCH --{flag}" in given
    assert {"SBATCH_REQUEUE=1", "SRUN_CPUS_PER_TASK=4"} <= set((folder / "env").read_text().splitlines())


def test_a_signal_that_a_cluster_handles_is_left_to_it():
    """submitit hears SIGTERM, and waits for the signal that lets it put the job back into the queue."""
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("cluster"))
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert heard == ["cluster"]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with pytest.raises(Interrupted), interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_processes_get_different_gpus_as_long_as_there_are_any(tmp_path, monkeypatch):
    taken = []
    for number in (1, 3, 5):  # numbers of jobs that are left of a sweep need not be 0, 1, 2
        monkeypatch.setattr(placement, "_HELD", [])  # another process; what it holds stays locked
        taken.append((choose_gpu(number, ["0", "1"], tmp_path), placement._HELD))
    assert [gpu for gpu, _ in taken] == ["1", "0", "1"]
    assert choose_gpu(8, ["0", "1"], tmp_path) == "1", "a process keeps its GPU"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["hydra/launcher=joblob"], ["'joblob' is not a choice of hydra/launcher", "did you mean 'joblib'?", "submitit_local"]),
        (["hydra/launcher=ray"], ["hydra-ray-launcher"]),
        (["hydra/launcher=slurm"], ["could not start the jobs", "srun"]),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], ["hydra.launcher.n_jobs is 0"]),
        (["hydra.sweeper.max_batch_size=0"], ["hydra.sweeper.max_batch_size is 0"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_what_is_wrong_with_a_launcher_is_one_sentence(frostline, tiny, tmp_path, words, says):
    sweep = tmp_path / "sweep"
    result = frostline("train", "-m", *tiny, "strategy=full", "seed=0,1", *words, f"hydra.sweep.dir={sweep}", env={"PATH": ""})
    assert result.status == 1
    assert result.err.startswith("frostline train: ") and result.err.count("\n") == 1
    for part in says:
        assert part in result.err
    assert not (sweep / "0").exists()


def test_jobs_side_by_side_share_the_cores(monkeypatch, tmp_path):
    import torch

    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    try:
        for at_once, threads in ((3, 2), (8, 1), (20, 1)):
            placement.take_place(0, at_once, [], tmp_path)
            assert torch.get_num_threads() == threads
        monkeypatch.setenv("OMP_NUM_THREADS", "5")
        placement.take_place(0, 2, [], tmp_path)
        assert torch.get_num_threads() == 1, "the user has said how many"
    finally:
        torch.set_num_threads(before)
