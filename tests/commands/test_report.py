"""``frostline report`` from synthetic run directories: what it prints, writes and logs."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SYNTHETIC = runpy.run_path(str(Path(__file__).parents[1] / "report" / "test_table.py"))
write_run = SYNTHETIC["write_run"]


def log_to_wandb(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    logger = {"name": "wandb", "project": "frostline-test", "entity": None, "group": None}
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"logger": logger}))


@pytest.mark.parametrize(("form", "start"), [("markdown", "| strategy |"), ("latex", "\\begin{tabular}")])
def test_a_report_prints_nothing_but_the_table_for_a_paper(frostline, tmp_path, form, start):
    write_run(tmp_path / "0")
    result = frostline("report", f"run={tmp_path}", f"table={form}")
    assert result.status == 0, result.err
    assert result.out.startswith(start) and "Page:" not in result.out
    assert (tmp_path / "report.html").is_file()


def test_another_form_of_a_table_is_refused(frostline, tmp_path):
    write_run(tmp_path / "0")
    result = frostline("report", f"run={tmp_path}", "table=word")
    assert result.status == 1
    assert "table is 'word'" in result.err


def test_tables_figures_and_the_page_go_to_weights_and_biases_as_one_run_of_the_sweep(frostline, tmp_path):
    sweep = tmp_path / "sweep"
    for job, strategy in enumerate(("frozen", "full")):
        write_run(sweep / str(job), strategy, lr=None if strategy == "frozen" else 1e-4)
        log_to_wandb(sweep / str(job))
    assert frostline("report", f"run={sweep}", env={"WANDB_MODE": "offline"}).status == 0
    assert frostline("report", f"run={sweep}", env={"WANDB_MODE": "offline"}).status == 0
    runs = list((sweep / "wandb").glob("offline-run-*"))
    assert len({run.name.split("-", 4)[-1] for run in runs}) == 1  # made anew, it is the same W&B run
    media = runs[0] / "files" / "media"
    tables = {path.name.split("_")[0]: json.loads(path.read_text()) for path in media.glob("table/**/*.json")}
    assert {"comparison", "differences", "calibration", "sentences"} <= tables.keys()
    accuracies = [row[tables["comparison"]["columns"].index("accuracy")] for row in tables["comparison"]["data"]]
    written = [json.loads((sweep / str(job) / "metrics.json").read_text())["test/accuracy"] for job in (0, 1)]
    assert accuracies == pytest.approx(written)
    assert {path.name.split("_")[0] for path in media.glob("images/**/*.png")} >= {"accuracy", "confusions", "reliability"}


def test_a_sweep_that_did_not_log_there_does_not_start_to(frostline, tmp_path):
    write_run(tmp_path / "0")
    assert frostline("report", f"run={tmp_path}", env={"WANDB_MODE": "offline"}).status == 0
    assert not (tmp_path / "wandb").exists()


def test_a_server_that_cannot_be_reached_costs_no_page(tmp_path):
    write_run(tmp_path / "0")
    log_to_wandb(tmp_path / "0")
    nowhere = {
        "WANDB_MODE": "online",
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "WANDB_API_KEY": "0" * 40,
        "WANDB_INIT_TIMEOUT": "1",
    }
    words = [sys.executable, "-m", "frostline", "report", f"run={tmp_path}"]
    result = subprocess.run(words, env=os.environ | nowhere, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stderr
    assert "not logged to Weights & Biases" in result.stderr and "Traceback" not in result.stderr
    assert (tmp_path / "report.html").is_file()
