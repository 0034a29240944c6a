"""A sweep is killed again and again, whatever it is doing, and ends as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
import pytest

from frostline.__main__ import main
from frostline.runs.jobs import jobs_in, unfinished
from tests.commands.run_files import MEASURED, curves, predictions

KILLS = 20
# What is learned in epochs, with what must come through a resume: the mean of weights, gradual thawing, early stopping, the exact
# probe, which is solved at once, and the states that they share in a cache.
GRIDS = [
    "{strategy: frozen}",
    "{strategy: frozen, optimizer: adamw, strategy.layer: 1, data.batch_size: 8}",
    "{strategy: partial, strategy.frozen_depth: '1,3', callbacks: early_stopping, data.batch_size: 8}",
    "{strategy: full, data.batch_size: 8, remedy: '[averaging,l2_sp]', remedy.averaging.last_share: 0.9}",
    "{strategy: gradual, model.blocks: 2, data.batch_size: 8}",
]


@pytest.fixture(scope="module")
def processes():
    """Start processes that have imported everything already: a kill then hits the sweep, not the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["frostline.commands.train", "frostline.commands.report", "frostline.commands.sweep", "wandb"])
    first = context.Process(target=len, args=("",))  # which waits for the imports
    first.start()
    first.join()
    return context


def has_ended(sweep: Path) -> bool:
    return (sweep / "results.csv").is_file() and not unfinished(jobs_in(sweep))


def results(sweep: Path) -> pd.DataFrame:
    return pd.read_csv(sweep / "results.csv").drop(columns=[*MEASURED])


def assert_equal(sweep: Path, undisturbed: Path) -> None:
    pd.testing.assert_frame_equal(results(sweep), results(undisturbed), check_exact=True)
    for job in jobs_in(undisturbed):
        assert not list((sweep / job.folder.name).rglob("*.part")), "the next process tidies up"
        assert predictions(sweep / job.folder.name).equals(predictions(job.folder))
        if (job.folder / "curves.csv").is_file():
            assert curves(sweep / job.folder.name).equals(curves(job.folder))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_killed_at_any_moment_ends_as_an_undisturbed_one(processes, reviews_csv, own_cache, tmp_path) -> None:
    words = ["model=tiny", "logger=csv", "data=files", f"data.train={reviews_csv}", "trainer.max_epochs=4"]
    grids = f"hydra.sweeper.grids=[{','.join(GRIDS)}]"

    def start(sweep: Path) -> BaseProcess:
        places = [f"paths.cache_dir={own_cache}", f"paths.output_dir={tmp_path}", f"hydra.sweep.dir={sweep}"]
        process: BaseProcess = processes.Process(target=main, args=(["train", "-m", *words, grids, *places],))
        process.start()
        return process

    began = time.monotonic()
    undisturbed = start(tmp_path / "undisturbed")
    undisturbed.join()
    seconds = time.monotonic() - began
    assert has_ended(tmp_path / "undisturbed")

    draw, kills, sweeps = random.Random(), 0, 0
    while kills < KILLS:
        sweeps += 1
        sweep = tmp_path / f"killed-{sweeps}"
        shutil.rmtree(own_cache / "activations")  # filled by a sweep that is killed, not by the one before
        while not (sweep.is_dir() and has_ended(sweep)):
            process = start(sweep)
            process.join(draw.uniform(0.0, seconds / 4) if kills < KILLS else None)
            kills += process.is_alive()
            process.kill()
            process.join()
        assert_equal(sweep, tmp_path / "undisturbed")
    print(f"{kills} kills of {sweeps} sweeps")
