"""How long the parts of a run take on this machine: a few real steps and passes over sentences of the run's own lengths.

What is timed is a sample of batches, spread evenly over all batches sorted by size, so that the sample's mean is that of all. The
largest batch comes first: it warms up, is not counted, and shows the peak of memory.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frostline.commands.frozen import frozen_features, use_cached_states
from frostline.commands.plan.sample import Clock, Sample, spread
from frostline.commands.plan.work import Encoding, Work, padded, scoring_batches, training_batches
from frostline.costs import Shape, forward
from frostline.data.module import SentenceModule
from frostline.encoder.cache import ActivationCache
from frostline.encoder.load import Pretrained
from frostline.encoder.passes import batches_of
from frostline.runs.curves import CurvesLogger
from frostline.runs.memory import peak_memory_mb, reset_peak_memory
from frostline.schema import AdamW, Config, Constant, FrozenStrategy, FullStrategy, GradualStrategy, Lbfgs, LpFtStrategy, Sgd
from frostline.strategies import Classifier, PartialClassifier, build_classifier, build_probe, probed_layers
from frostline.strategies.checkpoint import save_checkpoint
from frostline.strategies.lp_ft import start_from_probe
from frostline.strategies.rehearsal import attach_reading
from frostline.strategies.trainer import KeepBest, Resume, build_trainer

PROBE_SENTENCES = 20_000  # a probe on more is fitted on so many, and its time scaled up
RATE = 1e-8  # of learning: as fast as any, and nothing diverges


@dataclass(frozen=True)
class Speed:
    """What one kind of job takes on this machine, in seconds.

    Attributes:
        start: from reading weights to the first step, and for writing the checkpoint at the end.
        step: a batch of training.
        epoch: what an epoch takes besides its steps and its scoring: keeping the best weights, writing the state to resume from.
        token: a token of scoring, padding counted.
        sentence: an exact probe's share of each training sentence; 0 for all that trains in steps.
        peak_mb: the largest resident memory meanwhile.
    """

    start: float
    step: float
    epoch: float
    token: float
    sentence: float
    peak_mb: float

    def seconds(self, work: Work) -> float:
        """Return how long a job's training and scoring take."""
        epochs = 0 if self.sentence else work.epochs
        steps = 0 if self.sentence else work.steps
        return self.start + steps * self.step + epochs * self.epoch + work.scored * self.token + work.sentences * self.sentence


@dataclass(frozen=True)
class Throughput:
    """How fast floating-point operations are done; what is not told from it takes no time.

    Attributes:
        training: FLOP/s of training steps.
        scoring: of passes without gradient.
    """

    training: float
    scoring: float

    def seconds(self, work: Work) -> float:
        """Return how long a job's training and scoring take."""
        return (work.flops.steps + work.flops.backward) / self.training + work.flops.scoring / self.scoring


def device_of(config: Config) -> torch.device:
    """Return where a job runs."""
    return torch.device("cuda" if config.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def speed_of(config: Config, pretrained: Pretrained, sentences: SentenceModule, steps: int) -> Speed:
    """Time some steps and scoring passes of a kind of job; nothing is left on disk.

    Args:
        config: a job of this kind.
        pretrained: its encoder, quickened.
        sentences: its sentences.
        steps: how many batches are timed of each.
    """
    config, device, classes = _alone(config), device_of(config), len(sentences.data.class_names)
    cache = ActivationCache(config.cache, Path(), pretrained, config.trainer.precision, device)
    reset_peak_memory()
    try:
        if isinstance(config.strategy, FrozenStrategy):
            whole, features = _like_all(config, cache, sentences, probed_layers(config.strategy.layer, pretrained), steps)
            began = time.perf_counter()
            module: Classifier = build_probe(config, pretrained, whole, classes, features)  # type: ignore[arg-type]
            sample = whole if isinstance(config.optimizer, Lbfgs) else Sample(whole, training_sample(config, whole, steps))
        else:
            sample = Sample(sentences, training_sample(config, sentences, steps))
            use_cached_states(config, cache, sample)  # type: ignore[arg-type]
            if isinstance(config.strategy, LpFtStrategy):
                whole, features = _like_all(config, cache, sentences, [pretrained.blocks], steps)
            if config.remedy.keys() & {"ewc", "replay"}:  # what is fitted for these once is kept on disk, too
                build_remedies(build_classifier(config, pretrained, classes), config, pretrained, device)
            began = time.perf_counter()
            module = build_classifier(config, pretrained, classes)
            if isinstance(config.strategy, LpFtStrategy):
                labels = {name: split.labels for name, split in whole.splits.items()}
                start_from_probe(module, {name: of[0] for name, of in features.items()}, labels, classes, config.strategy.C)
            build_remedies(module, config, pretrained, device)
        return _timed(config, module, sample, began, device)
    finally:
        cache.store.forget(cache.key)


def build_remedies(module: Classifier, config: Config, pretrained: Pretrained, device: torch.device) -> None:
    """Give a module's remedies what they need."""
    if isinstance(module, PartialClassifier) and module.remedies is not None:
        attach_reading(module.remedies, config, pretrained, module.encoder, device)


def training_sample(config: Config, of: SentenceModule | Sample, steps: int) -> dict[str, list[list[int]]]:
    """Return some batches of training and of validation, as row numbers."""
    lengths = {name: of.splits[name].tokens.lengths for name in ("train", "validation")}
    batches = {"train": training_batches(config, lengths["train"]), "validation": scoring_batches(lengths["validation"])}
    return {name: spread(these, [int(padded([b], lengths[name]).sum()) for b in these], steps) for name, these in batches.items()}


def _like_all(
    config: Config, cache: ActivationCache, sentences: SentenceModule, layers: list[int], steps: int
) -> tuple[Sample, dict[str, Tensor]]:
    """Return training and validation in one batch each, and features like those that the frozen encoder has of them."""
    lengths = {name: sentences.splits[name].tokens.lengths for name in ("train", "validation")}
    whole = Sample(sentences, {name: [list(range(min(len(of), PROBE_SENTENCES)))] for name, of in lengths.items()})
    few = {name: scoring_batches(of) for name, of in lengths.items()}
    small = Sample(sentences, {name: spread(of, [len(batch) for batch in of], steps) for name, of in few.items()})
    features = frozen_features(config, cache, small, layers, small.splits)  # type: ignore[arg-type]
    return whole, whole.enlarge(small, features)


def _timed(config: Config, module: Classifier, sample: Sample, began: float, device: torch.device) -> Speed:
    """Fit for an epoch (for all, where epochs differ), and take the times apart."""
    clock, solves, built = Clock(), isinstance(config.optimizer, Lbfgs), time.perf_counter() - began
    if not (solves or isinstance(config.strategy, GradualStrategy)):
        config = replace(config, trainer=replace(config.trainer, max_epochs=1))
    parent = Path(config.paths.cache_dir)
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="plan-", dir=parent) as folder:
        best = KeepBest(module, config)
        trainer = build_trainer(config, Path(folder), [CurvesLogger(Path(folder) / "curves.csv")], [best, Resume(), clock])
        trainer.fit(module, sample)
        fitted = time.perf_counter()
        module.load_state_dict(best.state, strict=False)
        save_checkpoint(module, Path(folder) / "checkpoint", {})
        written = time.perf_counter() - fitted
    peak = peak_memory_mb(device)
    module.to("cpu")
    if solves:
        solved = built + sum(clock.steps) + sum(clock.scored)
        return Speed(fitted - began - solved + written, 0.0, 0.0, 0.0, solved / len(sample.splits["train"]), peak)
    epochs = trainer.current_epoch
    rest = fitted - clock.started - sum(clock.steps) - sum(clock.scored)
    kept = {name: np.array(of).reshape(epochs, -1)[:, 1:] for name, of in (("train", clock.steps), ("validation", clock.scored))}
    tokens = 0 if sample.splits["validation"].features is not None else epochs * sample.tokens("validation")
    scored = float(kept["validation"].sum()) / tokens if tokens else 0.0
    return Speed(clock.started - began + written, float(kept["train"].mean()), rest / epochs, scored, 0.0, peak)


def throughput_of(config: Config, pretrained: Pretrained, shape: Shape, sentences: SentenceModule, steps: int) -> Throughput:
    """Return how fast full fine-tuning of ``pretrained`` computes, and scoring with it: for encoders of the same width.

    Args:
        config: of a job with the encoder that ``pretrained`` stands for.
        pretrained: as :func:`frostline.encoder.load.stand_in` makes it.
        shape: its own.
        sentences: of the job.
        steps: how many batches are timed.
    """
    adamw = AdamW("adamw", 32, RATE, 0.01, [0.9, 0.999], 1e-8, 1.0, 1.0)
    size = config.data.batch_size if isinstance(config.data.batch_size, int) else adamw.default_batch_size
    config = replace(
        config,
        data=replace(config.data, batch_size=size),
        model=replace(config.model, pooling="mean"),  # of all tokens, as the formula counts
        strategy=FullStrategy("full", RATE, 1),
        optimizer=adamw,
        scheduler=Constant("constant"),
        remedy={},
    )
    speed = speed_of(config, pretrained, sentences, steps)
    lengths = {name: sentences.splits[name].tokens.lengths for name in ("train", "validation")}
    batches = training_batches(config, lengths["train"])
    step = 3 * forward(shape, shape.blocks, padded(batches, lengths["train"])) / len(batches)
    scored = padded(scoring_batches(lengths["validation"]), lengths["validation"])
    token = forward(shape, shape.blocks, scored) / int(scored.sum())
    return Throughput(step / speed.step, token / speed.token)


def seconds_to_encode(encoding: Encoding, pretrained: Pretrained, keys: set[bytes], steps: int) -> float:
    """Return how long the pass over some sentences of an encoding takes, from ``steps`` batches of it."""
    missing = {key: encoding.sentences[key] for key in encoding.sentences if key in keys}
    if not missing:
        return 0.0
    config = _alone(encoding.jobs[0].config)
    batches = batches_of(missing)
    first, *others = spread(batches, [sum(missing[key][0].lengths[missing[key][1]] for key in batch) for batch in batches], steps)
    cache = ActivationCache(config.cache, Path(), pretrained, config.trainer.precision, device_of(config))
    try:
        for timed in ([first], others):
            cache.store.forget(cache.key)
            rows = [missing[key] for batch in timed for key in batch]
            began = time.perf_counter()
            cache.prepare([tokens.take([row]) for tokens, row in rows], encoding.wanted)
            seconds = time.perf_counter() - began
    finally:
        cache.store.forget(cache.key)
    return seconds / len(others) * len(batches)


def _alone(config: Config) -> Config:
    """The same job on one device, without bars and early end, with a cache in memory, at a rate that changes nothing."""
    optimizer = config.optimizer
    return replace(
        config,
        trainer=replace(config.trainer, devices=1, num_nodes=1, strategy="auto", progress_bar=False),
        callbacks=replace(config.callbacks, early_stopping_patience=None),
        cache=replace(config.cache, mode="off" if config.cache.mode == "off" else "memory", max_size="1000TB"),
        optimizer=replace(optimizer, lr=RATE) if isinstance(optimizer, AdamW | Sgd) else optimizer,
    )
