"""Frostline, as its users run it: through its command line, or ``train(config, run_dir)`` where single steps are timed.

Everything that reaches deeper than the command line and the run directory stands in this file: :func:`fit_watched` (Lightning's
``Trainer.fit``), :class:`Features` and :func:`many_probes`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import workload
from settings import BATCH_SIZE

# --- data -----------------------------------------------------------------------------------------------------------


def export(path: str, words: list[str]) -> dict[str, Any]:
    """Write the sentences of a run for the peers to read."""
    from frostline.data.assets import fetch
    from frostline.data.sentences import load_data

    config = configuration(words)
    cache_dir = Path(config.paths.cache_dir)
    data = load_data(config.data, cache_dir, config.seed)
    train, validation = (
        workload.Split(list(data.splits[name]["text"]), list(data.splits[name]["label"])) for name in ("train", "validation")
    )
    hashes = {name: data.hashes[name] for name in ("train", "validation")}
    workload.write(Path(path), workload.Workload(train, validation, hashes, str(fetch("minilm", cache_dir).resolve())))
    return {"counts": [len(train.texts), len(validation.texts)], "written": hashes}


# --- runs -----------------------------------------------------------------------------------------------------------


def configuration(words: list[str]) -> Any:
    """Return a valid configuration."""
    from frostline.commands.launch import compose_alone
    from frostline.config import validate

    return validate(compose_alone("train", words))


def train(words: list[str], after: Callable[[Any], None] | None = None, once: Any = None) -> dict[str, Any]:
    """Train one run in this process.

    Args:
        words: overrides.
        after: called with Lightning's Trainer once it has fitted.
        once: what runs of a sweep share.

    Returns:
        ``seconds`` and ``steps`` of the training steps alone; ``before`` the first one; ``train_seconds`` of the whole
        ``train(config, run_dir)`` with reading, caches and scoring; from the run directory what a comparison needs.
    """
    from frostline.commands.train import train as frostline_train

    config = configuration(words)
    run_dir = Path(f"run-{time.time_ns()}").absolute()
    with fit_watched(after) as clock:
        started = time.perf_counter()
        frostline_train(config, run_dir, once=once)
        seconds = time.perf_counter() - started
    metrics, manifest = (json.loads((run_dir / f"{name}.json").read_text()) for name in ("metrics", "manifest"))
    return {
        "seconds": clock.seconds,
        "steps": clock.steps,
        "before": clock.began - started,
        "after_first": clock.after_first,
        "epochs": config.trainer.max_epochs,
        "train_seconds": seconds,
        "fit_seconds": metrics["fit_seconds"],
        "accuracy": metrics["val/accuracy"],
        "sentences": manifest["sentences"]["train"],
        "hashes": {name: manifest["data_hashes"][name] for name in ("train", "validation")},
    }


@contextmanager
def fit_watched(after: Callable[[Any], None] | None) -> Iterator[Any]:
    """Let a :class:`step_clock.StepClock` watch whatever Lightning's Trainer fits."""
    from lightning.pytorch import Trainer

    from step_clock import StepClock

    clock, fit = StepClock(), Trainer.fit

    def watched(trainer: Trainer, *args: Any, **options: Any) -> None:
        trainer.callbacks.append(clock)  # type: ignore[attr-defined]
        fit(trainer, *args, **options)
        if after is not None:
            after(trainer)

    with mock.patch.object(Trainer, "fit", watched):
        yield clock


def every_depth(words: list[str], blocks: int, repeats: int) -> dict[str, Any]:
    """Return the seconds of the training steps at every frozen depth, uncached and cached, depths in turn.

    A cached run is preceded by one that fills the cache.
    """
    depths = range(blocks + 1)
    kinds = {"uncached": ["cache=off"], "cached": []}
    seconds: dict[str, dict[int, list[float]]] = {kind: {depth: [] for depth in depths} for kind in kinds}
    for number in range(repeats + 1):  # the first fills caches and warms up
        for depth in depths:
            for kind, off in kinds.items():
                run = train([*words, "strategy=partial", f"strategy.frozen_depth={depth}", *off])
                if number > 0:
                    seconds[kind][depth].append(run["seconds"])
    return seconds


def cache_size(depth: int) -> dict[str, Any]:
    """Return what the activation cache holds of the states that enter a block."""
    from frostline.encoder.entries import entries

    (entry,) = [e for e in entries(Path(os.environ["FROSTLINE_CACHE"])) if e.describes.get("depth") == depth]
    return {"cached": entry.sentences, "tokens": entry.rows, "bytes": entry.bytes}


def overhead(words: list[str], repeats: int) -> dict[str, Any]:
    """Return seconds of training steps inside Lightning's Trainer, and in a bare loop over the same module and batches.

    The bare loop has the optimizer, the clipping and the data loader of the Trainer; what it lacks is Lightning, logging,
    callbacks and Frostline's hooks. It comes second, when the optimizer has its state already, so both are timed from the end of
    their first step to that of the last. One fit before the first measured one warms up.
    """
    import torch
    import torch.nn.functional as F

    bare: list[float] = []

    def loop(trainer: Any) -> None:
        module, optimizer, loader = trainer.lightning_module, trainer.optimizers[0], trainer.train_dataloader
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        module.train()
        first = 0.0
        for batch in loader:
            optimizer.zero_grad()
            F.cross_entropy(module(batch).float(), batch["labels"]).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            first = first or time.perf_counter()
        bare.append(time.perf_counter() - first)

    runs = [train(words, after=loop) for _ in range(repeats + 1)]
    return {"inside": [run["after_first"] for run in runs[1:]], "bare": bare[1:], "timed_steps": runs[0]["steps"] - 1}


def probe_jobs(words: list[str], rates: list[float]) -> dict[str, Any]:
    """Train a probe with one rate after the other, as a multirun does; ``before``: seconds from a job's start to its first step.

    The first job, which loads weights and sentences, does not count.
    """
    from frostline.once import Once

    once = Once()
    return {"before": [train([*words, f"optimizer.lr={rate}"], once=once)["before"] for rate in rates][1:]}


# --- the command line -----------------------------------------------------------------------------------------------


def command(words: list[str]) -> dict[str, Any]:
    """Run ``frostline train`` in a process of its own: seconds to its end, and to its metrics.json."""
    run_dir = Path("run").absolute()
    started = time.time()
    _python("-m", "frostline", "train", *words, f"hydra.run.dir={run_dir}")
    ended = time.time()
    metrics = run_dir / "metrics.json"
    accuracy = json.loads(metrics.read_text())["val/accuracy"]
    return {"seconds": ended - started, "to_metrics": metrics.stat().st_mtime - started, "accuracy": accuracy}


def sweep(words: list[str]) -> dict[str, Any]:
    """Run ``frostline train -m`` in a process of its own: seconds from start to exit, and the last epoch's accuracies."""
    import pandas as pd

    folder = Path("sweep").absolute()
    started = time.perf_counter()
    _python("-m", "frostline", "train", "-m", *words, f"hydra.sweep.dir={folder}")
    seconds = time.perf_counter() - started
    cells = []
    for _, job in pd.read_csv(folder / "results.csv").iterrows():
        # metrics.json has the best epoch's accuracy; a peer that is evaluated once has the last one's.
        curve = pd.read_csv(folder / str(job["run"]) / "curves.csv")["val/accuracy"].dropna()
        cells.append([int(job["strategy.frozen_depth"]), job["optimizer.lr"], float(curve.iloc[-1]), job["fit_seconds"]])
    return {"seconds": seconds, "cells": cells}


def plan(words: list[str]) -> dict[str, Any]:
    """Return how many seconds ``frostline plan`` expects."""
    from frostline.commands.plan import plan as frostline_plan

    return {"expected": frostline_plan(words).seconds}


def whole(words: list[str]) -> dict[str, Any]:
    """Run ``frostline train`` in a process of its own: seconds from its start to its exit."""
    started = time.perf_counter()
    _python("-m", "frostline", "train", *words)
    return {"seconds": time.perf_counter() - started}


def imports(modules: list[str]) -> dict[str, Any]:
    """Return how long a new process takes that does nothing but import ``modules``."""
    started = time.perf_counter()
    _python("-c", f"import {', '.join(modules)}")
    return {"seconds": time.perf_counter() - started}


def _python(*words: str) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


# --- features and probes ---------------------------------------------------------------------------------------------


class Features:
    """Pooled states of all layers of a run's sentences, two poolings, computed anew each time. The one place to adapt.

    Args:
        words: overrides, the precision among them.
        splits: which splits.
    """

    def __init__(self, words: list[str], splits: tuple[str, ...] = ("train", "validation")):
        from frostline.data.sentences import load_data
        from frostline.encoder.load import load_encoder

        self.config, self.names = configuration(words), splits
        self.cache_dir = Path(self.config.paths.cache_dir)
        self.data = load_data(self.config.data, self.cache_dir, self.config.seed)
        self.pretrained = load_encoder(self.config.model, self.cache_dir)
        self.layers = list(range(self.pretrained.blocks + 1))

    def tokenise(self, cache_dir: Path) -> None:
        """Tokenise into a cache; an empty one makes it compute."""
        from frostline.data.module import SentenceModule

        encoder = (self.pretrained.tokenizer, self.pretrained.tokenizer_hash)
        self.module = SentenceModule(self.data, *encoder, self.config.data.max_length, 32, self.config.seed, cache_dir)

    def encode(self) -> dict[str, Any]:
        """Return split -> ``[layers, sentences, width]``, mean pooled; the one pass over the texts pools both ways."""
        import torch
        from frostline.encoder.cache import ActivationCache, Wanted

        uncached = dataclasses.replace(self.config.cache, mode="off")
        frozen = ActivationCache(uncached, Path(), self.pretrained, self.config.trainer.precision, torch.device("cpu"))
        tokens = {name: self.module.splits[name].tokens for name in self.names}
        return frozen.features(tokens, "mean", self.layers, ahead=Wanted(poolings=frozenset({"cls"})))

    @property
    def lengths(self) -> list[int]:
        """Tokens of every sentence."""
        return [int(n) for name in self.names for n in self.module.splits[name].tokens.lengths]


def encode(words: list[str]) -> dict[str, Any]:
    """Compute the features of all layers with two poolings; seconds include tokenising. A first pass warms up."""
    features = Features(words, splits=("validation",))
    features.tokenise(Path("warm"))
    features.encode()
    features.names = ("train", "validation")
    started = time.perf_counter()
    features.tokenise(Path("cold"))
    features.encode()
    seconds = time.perf_counter() - started
    hashes = {name: features.data.hashes[name] for name in ("train", "validation")}
    return {
        "seconds": seconds,
        "encoded": len(features.lengths),
        "hashes": hashes,
        "sentences": len(features.data.splits["train"]),
    }


def encoding_pass(words: list[str]) -> dict[str, Any]:
    """Return how long the features of the training sentences alone take, tokenised before."""
    features = Features(words, splits=("train",))
    features.tokenise(Path("tokens"))
    started = time.perf_counter()
    features.encode()
    return {"seconds": time.perf_counter() - started, "encoded": len(features.lengths)}


def write_features(words: list[str], path: str) -> None:
    """Write standardised features of all layers, mean pooled, ``[layers, sentences, width]``, and labels to a file."""
    import torch

    features = Features(words)
    features.tokenise(features.cache_dir)
    found = features.encode()
    mean, scale = found["train"].mean(1, keepdim=True), found["train"].std(1, keepdim=True)
    scaled = {name: (x - mean) / scale for name, x in found.items()}
    labels = {f"{name}_labels": torch.tensor(features.data.splits[name]["label"][:]) for name in scaled}
    lengths = {"train_lengths": torch.tensor(features.module.splits["train"].tokens.lengths)}
    torch.save(scaled | labels | lengths, path)


def many_probes(
    features: str, rates: list[float], seeds: int, epochs: int, sample: list[tuple[int, float, int]]
) -> dict[str, Any]:
    """Train layers x ``rates`` x ``seeds`` probes at once; return the accuracies of those that the peer trains, too."""
    import torch
    from frostline.strategies.probes import adamw_probes

    config = configuration(["strategy=frozen", "optimizer=adamw", "scheduler=constant"])
    data = torch.load(features)
    started = time.perf_counter()
    weight, bias = adamw_probes(
        *(data["train"], data["train_labels"], data["train_lengths"].numpy(), 2),
        *(config.optimizer, config.scheduler, rates, range(seeds), BATCH_SIZE, epochs),
    )
    seconds = time.perf_counter() - started
    accuracies = []
    for layer, rate, seed in sample:
        probe = (layer, rates.index(rate), seed)
        logits = data["validation"][layer] @ weight[probe].T + bias[probe]
        accuracies.append((logits.argmax(-1) == data["validation_labels"]).float().mean().item())
    return {"seconds": seconds, "accuracies": accuracies}


def measured(words: list[str]) -> dict[str, Any]:
    """Train a run, then measure it; return the seconds of encoding sentences and those of everything else in the measure."""
    from frostline.commands.measure import measure_run
    from frostline.commands.train import train as frostline_train
    from frostline.measures.subject import Subject
    from frostline.once import Once

    config, run_dir, once = configuration(words), Path(f"run-{time.time_ns()}").absolute(), Once()
    measures, config.measure = config.measure, {}
    frostline_train(config, run_dir, once=once)
    encoding, encoded, pooled = 0.0, 0, Subject.pooled

    def watched(subject: Any, encoder: Any, splits: dict[str, Any], poolings: list[str]) -> Any:
        nonlocal encoding, encoded
        started = time.perf_counter()
        found = pooled(subject, encoder, splits, poolings)
        encoding, encoded = encoding + time.perf_counter() - started, sum(len(tokens.lengths) for tokens in splits.values())
        return found

    with mock.patch.object(Subject, "pooled", watched):
        started = time.perf_counter()
        failed = measure_run(run_dir, measures, config.paths, once)
        seconds = time.perf_counter() - started
    if failed:
        raise RuntimeError("the measure failed")
    return {"seconds": seconds - encoding, "encoding": encoding, "encoded": encoded}


def page(runs: int, sentences: int) -> dict[str, Any]:
    """Return how long the page of a sweep takes, from run directories to the file, and how large it is."""
    import numpy as np
    import pandas as pd
    from frostline.report.page import write_page

    write_run = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "report" / "test_table.py"))["write_run"]
    words = ["the", "film", "was", "not", "good", "but", "funny", "however", "slow", "and", "strangely", "moving"]
    rng = np.random.default_rng(0)
    texts = [f"{' '.join(rng.choice(words, 5 + i % 25))} {i}" for i in range(sentences)]
    with tempfile.TemporaryDirectory() as folder:
        for job in range(runs):
            rate, size = 10.0 ** -(3 + job // 3 % 3), 100 * 2 ** (job // 9)
            run = Path(folder) / str(job)
            write_run(run, seed=job % 3, lr=rate, overrides={"data.train_size": size})
            table = pd.read_parquet(run / "predictions.parquet").sort_values(["split", "index"])
            table = pd.concat([of.iloc[np.arange(sentences) % len(of)] for _, of in table.groupby("split")])
            table["index"] = np.tile(np.arange(sentences), 2)
            table.assign(text=texts * 2).to_parquet(run / "predictions.parquet", index=False)
        start = time.perf_counter()
        path = write_page(Path(folder))
        return {"seconds": time.perf_counter() - start, "megabytes": path.stat().st_size / 1e6, "runs": runs}
