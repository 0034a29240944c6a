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

from frostline.errors import FrostlineError
from frostline.measures.statistics import Interval, hierarchical_bootstrap
from frostline.runs.reading import read_manifest, read_metrics, read_predictions
from frostline.runs.sweep import FIXED, read_config, value_of
from frostline.schema import MEASURES

UNSET = "nan"  # what pandas writes for a key that a job did not override


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
    reads_fp16: bool = False  # the states of its frozen blocks were kept in 16 bits

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
    metrics = {name for run in results["run"] for name in read_metrics(sweep_dir / run)}
    if "val/accuracy" not in metrics:
        return []
    finished = results[(results["status"] == "finished") & results["val/accuracy"].notna()]
    if finished.empty:
        return []
    for name in ("seed", "val/loss", "trained_parameters", "fit_seconds"):
        lacking = finished if name not in finished else finished[finished[name].isna()]
        if len(lacking):
            raise FrostlineError(
                f"'{sweep_dir / lacking['run'].iloc[0]}' is damaged: its run says it finished, but has no '{name}'."
            )
    settings = [str(n) for n in results if n not in {*FIXED, *metrics, "run"} and str(n).split("/")[0] not in MEASURES]
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


def ranking(arms: Sequence[Arm]) -> list[Arm]:
    """Return arms by mean validation accuracy, ties by loss, the best first."""
    return sorted(arms, key=lambda arm: (-round(arm.val_accuracy, 12), arm.val_loss))


def distinctions(arms: Sequence[Arm]) -> dict[str, list[str]]:
    """Return what, besides the strategy, tells arms apart: key -> its value for each arm (in their order)."""
    columns = {"data": [a.data for a in arms], "model": [a.model for a in arms]}
    if len({(a.strategy, a.optimizer) for a in arms}) > len({a.strategy for a in arms}):
        columns["optimizer"] = [a.optimizer for a in arms]
    columns |= {key: [a.settings[key] for a in arms] for key in (arms[0].settings if arms else ())}
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def told_apart(arms: Sequence[Arm]) -> list[dict[str, str]]:
    """Return, for each arm, the settings that are said with its strategy, key -> value.

    What an arm does not set goes without saying, and so does what more than half of three or more arms have in common; unless
    two of them would then be called the same.
    """
    found = distinctions(arms)
    usual = {key: Counter(values).most_common(1)[0] for key, values in found.items()}
    common = {key: value for key, (value, count) in usual.items() if len(arms) > 2 and count > len(arms) / 2}
    every = [{key: values[i] for key, values in found.items()} for i in range(len(arms))]
    short = [{key: v for key, v in settings.items() if v not in (UNSET, common.get(key))} for settings in every]
    is_clear = len({(arm.short, str(settings)) for arm, settings in zip(arms, short, strict=True)}) == len(arms)
    return [{key: _bare(value) for key, value in settings.items()} for settings in (short if is_clear else every)]


def names(arms: Sequence[Arm]) -> list[str]:
    """Return a short name for each arm, e.g. ``partial, 2 of 6`` or ``full · train_size 100``."""
    return [
        " · ".join([arm.short, *(f"{key.split('.')[-1]} {value}" for key, value in settings.items())])
        for arm, settings in zip(arms, told_apart(arms), strict=True)
    ]


def _bare(value: str) -> str:
    """A setting's value as a name has it, such as the one remedy of ``[mixout]`` without brackets."""
    return "none" if value == UNSET else value[1:-1] if value[:1] == "[" and "," not in value else value


def _arm(sweep_dir: Path, rows: pd.DataFrame, settings: list[str]) -> Arm:
    scores = rows.groupby("rate").agg(
        seeds=("seed", "nunique"),
        accuracy=("val/accuracy", "mean"),
        loss=("val/loss", "mean"),
    )
    scores = scores[scores["seeds"] == scores["seeds"].max()].round(12)  # so that equal means are equal
    best = scores.sort_values(["accuracy", "loss"], ascending=[False, True]).index[0]
    chosen = rows[rows["rate"] == best].drop_duplicates("seed", keep="last").sort_values("seed")
    first = chosen.iloc[0]
    manifest = read_manifest(sweep_dir / first["run"])
    if manifest.get("frozen_depth") is None or manifest.get("blocks") is None:
        path = sweep_dir / first["run"] / "manifest.json"
        raise FrostlineError(f"{path} has no 'frozen_depth' or no 'blocks', but its run says it finished.")
    cache = manifest.get("cache") or {}
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
        reads_fp16=cache.get("dtype") == "fp16" and bool(cache.get("used") or cache.get("computed_sentences")),
    )


def _correct(path: Path) -> pd.Series[bool] | None:
    """Which test sentences a run classified correctly, by (index, text); None if it did not score test."""
    if not path.is_file():
        return None
    table = read_predictions(path, columns=["split", "index", "text", "label", "prediction"])
    test = table[table["split"] == "test"].set_index(["index", "text"]).sort_index()
    return None if test.empty else test["label"] == test["prediction"]
