"""From a table of runs to a comparison of arms: what was tried, what it scored on test, and how sure that is.

Protocol (methods notes, 9.1 and 9.2): the unit is the seed; a learning rate is chosen on validation alone; test
predictions are read once, for the chosen runs; intervals resample seeds and sentences; arms are compared on the same
seeds and sentences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from frostline.errors import FrostlineError
from frostline.measures.statistics import Interval, hierarchical_bootstrap, paired_difference
from frostline.runs.sweep import FIXED, read_config, read_json, value_of


@dataclass(frozen=True, eq=False)
class Arm:
    """One way of adapting an encoder: all finished runs that differ in seed and learning rate only."""

    data: str
    model: str
    strategy: str
    optimizer: str
    settings: dict[str, str]  # every other key that the sweep overrode, as text
    depth: int  # d, frozen blocks
    blocks: int  # L, blocks of the encoder
    layer: int | None  # the layer that a probe reads; the most frequent one over seeds
    lr: float | None  # chosen on validation; None for lbfgs
    lrs_tried: tuple[float, ...]
    seeds: tuple[int, ...]  # of the runs with the chosen learning rate
    val_accuracy: float  # mean over seeds, 0 … 1
    val_loss: float  # mean over seeds
    test: Interval | None  # mean accuracy over seeds, 0 … 1, with 95 % interval; None if test was not scored
    same_test_set: bool  # False: seeds had different test sentences, and the interval resamples the seeds' means only
    n_test: int  # test sentences a seed
    trained_parameters: int
    fit_seconds: float  # mean over seeds
    runs: tuple[str, ...]  # folders of the runs with the chosen learning rate
    tried: tuple[str, ...]  # folders of all finished runs
    correct: pd.DataFrame | None = field(repr=False)  # bool [sentences, seeds], if all seeds had one test set

    @property
    def short(self) -> str:
        """``frozen, layer 4``, ``partial, 2 of 6`` or ``full``."""
        reads = "" if self.layer is None else f", layer {self.layer}"
        return f"partial, {self.depth} of {self.blocks}" if self.strategy == "partial" else f"{self.strategy}{reads}"


def summarise(sweep_dir: Path, results: pd.DataFrame) -> list[Arm]:
    """Group finished runs into arms, choose each arm's learning rate, and score the chosen runs on test.

    A learning rate (or a swept ``optimizer.C``) is chosen by the highest mean ``val/accuracy`` over seeds, ties by the
    lower mean ``val/loss``, among those that finished for the most seeds: a rate that diverged for some seeds is not
    preferred for the seeds it survived. Test metrics take no part.

    Args:
        sweep_dir: the directory that ``results`` was collected from.
        results: the table of :func:`frostline.runs.sweep.collect`.

    Returns:
        The arms from frozen to full; empty if no run has finished.

    Raises:
        FrostlineError: a file of a run is damaged or lacks what its contract promises.
    """
    metrics = {name for run in results["run"] for name in read_json(sweep_dir / run / "metrics.json")}
    if "val/accuracy" not in metrics:
        return []
    finished = results[(results["status"] == "finished") & results["val/accuracy"].notna()]
    settings = [str(name) for name in results if name not in {*FIXED, *metrics, "run"}]
    asked = [read_config(sweep_dir / run) for run in finished["run"]]
    finished = finished.assign(
        asked_layer=[str(value_of(config, "strategy.layer")) for config in asked],  # chosen layers differ between seeds
        asked_c=[str(value_of(config, "optimizer.C")) for config in asked],
    )
    finished["rate"] = finished["optimizer.lr"].map(str) + " " + finished["asked_c"]
    keys = ["data", "model", "strategy", "strategy.frozen_depth", "optimizer", "asked_layer", *settings]
    groups = finished.groupby([finished[key].map(str) for key in keys], sort=False)
    arms = [_arm(sweep_dir, rows, settings) for _, rows in groups]
    return sorted(arms, key=lambda a: (a.data, a.model, -a.depth / a.blocks, a.strategy, a.layer or 0, str(a.settings)))


def distinctions(arms: Sequence[Arm]) -> dict[str, list[str]]:
    """Return what, besides the strategy, tells arms apart: key -> its value for each arm (in their order)."""
    columns = {"data": [a.data for a in arms], "model": [a.model for a in arms]}
    if len({(a.strategy, a.optimizer) for a in arms}) > len({a.strategy for a in arms}):
        columns["optimizer"] = [a.optimizer for a in arms]
    columns |= {key: [a.settings[key] for a in arms] for key in (arms[0].settings if arms else ())}
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def names(arms: Sequence[Arm]) -> list[str]:
    """Return a short name for each arm, e.g. ``partial, 2 of 6`` or ``full · train_size 100``."""
    told = [[f"{key.split('.')[-1]} {v}" for v in values] for key, values in distinctions(arms).items()]
    return [" · ".join([arm.short, *(values[i] for values in told)]) for i, arm in enumerate(arms)]


def best_and_by_how_much(arms: Sequence[Arm]) -> str:
    """Return two sentences a task: which arm won on validation, its test accuracy, and by how much it beats the probe.

    A task is a data set with the same ``data.*`` settings. The difference is paired over the seeds and sentences that
    both arms have; without a probe, or if the probe won, the winner is compared with the second best on validation.
    """
    if not arms:
        return "No run has finished yet."
    tasks: dict[str, list[Arm]] = {}
    told = {key: values for key, values in distinctions(arms).items() if key == "data" or key.startswith("data.")}
    for i, arm in enumerate(arms):
        tasks.setdefault(", ".join(f"{key} {values[i]}" for key, values in told.items()), []).append(arm)
    return "\n".join((f"{task}: " if task else "") + _answer(of_task) for task, of_task in tasks.items())


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
            "–" if arm.test is None else "{} ({} – {})".format(*map(_percent, arm.test)),
            str(len(arm.seeds)),
            compact(arm.trained_parameters),
            f"{arm.fit_seconds:.{0 if arm.fit_seconds >= 10 else 1}f}",
        ]
        for i, arm in enumerate(arms)
    ]
    return titles, rows


def notes(arms: Sequence[Arm], failures: int) -> list[str]:
    """Return what a reader must know to read the table, a sentence a note; ``failures`` counts unfinished jobs."""
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
    if len(scored) < len(arms):
        said.append("A dash under test accuracy: no test predictions were written for all seeds of that arm.")
    if failures:
        jobs = "1 job did not finish and is" if failures == 1 else f"{failures} jobs did not finish and are"
        said.append(f"{jobs} left out.")
    return said


def print_table(arms: Sequence[Arm], failures: int, console: Console) -> None:
    """Print the comparison of arms (cells as in :func:`cells`) and its notes; ``failures`` counts unfinished jobs."""
    if arms:
        titles, rows = cells(arms)
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in titles:
            is_text = title == "strategy" or title in distinctions(arms)
            table.add_column(Text(title), justify="left" if is_text else "right")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))  # Text: brackets in a name are not markup
        console.print(table)
    else:
        console.print("No run has finished yet.")
    for note in notes(arms, failures):
        console.print(Text(note, style="dim"))


def scientific(rate: float) -> str:
    """Return a learning rate as people write it: ``1e-4``, ``2.5e-5``."""
    return np.format_float_scientific(rate, precision=3, trim="-", exp_digits=1)


def compact(count: int) -> str:
    """Return a number of parameters in short: ``770``, ``385k``, ``22.7M``."""
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return f"{count:,}" if count < 10_000 else f"{count / 1e3:.0f}k"


# --- internals ------------------------------------------------------------------------------------------------------


def _arm(sweep_dir: Path, rows: pd.DataFrame, settings: list[str]) -> Arm:
    scores = rows.groupby("rate").agg(
        seeds=("seed", "nunique"), accuracy=("val/accuracy", "mean"), loss=("val/loss", "mean")
    )
    scores = scores[scores["seeds"] == scores["seeds"].max()].round(12)  # so that equal means are equal
    best = scores.sort_values(["accuracy", "loss"], ascending=[False, True]).index[0]
    chosen = rows[rows["rate"] == best].drop_duplicates("seed", keep="last").sort_values("seed")
    first = chosen.iloc[0]
    manifest_path = sweep_dir / first["run"] / "manifest.json"
    manifest = read_json(manifest_path)
    if not {"frozen_depth", "blocks"} <= manifest.keys():
        raise FrostlineError(f"{manifest_path} has no 'frozen_depth' or no 'blocks', but its run says it finished.")
    layers = Counter(int(layer) for layer in chosen["strategy.layer"].dropna()).most_common(1)
    correct = [_correct(sweep_dir / run / "predictions.parquet") for run in chosen["run"]]
    scored = [c for c in correct if c is not None]
    complete = len(scored) == len(correct)
    same = complete and all(c.index.equals(scored[0].index) for c in scored)
    table = pd.DataFrame(dict(zip(chosen["seed"].astype(int), scored, strict=True))) if same else None
    means = np.array([[c.mean()] for c in scored])  # [seeds, 1]
    return Arm(
        **{key: str(first[key]) for key in ("data", "model", "strategy", "optimizer")},
        settings={key: str(first[key]) for key in settings},
        depth=int(manifest["frozen_depth"]),
        blocks=int(manifest["blocks"]),
        layer=layers[0][0] if layers else None,
        lr=None if pd.isna(first["optimizer.lr"]) else float(first["optimizer.lr"]),
        lrs_tried=tuple(sorted(float(lr) for lr in rows["optimizer.lr"].dropna().unique())),
        seeds=tuple(chosen["seed"].astype(int)),
        val_accuracy=float(chosen["val/accuracy"].mean()),
        val_loss=float(chosen["val/loss"].mean()),
        test=hierarchical_bootstrap(means if table is None else table.to_numpy().T) if complete else None,
        same_test_set=same or not complete,
        n_test=round(float(np.mean([len(c) for c in scored]))) if scored else 0,
        trained_parameters=int(first["trained_parameters"]),
        fit_seconds=float(chosen["fit_seconds"].mean()),
        runs=tuple(chosen["run"]),
        tried=tuple(rows["run"]),
        correct=table,
    )


def _correct(path: Path) -> pd.Series[bool] | None:
    """Which test sentences a run classified correctly, by (index, text); None if it did not score test."""
    if not path.is_file():
        return None
    try:
        table = pd.read_parquet(path, columns=["split", "index", "text", "label", "prediction"])
    except (OSError, ValueError) as error:  # Arrow's errors are among these
        raise FrostlineError(f"{path} is damaged: {error}.") from None
    test = table[table["split"] == "test"].set_index(["index", "text"]).sort_index()
    return None if test.empty else test["label"] == test["prediction"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _in_words(arms: Sequence[Arm]) -> list[str]:
    told = distinctions(arms)
    words = []
    for i, arm in enumerate(arms):
        name = {
            "frozen": "the linear probe" + ("" if arm.layer is None else f" on layer {arm.layer}"),
            "partial": f"partial fine-tuning with {arm.depth} of {arm.blocks} blocks frozen",
        }.get(arm.strategy, f"{arm.strategy} fine-tuning")
        detail = ", ".join(f"{key} {values[i]}" for key, values in told.items())
        words.append(f"{name} ({detail})" if detail else name)
    return words


def _answer(arms: list[Arm]) -> str:
    """Two sentences about the arms of one task."""
    ranked = sorted(arms, key=lambda a: (-round(a.val_accuracy, 12), a.val_loss))
    told = dict(zip(arms, _in_words(arms), strict=True))
    best, name = ranked[0], told[ranked[0]]
    lead = f"Of {len(arms)} arms, {name} did best" if len(arms) > 1 else f"The only arm, {name}, scores"
    first = f"{lead} on validation ({_percent(best.val_accuracy)} %)"
    if best.test is None:
        return f"{first}; it was not scored on test. Without test predictions the difference cannot be told."
    mean, low, high = map(_percent, best.test)
    seeds = f"{len(best.seeds)} seed{'s' if len(best.seeds) > 1 else ''}"
    first += f"; on test it scores {mean} % (95 % interval {low} to {high} %; {seeds}, {best.n_test:,} sentences)."
    if len(arms) == 1:
        return f"{first} There is no other arm to compare it with."
    probes = [arm for arm in ranked if arm.strategy == "frozen"]
    probes = [] if best in probes else [p for p in probes if p.model == best.model] or probes
    other = probes[0] if probes else ranked[1]
    return f"{first} {_comparison(best, other, told[other])}"


def _comparison(best: Arm, other: Arm, name: str) -> str:
    if best.correct is None or other.correct is None or not best.correct.index.equals(other.correct.index):
        return f"We cannot tell by how much it differs from {name}: the two were not scored on the same test sentences."
    seeds = [seed for seed in best.correct if seed in other.correct]
    if not seeds:
        return f"We cannot tell by how much it differs from {name}: the two share no seed."
    difference = paired_difference(best.correct[seeds].to_numpy().T, other.correct[seeds].to_numpy().T)
    points, low, high = (f"{100 * x:+.1f}" for x in difference)
    accuracy = _percent(float(other.correct[seeds].to_numpy().mean()))
    if not difference.excludes_zero():
        return (
            f"Whether it beats {name} ({accuracy} %) we cannot tell: the paired difference is {points} points, "
            f"and its 95 % interval, {low} to {high}, includes 0."
        )
    side = "above" if difference.mean > 0 else "below"
    return (
        f"That is {points.lstrip('+-')} points {side} {name} ({accuracy} %); "
        f"the 95 % interval of the paired difference is {low} to {high} points."
    )
