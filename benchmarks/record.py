"""What is kept of a benchmark run: a table in docs/, the numbers behind it, and how they compare with the last ones."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from harness import Measured
from rows import Row

ROOT = Path(__file__).parents[1]
TABLE, REFERENCE = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.json"
MARK = "<!-- All below is written by make bench. -->\n"
CHANGED = 0.1  # of a ratio: more than this is marked
PACKAGES = ("torch", "transformers", "accelerate", "lightning", "sentence-transformers", "datasets")
HEADERS = ("case", "peer", "Frostline", "ratio (lowest … highest)", "repeats, peer / Frostline")

Cases = dict[str, dict[str, Any]]


def case(module: ModuleType, rows: list[Row], measured: Measured) -> dict[str, Any]:
    """Return what is kept of one case."""
    return {
        "title": module.TITLE,
        "timed": module.__doc__,
        "rows": [asdict(row) for row in rows],
        "measured": measured.results,
        "errors": measured.errors,
        "surroundings": surroundings(),
    }


def surroundings() -> dict[str, Any]:
    """Return date, machine, code and packages."""
    return {
        "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "code": code(),
        "versions": ", ".join(f"{name} {of(name)}" for name in PACKAGES) + f", Python {platform.python_version()}",
    }


def of(package: str) -> str:
    """Return the installed version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def code() -> str:
    """Return the git commit, and whether files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    return f"commit {git('rev-parse', '--short', 'HEAD')}" + (" with changes" if git("status", "--porcelain", "-uno") else "")


def read() -> Cases:
    """Return the last reference."""
    return json.loads(REFERENCE.read_text(encoding="utf-8")) if REFERENCE.is_file() else {}


def write_raw(found: Cases, started: datetime) -> None:
    """Write every single measurement into benchmarks/results/, which is not in git."""
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    name = started.strftime("%Y-%m-%d-%H-%M-%S.json")
    (folder / name).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write(found: Cases, reference: Cases, command: str) -> None:
    """Write table and reference; cases that were not run stay as they were."""
    cases = {**reference, **{name: c | {"command": command} for name, c in found.items()}}
    REFERENCE.parent.mkdir(exist_ok=True)
    REFERENCE.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = TABLE.read_text(encoding="utf-8") if TABLE.is_file() else ""
    TABLE.write_text(text.partition(MARK)[0] + MARK + markdown(cases), encoding="utf-8")


def then(name: str, row: dict[str, Any], reference: Cases) -> float | None:
    """Return a row's ratio in the reference."""
    rows = reference.get(name, {}).get("rows", [])
    return next((old["ratio"] for old in rows if old["key"] == row["key"]), None)


def ratio(row: dict[str, Any]) -> str:
    """Write a ratio with its spread."""
    if row["ratio"] is None:
        return "–"
    return f"{row['ratio']:.3g} ({row['low']:.3g} … {row['high']:.3g})"


def show(found: Cases, reference: Cases, console: Console) -> None:
    """Print the table, beside each ratio the one of the reference; what changed by more than 10 % is marked."""
    table = Table(title="Frostline beside its peers; a ratio above 1 is in Frostline's favour", show_lines=True)
    for header in (*HEADERS, "then"):
        table.add_column(header)
    for name, kept in found.items():
        for row in kept["rows"]:
            before = then(name, row, reference)
            words = "–" if before is None else f"{before:.3g}"
            if before and row["ratio"] and abs(row["ratio"] / before - 1) > CHANGED:
                words = f"[bold {'green' if row['ratio'] > before else 'red'}]{words} !"
            table.add_row(kept["title"], row["peer"], row["own"], ratio(row), row["repeats"], words)
    console.print(table)


def markdown(cases: Cases) -> str:
    """Return the table as Markdown, with the command, the machine, the versions and what each case times."""
    lines = ["", "## The table", "", "A ratio above 1 is in Frostline's favour.", ""]
    lines += [f"| {' | '.join(HEADERS)} |", "| --- | --- | --- | --- | --- |"]
    for kept in cases.values():
        for row in kept["rows"]:
            lines.append(f"| {kept['title']} | {row['peer']} | {row['own']} | {ratio(row)} | {row['repeats']} |")
    lines += ["", "### How it was measured", ""]
    for around, titles in grouped(cases).items():
        lines += [f"- {titles}: {around}"]
    lines += ["", "### What is timed", ""]
    for kept in cases.values():
        lines += [f"- **{kept['title']}**: {' '.join(kept['timed'].split())}"]
    return "\n".join([*lines, ""])


def grouped(cases: Cases) -> dict[str, str]:
    """Return the cases' titles by command, date, machine and versions."""
    groups: dict[str, list[str]] = {}
    for kept in cases.values():
        around = kept["surroundings"]
        words = f"`{kept['command']}`, {around['date'][:10]}, {around['machine']}, {around['code']}, {around['versions']}"
        groups.setdefault(words, []).append(kept["title"])
    return {words: ("everything" if len(groups) == 1 else ", ".join(titles)) for words, titles in groups.items()}
