"""``frostline report``: one table and one page from the run directories of a sweep, or from a single run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from frostline.errors import FrostlineError, choices
from frostline.report.page import read_content, write_page
from frostline.report.table import as_latex, as_markdown, print_table
from frostline.report.verdict import write_verdict
from frostline.runs.sweep import write_results
from frostline.runs.wandb import log_report
from frostline.terminal import visible

FORMS = {"markdown": as_markdown, "latex": as_latex}


def report(sweep_dir: Path, table: str = "terminal") -> int:
    """Write ``results.csv``, ``tables/``, ``figures/`` and ``report.html``, log them to W&B, and print the comparison.

    Args:
        sweep_dir: a sweep's directory, or that of a single run.
        table: how the comparison is printed: ``terminal``, or alone as ``markdown`` or ``latex``.

    Returns:
        How many jobs did not finish.

    Raises:
        FrostlineError: there is no run in ``sweep_dir``, or no such form of a table.
    """
    if table not in ("terminal", *FORMS):
        raise FrostlineError(f"table is '{table}', but must be {choices(['terminal', *FORMS])}.")
    if not sweep_dir.is_dir():
        raise FrostlineError(f"There is no directory '{sweep_dir}'.")
    results = write_results(sweep_dir)
    if results.empty:
        raise FrostlineError(f"'{sweep_dir}' holds no runs.")
    content = read_content(sweep_dir, results)
    console = Console(quiet=table in FORMS)
    console.width = max(console.width, 110)  # so that a log file gets whole lines
    print_table(content.arms, content.unfinished, console, content.pruned)
    if content.arms:
        console.print(Text(visible("\n".join(content.words["answer"]))))
    for name, words in content.words["layers"]:
        console.print(Text(visible(f"Layers of {name}: {words}")))
    if content.verdict:
        write_verdict(sweep_dir, content.verdict)
        console.print(Text(visible(f"\n{content.verdict.in_words()}")))
    page = write_page(sweep_dir, content)
    log_report(sweep_dir, page, content.files, content.figures)
    if table in FORMS:
        print(FORMS[table](content.arms))
    console.print(Text(visible(f"\nTable:  {sweep_dir / 'results.csv'}\nPage:   {page}")), soft_wrap=True)
    return content.unfinished
