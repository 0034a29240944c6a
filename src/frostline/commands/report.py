"""``frostline report``: one table and one page from the run directories of a sweep, or from a single run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from frostline.errors import FrostlineError
from frostline.report.answer import best_and_by_how_much
from frostline.report.arms import summarise
from frostline.report.figures import accuracy_by_depth, save
from frostline.report.measures import measured_figures
from frostline.report.page import layers_told, write_page
from frostline.report.table import print_table
from frostline.report.verdict import judge, write_verdict
from frostline.runs.sweep import write_results


def report(sweep_dir: Path) -> int:
    """Write ``results.csv``, the figure and ``report.html``, and print the table.

    Returns:
        How many jobs did not finish.

    Raises:
        FrostlineError: there is no run in ``sweep_dir``.
    """
    if not sweep_dir.is_dir():
        raise FrostlineError(f"There is no directory '{sweep_dir}'.")
    results = write_results(sweep_dir)
    if results.empty:
        raise FrostlineError(f"'{sweep_dir}' holds no runs.")
    unfinished = int((results["status"] != "finished").sum())
    arms = summarise(sweep_dir, results)
    console = Console()
    console.width = max(console.width, 110)  # so that a log file gets whole lines
    print_table(arms, unfinished, console)
    if arms:
        console.print(best_and_by_how_much(arms))
        save(accuracy_by_depth(arms), sweep_dir / "figures" / "accuracy_by_depth")
    for name, figure in measured_figures(sweep_dir, arms).items():
        save(figure, sweep_dir / "figures" / name)
    for name, words in layers_told(sweep_dir, arms):
        console.print(f"Layers of {name}: {words}", highlight=False)
    if verdict := judge(sweep_dir, arms):
        write_verdict(sweep_dir, verdict)
        console.print(f"\n{verdict.in_words()}", highlight=False)
    page = write_page(sweep_dir)
    console.print(f"\nTable:  {sweep_dir / 'results.csv'}\nPage:   {page}", soft_wrap=True, highlight=False)
    return unfinished
