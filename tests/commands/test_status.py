"""``frostline status`` tells what has become of every job, and when the rest will be done."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from frostline.runs.jobs import Job, record_jobs
from tests.conftest import Frostline

STATES = ["finished", "running", "running", "failed", "diverged", "interrupted", None]


def manifest(status: str) -> dict[str, Any]:
    since = datetime.now(UTC) - timedelta(seconds=100)
    told: dict[str, Any] = {"status": status, "error": None, "seconds_before": 0.0, "running_since": since.isoformat()}
    if status == "running":
        return told
    return told | {"seconds": 400.0, "error": {"failed": "The disk is full."}.get(status)}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    record_jobs(folder, [Job(i, folder / str(i), ["strategy=full", f"seed={i}"], f"{i}") for i in range(len(STATES))], [])
    for number, status in enumerate(STATES):
        if status is not None:
            (folder / str(number)).mkdir()
            (folder / str(number) / "manifest.json").write_text(json.dumps(manifest(status)))
    (folder / "1/config.yaml").write_text("trainer: {max_epochs: 5}")
    (folder / "1/curves.csv").write_text("step,epoch,val/loss\n0,0,\n4,0,0.7\n9,1,0.6\n12,2,\n")
    return folder


def test_every_job_has_its_state_and_the_running_one_its_progress(frostline: Frostline, sweep: Path) -> None:
    before = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    with FileLock(sweep / "1/.lock"):
        result = frostline("status", f"run={sweep}")
    assert result.status == 1 and result.err == ""
    rows = [line.split() for line in result.out.splitlines()[1:8]]
    assert [row[1] for row in rows] == ["finished", "running", "killed", "failed", "diverged", "interrupted", "missing"]
    assert [row[-1] for row in rows] == [f"seed={i}" for i in range(7)], "what they share is left out"
    assert "epoch 2 of 5" in result.out and "The disk is full." in result.out
    # 400 s each, like the finished job: 300 s are left of the running one, none of the interrupted one, all of two others.
    assert "1 of 7 finished, 1 running, 1 killed, 1 failed, 1 diverged, 1 interrupted, 1 missing; about 0:18:" in result.out
    (sweep / "1/.lock").unlink()
    assert {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()} == before, "looking changes nothing"


def test_a_finished_sweep_and_a_finished_run_say_so(frostline: Frostline, sweep: Path) -> None:
    for number in range(len(STATES)):
        (sweep / str(number)).mkdir(exist_ok=True)
        (sweep / str(number) / "manifest.json").write_text(json.dumps(manifest("finished")))
    for directory, jobs in ((sweep, 7), (sweep / "3", 1)):
        result = frostline("status", f"run={directory}")
        assert result.status == 0 and f"{jobs} of {jobs} finished." in result.out


def test_it_starts_without_anything_heavy(sweep: Path) -> None:
    code = (
        f"import sys; from frostline.__main__ import main; main(['status', 'run={sweep}']);"
        "print({'torch', 'transformers', 'lightning', 'wandb', 'pandas'} & {name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
