"""The jobs of a sweep: which there are, where each is, and what has become of it. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from frostline.errors import FrostlineError
from frostline.runs.directory import DONE, MANIFEST, is_at_work
from frostline.runs.files import write_json
from frostline.runs.reading import read_json, read_manifest

JOBS, SWEEP = "jobs.json", "sweep.yaml"


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: from 0.
        folder: its run directory, which need not exist yet.
        overrides: what it overrides, as on the command line.
        identity: of its run; None where the sweep did not record it.
    """

    number: int
    folder: Path
    overrides: list[str]
    identity: str | None = None


def record_jobs(sweep_dir: Path, jobs: Sequence[Job], command: Sequence[str]) -> None:
    """Write a sweep's ``jobs.json``: all its jobs by their number, before the first one starts.

    Args:
        sweep_dir: the sweep's directory.
        jobs: in the order of their numbers.
        command: the words after ``frostline train`` that make this sweep.

    Raises:
        FrostlineError: other jobs were recorded there before. More of them, after all that were, are welcome.
    """
    for before in read_jobs(sweep_dir):
        now = jobs[before.number].identity if before.number < len(jobs) else "none"
        if before.identity not in (None, now):
            raise FrostlineError(
                f"'{sweep_dir}' holds other jobs than this command makes: its job {before.number} is "
                f"{' '.join(before.overrides)}; go on with resume='{sweep_dir}' and nothing else, or choose another directory."
            )
    recorded = [
        {"run": job.folder.relative_to(sweep_dir).as_posix(), "identity": job.identity, "overrides": job.overrides}
        for job in jobs
    ]
    write_json(sweep_dir / JOBS, {"command": list(command), "jobs": recorded})


def read_jobs(sweep_dir: Path) -> list[Job]:
    """Return the jobs of a sweep, recorded or started, in the order of their numbers; of a single run, that one.

    Raises:
        FrostlineError: ``jobs.json`` is damaged.
    """
    path = sweep_dir / JOBS
    try:
        recorded = [
            Job(number, sweep_dir / _inside(job["run"]), [str(word) for word in job["overrides"]], job["identity"])
            for number, job in enumerate(read_json(path).get("jobs", []))
        ]
    except (TypeError, KeyError):
        raise FrostlineError(f"'{path}' is damaged: it does not hold the jobs of a sweep.") from None
    known = {job.folder for job in recorded}
    numbered = sorted(
        (int(folder.name), folder)
        for folder in (sweep_dir.iterdir() if sweep_dir.is_dir() else [])
        if folder.name.isdecimal() and folder not in known and has_begun(folder)
    )
    jobs = recorded + [Job(number, folder, read_overrides(folder)) for number, folder in numbered]
    return jobs or ([Job(0, sweep_dir, read_overrides(sweep_dir))] if has_begun(sweep_dir) else [])


def jobs_in(sweep_dir: Path) -> list[Job]:
    """Return the jobs of a sweep (:func:`read_jobs`), of which there is at least one.

    Raises:
        FrostlineError: ``sweep_dir`` is neither a sweep's nor a run's directory.
    """
    if not sweep_dir.is_dir():
        raise FrostlineError(f"There is no directory {sweep_dir}.")
    jobs = read_jobs(sweep_dir)
    if not jobs:
        raise FrostlineError(f"{sweep_dir} holds neither job folders (0, 1, …) nor a run (manifest.json or .hydra).")
    return jobs


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """Return those of some jobs that are still to be run, or to be run again.

    Raises:
        FrostlineError: a manifest is damaged.
    """
    return [job for job in jobs if read_manifest(job.folder).get("status") not in DONE]


def job_folders(sweep_dir: Path) -> list[tuple[int, Path]]:
    """Return (job number, run directory) of every job that started, in the order of their numbers.

    Raises:
        FrostlineError: as :func:`jobs_in`; none has started.
    """
    begun = [(job.number, job.folder) for job in jobs_in(sweep_dir) if has_begun(job.folder)]
    if not begun:
        raise FrostlineError(f"No job of '{sweep_dir}' has started yet.")
    return begun


def has_begun(folder: Path) -> bool:
    """Whether a run was started in a directory."""
    return (folder / MANIFEST).is_file() or (folder / ".hydra").is_dir()


def read_overrides(run_dir: Path) -> list[str]:
    """Return what a run overrode, from Hydra's snapshot; nothing where there is none.

    Raises:
        FrostlineError: the file is damaged.
    """
    path = run_dir / ".hydra" / "overrides.yaml"
    try:
        words = yaml.safe_load(path.read_bytes()) if path.is_file() else []
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise FrostlineError(f"'{path}' is damaged: {' '.join(str(error).split())}.") from None
    if words is not None and not isinstance(words, list):
        raise FrostlineError(f"'{path}' is damaged: it does not hold a list.")
    return [str(word) for word in words or []]


def _inside(run: str) -> Path:
    path = Path(run)
    if path.is_absolute() or ".." in path.parts:
        raise TypeError(f"'{run}' is no folder of the sweep")
    return path


def state_of(job: Job) -> tuple[str, dict[str, Any]]:
    """Return what has become of a job, and its manifest.

    The state is the manifest's status (``finished``, ``running``, ``failed``, ``diverged``, ``interrupted``), ``missing`` if the
    job never wrote one, ``killed`` if it says running and no process is at work there, ``damaged`` if it cannot be read.
    """
    try:
        manifest = read_manifest(job.folder)
    except FrostlineError:
        return "damaged", {}
    state = manifest.get("status", "missing")
    return ("killed" if state == "running" and not is_at_work(job.folder) else state), manifest
