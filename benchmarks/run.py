"""Frostline beside what a user would pick instead: one table.

make bench                                              everything, about an hour on 2 cores
python benchmarks/run.py full partial --repeats 5       some cases, every measurement five times
python benchmarks/run.py --quick                        does everything run? Small sizes, no number means anything
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from dataclasses import replace
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import record
from harness import Bench, JobError
from settings import Settings, quick

CASES = ("full", "memory", "partial", "probe", "many", "features")
CASES += ("sweep", "gemm", "start", "scaling", "overhead", "measures", "page", "plan")


def main() -> int:
    """Run the chosen cases, print the table, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--repeats", type=int, help="of every measurement (each has its own number by default)")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat; nothing in docs/ is written")
    parser.add_argument("--write", action="store_true", help="write chosen cases into docs/, too")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.cases) - set(CASES)):
        parser.error(f"unknown: {', '.join(unknown)}; choose of {', '.join(CASES)}")
    settings = quick() if chosen.quick else Settings()
    settings = replace(settings, repeats=chosen.repeats or settings.repeats)
    names = [name for name in CASES if not chosen.cases or name in chosen.cases]

    console = Console(stderr=True)
    if (load := os.getloadavg()[0]) > 0.5:
        console.print(f"[yellow]Other processes are busy (load {load:.1f}); times and ratios will suffer.")
    found = measure(settings, names, console)
    reference = record.read()
    record.show(found, {} if chosen.quick else reference, Console(width=None if sys.stdout.isatty() else 180))
    if found and not chosen.quick and (chosen.write or not chosen.cases):
        record.write(found, reference, command="make bench" if not chosen.cases else " ".join(["python", *sys.argv]))
        console.print(f"Written: {record.TABLE.relative_to(record.ROOT)} and {record.REFERENCE.relative_to(record.ROOT)}")
    return int(any(case["errors"] for case in found.values()))


def measure(settings: Settings, names: list[str], console: Console) -> dict[str, dict[str, Any]]:
    """Run the cases one after another; return per case its rows, and everything that was measured."""
    modules = {name: importlib.import_module(f"cases.{name}") for name in names}
    found: dict[str, dict[str, Any]] = {}
    started = datetime.now()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: end what runs, remove the temporary folder
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")

        def tell(line: str, seconds: float) -> None:
            console.print(f"  {line}", highlight=False)
            progress.advance(task, seconds)

        bench = Bench(settings, tell)
        jobs = {job.key: job.seconds * bench.repeats(job) for module in modules.values() for job in module.jobs(settings)}
        progress.update(task, total=sum(jobs.values()))
        if not settings.small:
            console.print(f"About {sum(jobs.values()) / 60:.0f} minutes on 2 cores.")
        try:
            console.print(f"{bench.prepare()}.")
            for name, module in modules.items():
                progress.update(task, description=module.TITLE)
                console.print(f"[bold]{module.TITLE}")
                measured = bench.measure(module.jobs(settings))
                found[name] = record.case(module, module.rows(settings, measured), measured)
                record.write_raw(found, started)
        except KeyboardInterrupt:
            console.print("Interrupted: the table has the cases so far.")
        except JobError as error:
            console.print(f"The sentences could not be written: {error}")
        finally:
            bench.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
