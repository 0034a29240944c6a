from __future__ import annotations

import os

import pandas as pd
import pytest
import yaml
from filelock import FileLock

from tests.commands.run_files import curves, manifest, metrics

ONE_EPOCH = ["trainer.max_epochs=1"]


def results(sweep_dir):
    return pd.read_csv(sweep_dir / "results.csv", keep_default_na=False)


def test_a_failing_job_does_not_stop_the_sweep_and_is_run_again_alone(frostline, tiny, tmp_path):
    """An obstacle makes one of three jobs fail; the second launch of the same command runs only that one."""
    sweep = tmp_path / "sweep"
    (sweep / "1").mkdir(parents=True)
    (sweep / "1" / "checkpoint").write_text("a file where a folder must be")
    words = ["train", "-m", *tiny, "strategy=partial", "strategy.frozen_depth=0,2,3", *ONE_EPOCH, f"hydra.sweep.dir={sweep}"]
    first = frostline(*words)
    assert first.status == 1
    table = results(sweep)
    assert list(table["status"]) == ["finished", "failed", "finished"]
    assert table["error"][1] and (sweep / "1/error.txt").read_text().startswith("Traceback")
    assert not (sweep / "1/metrics.json").exists()

    (sweep / "1" / "checkpoint").unlink()
    before = {i: (sweep / f"{i}/metrics.json").stat().st_mtime_ns for i in (0, 2)}
    second = frostline(*words)
    assert second.status == 0, second.err
    assert f"2 of 3 jobs in {sweep} are finished already" in second.err and "[1/1]" in second.err
    assert {i: (sweep / f"{i}/metrics.json").stat().st_mtime_ns for i in (0, 2)} == before
    assert list(results(sweep)["status"]) == ["finished"] * 3
    assert not (sweep / "1/error.txt").exists()


def test_two_launchers_of_one_sweep_share_its_jobs(frostline, tiny, tmp_path):
    """The other one is at work on the first job: this one runs the second, and says that not all is finished."""
    words = ["train", "-m", *tiny, "strategy=full", "seed=0,1", *ONE_EPOCH, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    (tmp_path / "sweep/0").mkdir(parents=True)
    with FileLock(tmp_path / "sweep/0/.lock"):
        result = frostline(*words)
    assert result.status == 1
    assert f"Passed over: Another process is at work in '{tmp_path / 'sweep/0'}'" in result.err
    assert list(results(tmp_path / "sweep")["status"]) == ["missing", "finished"]


def test_a_job_of_a_sweep_equals_the_same_run_alone(frostline, tiny, tmp_path):
    """State must not leak between the jobs that share a process."""
    sweep = tmp_path / "sweep"
    words = [*tiny, "optimizer=adamw", "optimizer.lr=1e-3", "trainer.max_epochs=2"]
    assert frostline("train", "-m", *words, "strategy=partial,full,frozen", "seed=1", f"hydra.sweep.dir={sweep}").status == 0
    for job, strategy in enumerate(("partial", "full", "frozen")):
        alone = tmp_path / strategy
        assert frostline("train", *words, f"strategy={strategy}", "seed=1", f"hydra.run.dir={alone}").status == 0
        assert metrics(sweep / str(job)) == metrics(alone)
        assert curves(sweep / str(job)).equals(curves(alone))


def test_results_hold_a_row_a_job_with_its_configuration_and_metrics(frostline, tiny, tmp_path):
    sweep = tmp_path / "sweep"
    words = [*tiny, "strategy=partial", "strategy.frozen_depth=1,4", "optimizer.lr=1e-4,1e-3", *ONE_EPOCH]
    result = frostline("train", "-m", *words, f"hydra.sweep.dir={sweep}")
    assert result.status == 0, result.err
    table = results(sweep)
    assert list(table["strategy.frozen_depth"]) == [1, 1, 4, 4]
    assert list(table["optimizer.lr"]) == [1e-4, 1e-3, 1e-4, 1e-3]
    for job, row in table.iterrows():
        assert row["val/accuracy"] == metrics(sweep / str(job))["val/accuracy"]
    assert (sweep / "report.html").stat().st_size > 10_000 and (sweep / "sweep.yaml").is_file()
    assert "[4/4" in result.err, "progress of the whole sweep"
    assert "4 of 4" in result.out and "results.csv" in result.out, "the table in the terminal"


def test_the_main_sweep_is_a_union_of_grids(frostline):
    """Composed only: every strategy with learning rates of its own."""
    result = frostline("train", "sweep=main", "--cfg", "hydra", "-p", "hydra.sweeper")
    grids = yaml.safe_load(result.out.split("\n", 1)[1] if result.out.startswith("#") else result.out)["grids"]
    assert [grid["strategy"] for grid in grids] == ["frozen", "partial", "full"]
    assert all(grid["seed"] == "0,1,2" for grid in grids)


def test_grids_are_joined_and_the_command_line_wins(frostline, tiny, tmp_path):
    sweep = tmp_path / "sweep"
    grids = "[{strategy: frozen}, {strategy: partial, strategy.frozen_depth: '1,2', seed: '0,1'}]"
    words = [*tiny, "optimizer=adamw", *ONE_EPOCH, f"hydra.sweeper.grids={grids}", f"hydra.sweep.dir={sweep}"]
    assert frostline("train", "-m", *words, "seed=5").status == 0
    assert list(results(sweep)["strategy.frozen_depth"]) == [4, 1, 2]
    assert set(results(sweep)["seed"]) == {5}


def test_two_offline_wandb_jobs_are_two_closed_runs_of_one_group(frostline, tiny, tmp_path):
    import wandb

    sweep = tmp_path / "sweep"
    words = [*tiny, "logger=wandb", "strategy=full", "seed=0,1", *ONE_EPOCH, f"hydra.sweep.dir={sweep}"]
    assert frostline("train", "-m", *words).status == 0
    assert wandb.run is None, "every job closes its run"
    ids = [manifest(sweep / job)["wandb_id"] for job in "01"]
    assert len(set(ids)) == 2
    for job, run_id in zip("01", ids, strict=True):
        assert list((sweep / job / "wandb").glob(f"offline-run-*/run-{run_id}.wandb"))


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_costs_no_run(frostline, tiny, tmp_path):
    """Nobody listens on that port. The jobs go on offline, and only the first one tries."""
    sweep = tmp_path / "sweep"
    lost = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "2"}
    words = [*tiny, "logger=wandb", "strategy=full", "seed=0,1", *ONE_EPOCH, f"hydra.sweep.dir={sweep}"]
    result = frostline("train", "-m", *words, env=lost)
    assert result.status == 0, result.err
    assert result.err.count("Weights & Biases cannot be reached") == 1
    assert list(results(sweep)["status"]) == ["finished"] * 2
    for job in "01":
        assert list((sweep / job / "wandb").glob(f"offline-run-*/run-{manifest(sweep / job)['wandb_id']}.wandb"))


def test_a_diverged_wandb_job_is_closed_as_failed(frostline, tiny, tmp_path):
    import wandb

    words = [*tiny, "logger=wandb", "strategy=full", "optimizer=sgd", "optimizer.lr=1e30", f"hydra.run.dir={tmp_path / 'run'}"]
    assert frostline("train", *words).status == 1
    assert wandb.run is None
    assert manifest(tmp_path / "run")["status"] == "diverged"


def test_a_sweep_survives_the_loss_of_a_job(frostline, tiny, tmp_path):
    """Report on directories alone: a killed launcher leaves finished jobs that can still be collected."""
    sweep = tmp_path / "sweep"
    result = frostline("train", "-m", *tiny, "strategy=full", "seed=0,1", *ONE_EPOCH, f"hydra.sweep.dir={sweep}")
    assert result.status == 0, result.err
    os.remove(sweep / "results.csv")
    os.remove(sweep / "1/metrics.json")
    os.remove(sweep / "1/manifest.json")
    assert frostline("report", f"run={sweep}").status == 1, "a job is missing, and the exit status says so"
    assert list(results(sweep)["status"]) == ["finished", "missing"]
