"""What a sweep says of its jobs: recorded before the first one starts, read while one runs, is killed, or never starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock

from frostline.errors import FrostlineError
from frostline.runs.jobs import Job, job_folders, jobs_in, read_jobs, record_jobs, state_of, unfinished
from frostline.runs.sweep import collect


def jobs(sweep: Path, *identities: str) -> list[Job]:
    return [Job(i, sweep / str(i), ["strategy=full", f"seed={i}"], name) for i, name in enumerate(identities)]


def has_status(folder: Path, status: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"status": status, "error": None}))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Of four jobs one is finished, one is held by a process, one was killed, and one never started."""
    record_jobs(tmp_path, jobs(tmp_path, "a", "b", "c", "d"), ["-m", "strategy=full", "seed=0,1,2,3"])
    has_status(tmp_path / "0", "finished")
    has_status(tmp_path / "1", "running")
    has_status(tmp_path / "2", "running")
    return tmp_path


def test_what_is_recorded_is_read_back(sweep: Path) -> None:
    assert read_jobs(sweep) == jobs(sweep, "a", "b", "c", "d")
    assert json.loads((sweep / "jobs.json").read_text())["command"] == ["-m", "strategy=full", "seed=0,1,2,3"]
    assert [job.number for job in unfinished(read_jobs(sweep))] == [1, 2, 3]
    assert job_folders(sweep) == [(number, sweep / str(number)) for number in (0, 1, 2)], "what has started"


def test_a_job_is_killed_if_it_says_running_and_no_process_holds_it(sweep: Path) -> None:
    (sweep / "2" / ".lock").touch()  # a dead process leaves the file, not the lock
    with FileLock(sweep / "1" / ".lock"):
        assert [state_of(job)[0] for job in read_jobs(sweep)] == ["finished", "running", "killed", "missing"]
    (sweep / "0" / "manifest.json").write_text('{"status"')
    assert state_of(read_jobs(sweep)[0]) == ("damaged", {})


def test_a_job_that_never_started_has_its_row(sweep: Path) -> None:
    table = collect(sweep)
    assert list(table["status"]) == ["finished", "running", "running", "missing"]
    assert list(table["seed"])[3] == 3 and list(table["strategy"])[3] == "full"
    assert list(table["run"]) == ["0", "1", "2", "3"]


def test_other_jobs_are_refused_and_more_of_them_are_not(sweep: Path) -> None:
    before = (sweep / "jobs.json").read_bytes()
    for others in (["a", "b", "c", "x"], ["a", "b", "c"], ["b", "a", "c", "d"]):
        with pytest.raises(FrostlineError, match=r"holds other jobs .* its job \d is strategy=full seed=\d; go on with resume='"):
            record_jobs(sweep, jobs(sweep, *others), [])
        assert (sweep / "jobs.json").read_bytes() == before
    record_jobs(sweep, jobs(sweep, "a", "b", "c", "d", "e"), [])
    assert len(read_jobs(sweep)) == 5


def test_a_sweep_of_an_earlier_version_has_the_jobs_that_started(sweep: Path) -> None:
    (sweep / "jobs.json").unlink()
    assert [job.number for job in read_jobs(sweep)] == [0, 1, 2]
    record_jobs(sweep, jobs(sweep, "x", "y"), [])
    assert [(job.number, job.identity) for job in read_jobs(sweep)] == [(0, "x"), (1, "y"), (2, None)]


def test_directories_without_jobs_are_told(tmp_path: Path) -> None:
    with pytest.raises(FrostlineError, match="no directory"):
        jobs_in(tmp_path / "nowhere")
    with pytest.raises(FrostlineError, match="neither job folders"):
        jobs_in(tmp_path)
    record_jobs(tmp_path, jobs(tmp_path, "a"), [])
    with pytest.raises(FrostlineError, match=r"No job of .* has started yet"):
        job_folders(tmp_path)


OUTSIDE = '{"jobs": [{"run": "../0", "overrides": [], "identity": null}]}'


@pytest.mark.parametrize("text", ["{", "[]", '{"jobs": [1]}', '{"jobs": [{"run": "0"}]}', '{"jobs": 3}', OUTSIDE])
def test_a_damaged_list_of_jobs_is_named(sweep: Path, text: str) -> None:
    (sweep / "jobs.json").write_text(text)
    with pytest.raises(FrostlineError, match=r"jobs\.json' is damaged"):
        read_jobs(sweep)
