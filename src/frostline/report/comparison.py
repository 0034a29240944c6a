"""What each arm reaches and what it costs: one table, and quality against cost as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from frostline.measures.statistics import CHUNK_CELLS, Interval, resampled_means
from frostline.report.arms import Arm, names
from frostline.report.figures import FAINT, INK, colours, inked, plain
from frostline.report.scored import Scored
from frostline.runs.reading import read_metrics

RESAMPLES = 2000


def comparison(sweep_dir: Path, arms: Sequence[Arm], scored: dict[str, Scored]) -> pd.DataFrame:
    """Return what each arm reaches on test and what it costs, a row an arm, means over its seeds.

    Args:
        sweep_dir: the directory of the arms' runs.
        arms: from frozen to full.
        scored: the arms' test predictions.

    Returns:
        ``arm``; ``seeds``; ``sentences``; ``accuracy`` and ``macro_f1`` (0 … 1), ``nll`` (nats) and ``brier`` (squares summed
        over classes), each with its 95 % interval in ``…_low`` and ``…_high``; ``fit_seconds``; ``peak_memory_mb``;
        ``trained_parameters``; ``checkpoint_mb``. What was not scored or recorded is empty.
    """
    losses = mean_losses(scored)
    rows = []
    for name, arm in zip(names(arms), arms, strict=True):
        row: dict[str, object] = {"arm": name, "seeds": len(arm.seeds), "sentences": arm.n_test or None}
        intervals = {} if arm.test is None else {"accuracy": arm.test}
        if name in scored:
            intervals |= {"macro_f1": macro_f1(scored[name].labels, scored[name].predictions), **losses[name]}
        for key, interval in intervals.items():
            row |= {key: interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}
        metrics = [read_metrics(sweep_dir / run) for run in arm.runs]
        memory = [found for of_run in metrics if (found := of_run.get("peak_memory_mb")) is not None]
        row |= {
            "fit_seconds": arm.fit_seconds,
            "peak_memory_mb": float(np.mean(memory)) if memory else None,
            "trained_parameters": arm.trained_parameters,
            "checkpoint_mb": _checkpoint_mb(sweep_dir / arm.runs[0]),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def mean_losses(scored: dict[str, Scored]) -> dict[str, dict[str, Interval]]:
    """Return each arm's mean ``nll`` (nats) and ``brier`` score (squares summed over classes) with 95 % bootstrap intervals.

    Arms of one shape are resampled together, with the same draws.
    """
    shapes: dict[tuple[int, ...], list[str]] = {}
    for name, of in scored.items():
        shapes.setdefault(of.correct.shape, []).append(name)
    found: dict[str, dict[str, Interval]] = {}
    for together in shapes.values():
        tables = np.stack([table for name in together for table in (scored[name].nll, scored[name].brier)])
        low, high = np.quantile(resampled_means(tables, RESAMPLES), [0.025, 0.975], axis=0)
        intervals = [Interval(float(t.mean()), float(lo), float(hi)) for t, lo, hi in zip(tables, low, high, strict=True)]
        for i, name in enumerate(together):
            found[name] = {"nll": intervals[2 * i], "brier": intervals[2 * i + 1]}
    return found


def macro_f1(labels: NDArray[np.int64], predictions: NDArray[np.int64], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Return the mean macro F1 over seeds and its 95 % bootstrap interval over seeds and sentences.

    A class that is neither among the labels nor among the predictions does not enter, as in ``metrics.json``. Sentences with the
    same label and predictions are interchangeable, so weights are drawn for distinct ones (as in
    :func:`frostline.measures.statistics.hierarchical_bootstrap`).

    Args:
        labels: class numbers, ``[sentences]``.
        predictions: class numbers, ``[seeds, sentences]``.
        resamples: how many.
        seed: of the resampling.
    """
    columns, counts = np.unique(np.vstack([labels, predictions]), axis=1, return_counts=True)
    present = np.unique(columns)
    truth = columns[0] == present[:, None]  # [classes, distinct]
    guess = columns[1:, None, :] == present[:, None]  # [seeds, classes, distinct]
    twice_hits = 2 * (truth & guess).astype(np.float64)
    either = truth.astype(np.float64) + guess

    def of_weights(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[draws, distinct]`` -> ``[draws, seeds]``."""
        hits, all_of = (np.einsum("rd,scd->rsc", weights, table, optimize=True) for table in (twice_hits, either))
        scores = np.divide(hits, all_of, out=np.full_like(hits, np.nan), where=all_of > 0)
        return np.asarray(np.nanmean(scores, axis=2))

    sentences, seeds = int(counts.sum()), len(predictions)
    rng = np.random.default_rng(seed)
    means = []
    chunk = max(1, CHUNK_CELLS // len(counts))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.multinomial(sentences, counts / sentences, size=size) / sentences
        weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size) / seeds
        means.append((of_weights(drawn) * weights).sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(float(of_weights(counts[None] / sentences).mean()), float(low), float(high))


def pareto_figure(arms: Sequence[Arm]) -> Figure | None:
    """Draw test accuracy against training time, and the line of the arms that no other beats on both; None for a single arm."""
    shown = [(n, a, a.test, c) for n, a, c in zip(names(arms), arms, colours(arms), strict=True) if a.test is not None]
    if len(shown) < 2:
        return None
    with inked():
        figure = Figure(figsize=(6.4, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        front = [
            (arm.fit_seconds, 100 * test.mean)
            for _, arm, test, _ in shown
            if not any(o.fit_seconds <= arm.fit_seconds and t.mean > test.mean for _, o, t, _ in shown)
        ]
        axes.step(*zip(*sorted(front), strict=True), where="post", color=FAINT, linewidth=1, zorder=0)
        for name, arm, test, colour in shown:
            axes.plot([arm.fit_seconds] * 2, [100 * test.low, 100 * test.high], color=colour, linewidth=2)
            axes.plot(arm.fit_seconds, 100 * test.mean, "o", color=colour, markersize=7)
            if len(shown) <= 12:
                axes.annotate(name, (arm.fit_seconds, 100 * test.mean), (7, 4), textcoords="offset points", fontsize=8, color=INK)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.2, y=0.1)
        axes.set_xlabel("time to train one run, s")
        axes.set_ylabel("test accuracy, % (95 % interval)")
        plain(axes)
    return figure


# --- internals ------------------------------------------------------------------------------------------------------


def _checkpoint_mb(run_dir: Path) -> float | None:
    files = [path for path in (run_dir / "checkpoint").glob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / 1e6 if files else None
