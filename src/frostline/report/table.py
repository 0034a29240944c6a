"""The comparison of arms as a table of text, in the terminal and on the page."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from frostline.report.arms import Arm, distinctions, names
from frostline.terminal import visible


def cells(arms: Sequence[Arm]) -> tuple[list[str], list[list[str]]]:
    """Return the comparison as text: the column titles, and a row of cells an arm (accuracies in %, time in s)."""
    told = distinctions(arms)
    titles = ["strategy", *told, "frozen depth", "learning rate", "test accuracy, % (95 % CI)"]
    titles += ["seeds", "trained", "time, s"]
    rows = [
        [
            arm.strategy if arm.layer is None else f"{arm.strategy}, layer {arm.layer}",
            *(values[i] for values in told.values()),
            f"{arm.depth} of {arm.blocks}",
            "–" if arm.lr is None else scientific(arm.lr),
            "–" if arm.test is None else "{} ({}\u00a0–\u00a0{})".format(*map(percent, arm.test)),
            str(len(arm.seeds)),
            compact(arm.trained_parameters),
            f"{arm.fit_seconds:.{0 if arm.fit_seconds >= 10 else 1}f}",
        ]
        for i, arm in enumerate(arms)
    ]
    return titles, rows


def notes(arms: Sequence[Arm], failures: int, pruned: int = 0) -> list[str]:
    """Return what a reader must know to read the table, a sentence a note.

    Args:
        arms: of the table.
        failures: how many jobs did not finish.
        pruned: how many jobs a search gave up.
    """
    said = []
    if any(len(arm.lrs_tried) > 1 for arm in arms):
        said.append("Learning rates were chosen by mean validation accuracy over seeds; test took no part.")
    scored = [arm for arm in arms if arm.test]
    if scored:
        sizes = " or ".join(f"{n:,}" for n in sorted({arm.n_test for arm in scored}))
        said.append(f"Intervals are bootstrapped over seeds and {sizes} test sentences; time is a run's mean fit time.")
    if any(len(arm.seeds) == 1 for arm in scored):
        said.append("With one seed, an interval covers the choice of test sentences only.")
    elif any(len(arm.seeds) < 5 for arm in scored):
        said.append("With fewer than 5 seeds, intervals understate how much seeds vary.")
    differ = [name for name, arm in zip(names(arms), arms, strict=True) if not arm.same_test_set]
    if differ:
        said.append(f"Test sentences differ between seeds, so intervals resample seeds only: {'; '.join(differ)}.")
    rounded = [name for name, arm in zip(names(arms), arms, strict=True) if arm.reads_fp16]
    if rounded:
        said.append(f"States of frozen blocks were cached in fp16, that is to 3 digits: {'; '.join(rounded)}.")
    if len(scored) < len(arms):
        said.append("A dash under test accuracy: no test predictions were written for all seeds of that arm.")
    if failures:
        jobs = "1 job did not finish and is" if failures == 1 else f"{failures} jobs did not finish and are"
        said.append(f"{jobs} left out.")
    if pruned:
        jobs = "1 job that the search gave up is" if pruned == 1 else f"{pruned} jobs that the search gave up are"
        said.append(f"{jobs} left out.")
    return said


def print_table(arms: Sequence[Arm], failures: int, console: Console, pruned: int = 0) -> None:
    """Print the comparison of arms (cells as in :func:`cells`) and its notes, whose arguments the others are."""
    if arms:
        titles, rows = cells(arms)
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in titles:
            is_text = title == "strategy" or title in distinctions(arms)
            table.add_column(Text(visible(title)), justify="left" if is_text else "right")
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in row))  # Text: brackets in a name are not markup
        console.print(table)
    else:
        console.print("No run has finished yet.")
    for note in notes(arms, failures, pruned):
        console.print(Text(visible(note), style="dim"))


def as_markdown(arms: Sequence[Arm]) -> str:
    """Return the comparison of arms as a Markdown table."""
    titles, rows = cells(arms)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(markdown_cell, line))} |" for line in lines)


def markdown_cell(text: str) -> str:
    """Return a text as a cell of a Markdown table: on one line, and nothing in it is markup."""
    return re.sub(r"([\\|<>`*\[\]])", r"\\\1", " ".join(visible(text).splitlines()))


def as_latex(arms: Sequence[Arm]) -> str:
    """Return the comparison of arms as a LaTeX table (package booktabs)."""
    titles, rows = cells(arms)
    table = pd.DataFrame(rows, columns=titles).map(lambda cell: " ".join(visible(cell).replace("\u00a0", " ").splitlines()))
    return table.to_latex(index=False, escape=True, column_format="l" + "r" * (len(titles) - 1)).strip()


def scientific(rate: float) -> str:
    """Return a learning rate as people write it: ``1e-4``, ``2.5e-5``."""
    return np.format_float_scientific(rate, precision=3, trim="-", exp_digits=1)


def compact(count: int) -> str:
    """Return a number of parameters in short: ``770``, ``385k``, ``22.7M``."""
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return f"{count:,}" if count < 10_000 else f"{count / 1e3:.0f}k"


def percent(share: float) -> str:
    """Return a share in per cent, to one decimal."""
    return f"{100 * share:.1f}"
