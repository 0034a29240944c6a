"""``frostline compare``: two finished runs side by side, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from frostline.errors import FrostlineError
from frostline.measures.comparisons import mcnemar, min_detectable_difference, paired_bootstrap_p
from frostline.measures.statistics import paired_difference
from frostline.report.arms import Arm, names, summarise
from frostline.report.scored import Scored, on_the_same_sentences, read_scored
from frostline.report.table import percent, print_table
from frostline.runs.sweep import collect
from frostline.terminal import visible


def compare(runs: Sequence[Path], sentences: int) -> int:
    """Print what two runs score on the same test sentences, how sure the difference is, and where they part.

    The two are compared as they are: another seed of either may come out otherwise (methods notes, 9.1).

    Args:
        runs: two run directories.
        sentences: how many sentences that one run alone gets right are shown, of either.

    Returns:
        0.

    Raises:
        FrostlineError: there are not two runs, one has not finished, or they were not scored on the same test sentences.
    """
    if len(runs) != 2 or sentences < 0:
        raise FrostlineError("Give two runs, frostline compare run=<run directory> run=<another>, and sentences of at least 0.")
    arms = [_arm(run, label) for run, label in zip(runs, _labels(runs), strict=True)]
    scored = [next(iter(read_scored(run, [arm], "test").values()), None) for run, arm in zip(runs, arms, strict=True)]
    console = Console()
    console.width = max(console.width, 110)
    print_table(arms, 0, console)
    first, second = scored
    if first is None or second is None or len(on_the_same_sentences({"first": first, "second": second}, "first")) < 2:
        raise FrostlineError("The two runs were not scored on the same test sentences, so nothing more can be compared.")
    for line in in_words(first, second, names(arms)):
        console.print(Text(visible(line)))
    for words, right, wrong in (("fixes", second, first), ("breaks", first, second)):
        for line in parted(right, wrong, sentences):
            console.print(Text(visible(f"  {words}  {line}")))
    return 0


def in_words(first: Scored, second: Scored, told: Sequence[str]) -> list[str]:
    """Return by how much the second run differs from the first, how sure that is, and how often the two disagree."""
    a, b = first.correct[0], second.correct[0]
    points, low, high = (f"{100 * x:+.1f}" for x in paired_difference(b[None], a[None]))
    alone = mcnemar(b, a)
    disagree = float((first.predictions[0] != second.predictions[0]).mean())
    least = 100 * min_detectable_difference(float((a != b).mean()), len(a))
    return [
        f"{told[1]} minus {told[0]}: {points} points (95 % interval over {len(a):,} test sentences {low} to {high}; paired "
        f"bootstrap p {paired_bootstrap_p(b[None], a[None]):.3g}, McNemar's exact p {alone.p:.3g}). Of so many sentences, "
        f"{least:.1f} points is the least that shows. These are two models, not two methods: another seed may come out "
        "otherwise.",
        f"They predict differently for {percent(disagree)} % of the sentences: the second fixes {alone.only_a:,} and breaks "
        f"{alone.only_b:,}.",
    ]


def parted(right: Scored, wrong: Scored, most: int) -> list[str]:
    """Return the sentences that one run alone gets right, those first of which the other was most sure of the wrong class."""
    rows = np.flatnonzero(right.correct[0] & ~wrong.correct[0])
    sure = wrong.probabilities[0].max(axis=1)
    names_of, texts = wrong.classes, wrong.texts
    return [
        f"{names_of[wrong.labels[i]]}, not {names_of[wrong.predictions[0][i]]} ({percent(sure[i])} %): {texts[i]}"
        for i in rows[np.argsort(-sure[rows], kind="stable")][:most]
    ]


def _arm(run: Path, label: str) -> Arm:
    """The one arm of a run's directory."""
    arms = summarise(run, collect(run))
    if len(arms) != 1 or arms[0].runs != (".",):
        raise FrostlineError(f"'{run}' is not the directory of one finished run; frostline report compares the runs of a sweep.")
    return replace(arms[0], settings={"run": label})


def _labels(runs: Sequence[Path]) -> list[str]:
    """The shortest ends of the two paths that tell them apart."""
    parts = [run.resolve().parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(of[-length:]) for of in parts]
        if len(set(ends)) == len(ends):
            return ends
    raise FrostlineError(f"'{runs[0]}' and '{runs[1]}' are the same run.")
