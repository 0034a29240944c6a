"""``frostline train``: freeze, thaw, compare. One run, from the sentences to its scored predictions."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from frostline.commands.frozen import frozen_features, probe_first, use_cached_states
from frostline.data.module import SentenceModule
from frostline.data.sentences import load_data
from frostline.encoder.cache import ActivationCache
from frostline.encoder.load import load_encoder
from frostline.encoder.quick import quicken
from frostline.errors import FrostlineError, PrunedError
from frostline.interruption import Interrupted, interruptible
from frostline.measures.scores import score
from frostline.once import Once
from frostline.runs.curves import CurvesLogger
from frostline.runs.directory import RunDirectory
from frostline.runs.dynamics import dynamics_table
from frostline.runs.files import disk_trouble, write_json, write_parquet
from frostline.runs.manifest import surroundings
from frostline.runs.memory import peak_memory_mb, reset_peak_memory
from frostline.runs.predictions import prediction_table, words_in
from frostline.runs.processes import PARENT, local_rank, lost_process
from frostline.runs.wandb import finish_wandb, run_tags, start_wandb
from frostline.schema import Averaging, Config, FrozenStrategy, Lbfgs, LoraStrategy, LpFtStrategy, WiseFt
from frostline.strategies import Classifier, FrozenClassifier, PartialClassifier, build_classifier, build_probe, probed_layers
from frostline.strategies.averaging import AverageWeights
from frostline.strategies.checkpoint import save_checkpoint
from frostline.strategies.dynamics import TrainingDynamics
from frostline.strategies.predict import predict
from frostline.strategies.pruning import Pruning, Report
from frostline.strategies.rehearsal import attach_reading
from frostline.strategies.remedies import move_towards_start
from frostline.strategies.trainer import KeepBest, Resume, build_trainer, is_readable
from frostline.terminal import quieten

log = logging.getLogger(__name__)


def train(
    config: Config, run_dir: Path, group: str | None = None, once: Once | None = None, report: Report | None = None
) -> dict[str, float]:
    """Run one configuration and fill its run directory.

    Args:
        config: a valid configuration.
        run_dir: where everything is written. If this very run was killed there, it is resumed.
        group: the W&B group of a sweep's runs.
        once: shares weights and sentences with other runs of this process.
        report: of a search: takes the monitored metric and the epoch (from 0), and says whether to give the run up.

    Returns:
        The final metrics, as in ``metrics.json``; empty in the child processes of a distributed run.

    Raises:
        FrostlineError: bad input, a directory of another run, a diverged loss.
        Interrupted: after a SIGTERM or a Ctrl-C; the run goes on when it is started again.
        PrunedError: ``report`` says so.
    """
    run = RunDirectory(run_dir, config)
    try:
        with interruptible(), run.running():
            metrics = _train(config, run, group, once or Once(), report)
            finish_wandb(metrics, exit_code=0)
        return metrics
    except Interrupted as end:
        end.directory = run_dir
        finish_wandb({}, exit_code=end.code, goes_on=True)
        raise
    except PrunedError:
        finish_wandb({"pruned": True}, exit_code=0)
        raise
    except Exception as error:
        if sentence := disk_trouble(error, [run_dir, Path(config.paths.cache_dir)]):
            raise sentence from error
        raise
    finally:
        finish_wandb({}, exit_code=1)  # only if an exception left it open


def _train(config: Config, run: RunDirectory, group: str | None, once: Once, report: Report | None) -> dict[str, float]:
    quieten()
    reset_peak_memory()
    cache_dir, cpu = Path(config.paths.cache_dir), torch.device("cpu")
    lightning.seed_everything(config.seed, verbose=False)

    data = load_data(config.data, cache_dir, config.seed, once)
    pretrained = once("encoder", (config.model, cache_dir), lambda: load_encoder(config.model, cache_dir))
    batch_size = None if config.data.batch_size == "full" else config.data.batch_size
    datamodule = SentenceModule(
        data,
        pretrained.tokenizer,
        pretrained.tokenizer_hash,
        config.data.max_length,
        batch_size,
        config.seed,
        cache_dir,
        config.data.batch_tokens,
    )

    classes = len(data.class_names)
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda", local_rank()) if on_gpu else cpu
    quicken(pretrained.model, device)
    clock, chosen_C = Resume(), None
    cache = ActivationCache(
        config.cache, cache_dir, pretrained, config.trainer.precision, device, show_progress=config.trainer.progress_bar
    )
    if isinstance(config.strategy, FrozenStrategy):
        features = frozen_features(config, cache, datamodule, probed_layers(config.strategy.layer, pretrained))
        module: Classifier = build_probe(config, pretrained, datamodule, classes, features)
    else:
        module = build_classifier(config, pretrained, classes)
        if isinstance(config.strategy, LpFtStrategy):
            chosen_C = probe_first(module, config, cache, datamodule, classes)
        use_cached_states(config, cache, datamodule)
        if isinstance(module, PartialClassifier) and module.remedies is not None:
            attach_reading(module.remedies, config, pretrained, module.encoder, device)
    clock.count()  # a probe's time is mostly that of encoding the sentences once
    depth, layer, C = frozen_part(module)
    C = chosen_C if C is None else C
    trained, total = module.parameter_counts()
    run.record(
        **surroundings(device),
        seed=config.seed,
        precision=config.trainer.precision,
        blocks=pretrained.blocks,
        frozen_depth=depth,
        layer=layer,
        C=C,
        class_names=data.class_names,
        weights_hash=pretrained.weights_hash,
        tokenizer_hash=pretrained.tokenizer_hash,
        data_hashes=data.hashes,
        sentences={name: len(split) for name, split in data.splits.items()},
        notes=data.notes,
        truncated=datamodule.truncated,
        products=cache.describes["products"],
        cache={
            "mode": config.cache.mode,
            "used": cache.used,
            "dtype": config.cache.dtype,
            "computed_sentences": cache.computed,
        },
        wandb_id=run.manifest.get("wandb_id") or f"{run.path.name}-{time.time_ns():x}",
    )
    if run.is_main:
        log.info("%s", describe(config, run.manifest, trained, total))

    loggers: list[Logger] = [CurvesLogger(run.path / "curves.csv")]
    if config.logger.name == "wandb" and run.is_main:
        loggers.append(start_wandb(config, run.path, depth, pretrained.blocks, run.manifest["wandb_id"], group))
    best = KeepBest(module, config)
    dynamics = follow_sentences(config, datamodule, clock)
    callbacks: list[Callback] = [best, clock, *([] if dynamics is None else [dynamics])]
    if isinstance(averaging := config.remedy.get("averaging"), Averaging):
        steps = datamodule.training_steps(config.trainer.max_epochs, config.trainer.accumulate_grad_batches)
        callbacks.append(AverageWeights(averaging.last_share, steps))
    if report is not None:
        callbacks.append(Pruning(config.callbacks.monitor, report))
    trainer = build_trainer(config, run.path, loggers, callbacks)

    resume_from = state_to_resume(config, run)
    os.environ[PARENT] = str(os.getpid())  # of the processes that Lightning starts
    try:
        trainer.fit(module, datamodule, ckpt_path=resume_from, weights_only=True)
    except RuntimeError as error:
        if sentence := lost_process(error):
            raise sentence from error
        raise
    finally:
        del os.environ[PARENT]
    if not run.is_main:
        return {}

    if config.trainer.strategy == "fsdp":  # its module holds shards only; the best state was gathered
        module = build_classifier(config, load_encoder(config.model, cache_dir), classes)
    module.load_state_dict(best.state, strict=False)
    if isinstance(wise_ft := config.remedy.get("wise_ft"), WiseFt):
        best.logits = None
        move_towards_start(module, pretrained, wise_ft.alpha)
    pointer = {
        "model": pretrained.model.name_or_path or config.model.source,
        "weights_hash": pretrained.weights_hash,
        "tokenizer_hash": pretrained.tokenizer_hash,
        "strategy": config.strategy.name,
        "frozen_depth": depth,
        "layer": layer,
        "C": C,
        "class_names": data.class_names,
        "update_scale": update_scale(config),
    }
    save_checkpoint(module, run.path / "checkpoint", pointer)

    metrics: dict[str, float] = {}
    tables: list[pd.DataFrame] = []
    known_words = words_in(data.splits["train"])
    for split in ("train", "validation", *(["test"] if config.test else [])):
        if split == "validation" and best.logits is not None:
            logits = best.logits  # of the same weights, at the end of their epoch
        else:
            logits = predict(module, datamodule, split, device, config.trainer.precision)
        metrics |= score(logits, datamodule.labels(split), {"validation": "val"}.get(split, split))
        if split != "train":
            tables.append(prediction_table(split, data.splits[split], logits, data.class_names, known_words))
    sentences = trainer.fit_loop.epoch_progress.current.processed * len(data.splits["train"])  # type: ignore[attr-defined]
    metrics |= {
        "trained_parameters": trained,
        "total_parameters": total,
        "fit_seconds": round(clock.seconds, 3),
        "examples_per_second": round(sentences / clock.seconds, 3),
        "peak_memory_mb": round(peak_memory_mb(device), 1),
    }
    write_parquet(run.path / "predictions.parquet", pd.concat(tables, ignore_index=True))
    if dynamics is not None:
        write_parquet(run.path / "dynamics.parquet", dynamics_table(data.splits["train"], *dynamics.epochs()))
    write_json(run.path / "metrics.json", metrics)
    module.to(cpu)
    if config.measure:
        from frostline.commands.measure import measure_run  # not before: it takes a second, and few runs are measured

        failed = measure_run(run.path, config.measure, config.paths, once)
        run.record(measures={"asked": sorted(config.measure), "failed": failed})
    return metrics


def follow_sentences(config: Config, datamodule: SentenceModule, clock: Resume) -> TrainingDynamics | None:
    """Return what follows the training sentences from epoch to epoch; None if it is not asked for, or there are no epochs."""
    if config.callbacks.dynamics and isinstance(config.optimizer, Lbfgs):
        log.warning(
            "callbacks.dynamics follows sentences from epoch to epoch, but the exact probe of optimizer=lbfgs is solved at once; "
            "this run writes no dynamics.parquet (optimizer=adamw trains a probe in epochs)."
        )
        return None
    return TrainingDynamics(datamodule, config.trainer.precision, clock) if config.callbacks.dynamics else None


def update_scale(config: Config) -> float | None:
    """Return the scale of low-rank updates; None where there are none."""
    return config.strategy.alpha / config.strategy.rank if isinstance(config.strategy, LoraStrategy) else None


def state_to_resume(config: Config, run: RunDirectory) -> Path | None:
    """Return the checkpoint to resume from, None to start afresh.

    Raises:
        FrostlineError: ``ckpt_path`` names no readable checkpoint; the data or the weights are not those of the killed run.
    """
    if config.ckpt_path is not None:
        if not is_readable(Path(config.ckpt_path)):
            raise FrostlineError(
                f"ckpt_path: '{config.ckpt_path}' is missing, or is no whole Lightning checkpoint of tensors and plain values; "
                "nothing else is ever loaded."
            )
        return Path(config.ckpt_path)
    if not run.last_checkpoint.is_file():
        return None
    for key in ("data_hashes", "weights_hash"):
        if run.is_main and run.before.get(key) != run.manifest[key]:
            raise FrostlineError(
                f"'{run.path}' cannot be resumed: its {key.replace('_', ' ')} changed since it was killed; undo the change, or "
                "remove the directory."
            )
    if not is_readable(run.last_checkpoint):
        log.warning("'%s' is damaged; the run starts afresh.", run.last_checkpoint)
        return None
    return run.last_checkpoint


def frozen_part(module: Classifier) -> tuple[int, int | None, float | None]:
    """Return a module's effective frozen depth and, for a probe, its layer and regularisation."""
    if isinstance(module, FrozenClassifier):
        return module.encoder.config.num_hidden_layers, module.layer, module.C
    assert isinstance(module, PartialClassifier)
    return module.encoder.depth, None, None


def describe(config: Config, manifest: dict[str, Any], trained: int, total: int) -> str:
    """Return what will run, in one line for the terminal."""
    probe = f", layer {manifest['layer']}" if manifest["layer"] is not None else ""
    words = ", ".join(run_tags(config, manifest["frozen_depth"], manifest["blocks"]))
    truncated = sum(manifest["truncated"].values())
    cut = f"; {truncated:,} sentences truncated to {config.data.max_length} tokens" if truncated else ""
    sentences = manifest["sentences"]
    return (
        f"{words}{probe}: {trained:,} of {total:,} parameters train on {sentences['train']:,} sentences of {config.data.label} "
        f"(validation {sentences['validation']:,}, test {sentences['test']:,}){cut}"
    )
