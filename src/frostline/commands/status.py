"""``frostline status``: how far a sweep is, while it runs and afterwards."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from frostline.runs.directory import CONFIG, DONE
from frostline.runs.jobs import jobs_in, state_of

COLOURS = {"finished": "green", "running": "cyan", "failed": "red", "diverged": "red", "damaged": "red"}


def status(sweep_dir: Path) -> int:
    """Print the state of every job of a sweep, or of a single run.

    Args:
        sweep_dir: its directory.

    Returns:
        The exit status: 0 if all jobs have finished, or were pruned, else 1.

    Raises:
        FrostlineError: it is no sweep's and no run's directory.
    """
    jobs = jobs_in(sweep_dir)
    states = [state_of(job) for job in jobs]
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("job", "state", "progress", "time", "what"):
        table.add_column(title, justify="right" if title in ("job", "time") else "left")
    for job, (state, manifest) in zip(jobs, states, strict=True):
        told = progress(job.folder) if state in ("running", "killed", "interrupted") else str(manifest.get("error") or "")
        what = " ".join(word for word in job.overrides if word not in shared)
        cells = (str(job.number), Text(state, style=COLOURS.get(state, "yellow")), Text(told), clock(seconds_of(state, manifest)))
        table.add_row(*cells, Text(what))
    console = Console(highlight=False)
    console.width = max(console.width, 110)  # so that a log file gets whole lines
    console.print(table)
    console.print(f"\n{in_words(states)}")
    return int(any(state not in DONE for state, _ in states))


def in_words(states: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Return how many jobs are in which state and, while some run, how long the rest will take if they are like those before."""
    counts = Counter(state for state, _ in states)
    words = f"{counts['finished']} of {len(states)} finished"
    words += "".join(f", {n} {state}" for state, n in counts.items() if state != "finished")
    took = [seconds_of(*of) for of in states if of[0] == "finished"]
    if counts["running"] and took:
        mean = sum(took) / len(took)
        left = sum(max(mean - seconds_of(*of), 0.0) for of in states if of[0] in ("running", "killed", "interrupted", "missing"))
        words += f"; about {clock(left / counts['running'])} left"
    return f"{words}."


def seconds_of(state: str, manifest: dict[str, Any]) -> float:
    """Return how long a job has taken so far, over all processes that it was resumed in."""
    before = float(manifest.get("seconds", manifest.get("seconds_before", 0.0)))
    if state != "running" or "running_since" not in manifest:
        return before
    return before + (datetime.now(UTC) - datetime.fromisoformat(manifest["running_since"])).total_seconds()


def clock(seconds: float) -> str:
    """Return a duration as ``h:mm:ss``, a dash for none."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if seconds else "–"


def progress(run_dir: Path) -> str:
    """Return how many of its epochs an unfinished run has behind it."""
    try:
        with (run_dir / "curves.csv").open(newline="") as file:
            epochs = [int(row["epoch"]) + 1 for row in csv.DictReader(file) if row.get("val/loss")]
        last = yaml.safe_load((run_dir / CONFIG).read_bytes())["trainer"]["max_epochs"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return "no epoch yet"
    return f"epoch {max(epochs)} of {last}" if epochs else "no epoch yet"
