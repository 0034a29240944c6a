"""On which sentences the arms of a sweep go wrong: confusions, what one fixes and another breaks, and how much is mere chance."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from frostline.measures.disagreement import churn, cohen_kappa, error_overlap, excess_churn, seed_churn
from frostline.measures.statistics import Interval
from frostline.report.figures import FAINT, inked
from frostline.report.scored import Scored

RESAMPLES = 1000
MAX_PANELS = 6  # confusion matrices side by side: the first, the last and those evenly between them
MAX_CLASSES = 12  # with more, the cells have no numbers
MAX_SENTENCES = 5000  # the page's table of sentences; sentences.csv has them all


def confusion_figure(scored: dict[str, Scored]) -> Figure:
    """Draw each arm's confusion matrix, mean over seeds: which share (%) of a true class is taken for which.

    Args:
        scored: test predictions by the arm's name, of the same classes.
    """
    chosen = list(scored)
    if len(chosen) > MAX_PANELS:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, MAX_PANELS).round().astype(int)]
    classes = scored[chosen[0]].classes
    side = min(1.1 + 0.55 * len(classes), 5.0)
    across = min(len(chosen), 3)
    down = -(-len(chosen) // across)
    with inked():
        figure = Figure(figsize=(0.8 + (side + 0.4) * across, (side + 0.5) * down), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(down, across, squeeze=False).flat
        for axes, name in itertools.zip_longest(panels, chosen):
            axes.set_axis_off()
            if name is None:
                continue
            axes.set_axis_on()
            shares = confusion(scored[name])
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            if len(classes) <= MAX_CLASSES:
                for (true, taken), share in np.ndenumerate(shares):
                    ink = "#ffffff" if share > 0.55 else "#111111"
                    axes.text(taken, true, f"{100 * share:.0f}", ha="center", va="center", fontsize=9, color=ink)
            axes.set_xticks(range(len(classes)), classes, rotation=35 if len(classes) > 2 else 0, fontsize=8)
            axes.set_yticks(range(len(classes)), classes, fontsize=8)
            axes.tick_params(length=0)
            axes.spines[:].set_color(FAINT)
            axes.set_title(name, fontsize=9)
        figure.supxlabel("taken for", fontsize=9)
        figure.supylabel("true class", fontsize=9)
    return figure


def confusion(scored: Scored) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the share of each true class that is taken for each class, mean over seeds, ``[true, taken]``; rows sum to 1."""
    classes = len(scored.classes)
    counts = np.bincount((classes * scored.labels + scored.predictions).ravel(), minlength=classes**2).reshape(classes, classes)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def sentences(scored: dict[str, Scored], slices: pd.DataFrame) -> pd.DataFrame:
    """Return a row a test sentence: what is known of it, and for every arm which share of its seeds is right, and how sure.

    Args:
        scored: test predictions by the arm's name, of the same sentences.
        slices: bool, a column a slice, rows as the sentences.

    Returns:
        the sentence's own columns; ``slices``, their names joined by ``; ``; per arm ``<arm>: right``, 0 … 1,
        ``<arm>: probability`` of the true class, mean over seeds, and ``<arm>: prediction`` of the mean probabilities.
    """
    first = next(iter(scored.values()))
    names = slices.columns.to_numpy(dtype=object)
    table = first.sentences.assign(slices=["; ".join(names[row]) for row in slices.to_numpy(dtype=bool)])
    columns: dict[str, Any] = {}
    for name, of in scored.items():
        mean = of.probabilities.mean(axis=0)
        columns[f"{name}: right"] = of.correct.mean(axis=0)
        columns[f"{name}: probability"] = mean[np.arange(len(mean)), of.labels]
        columns[f"{name}: prediction"] = [of.classes[i] for i in mean.argmax(axis=1)]
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


def for_script(scored: dict[str, Scored], slices: pd.DataFrame) -> dict[str, Any]:
    """Return the sentences as the page's script wants them: short keys, probabilities in per cent.

    Of more than :data:`MAX_SENTENCES`, those that some arm gets wrong come first.
    """
    first = next(iter(scored.values()))
    right = np.stack([of.correct.mean(axis=0) for of in scored.values()])  # [arms, sentences]
    mean = np.stack([of.probabilities.mean(axis=0) for of in scored.values()])  # [arms, sentences, classes]
    sure = mean[:, np.arange(len(first.labels)), first.labels]
    kept = np.argsort(right.min(axis=0), kind="stable")[:MAX_SENTENCES]
    inside = slices.to_numpy(dtype=bool)
    texts = first.texts
    rows = [
        {
            "t": texts[i],
            "c": int(first.labels[i]),
            "s": np.flatnonzero(inside[i]).tolist(),
            "r": (100 * right[:, i]).round().astype(int).tolist(),
            "p": (100 * sure[:, i]).round().astype(int).tolist(),
            "g": mean[:, i].argmax(axis=1).tolist(),
        }
        for i in np.sort(kept)
    ]
    return {"arms": list(scored), "classes": list(first.classes), "slices": list(slices.columns), "rows": rows, "of": len(texts)}


def disagreement(scored: dict[str, Scored]) -> pd.DataFrame:
    """Return, for every pair of arms, how often they disagree, and how much of that two seeds of one arm do as well.

    Args:
        scored: test predictions by the arm's name, of the same sentences.

    Returns:
        ``first, second``; ``churn``, the share of sentences that a seed of one and a seed of the other predict differently;
        ``seed_churn``, that of two seeds of one arm, mean of both arms; ``excess_churn`` beyond seeds with its 95 % interval
        (both empty with one seed); ``kappa``; ``both_wrong``, a share of sentences, and ``expected_both_wrong``, were errors
        independent; ``fixed`` and ``broken``: how many sentences most seeds of the first get wrong and of the second right, and
        the reverse.
    """
    rows = []
    for (name_a, a), (name_b, b) in itertools.combinations(scored.items(), 2):
        both, expected = error_overlap(a.correct, b.correct)
        right_a, right_b = (of.correct.mean(axis=0) > 0.5 for of in (a, b))
        guesses, beyond = (a.predictions, b.predictions), Interval(*[float("nan")] * 3)
        if min(len(a.seeds), len(b.seeds)) > 1:
            beyond = excess_churn(*guesses, shared_seeds=a.seeds == b.seeds, resamples=RESAMPLES)
        row = {"first": name_a, "second": name_b, "churn": churn(*guesses), "seed_churn": sum(map(seed_churn, guesses)) / 2}
        row["excess_churn"] = beyond.mean
        row |= {"excess_churn_low": beyond.low, "excess_churn_high": beyond.high, "kappa": cohen_kappa(*guesses)}
        row |= {"both_wrong": both, "expected_both_wrong": expected}
        row |= {"fixed": int((~right_a & right_b).sum()), "broken": int((right_a & ~right_b).sum())}
        rows.append(row)
    return pd.DataFrame(rows)
