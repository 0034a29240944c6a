"""The expected time of jobs, from what their parts take on this machine, or from a throughput that is stated."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import frostline.commands.train  # noqa: F401  all that a run imports, which is part of the start of its process
from frostline.commands.plan import Part
from frostline.commands.plan.calibration import Speed, Throughput, device_of, seconds_to_encode, speed_of, throughput_of
from frostline.commands.plan.kinds import Kind, encoder_key
from frostline.commands.plan.work import Encoding, Job, encodings, parameter_counts
from frostline.data.module import SentenceModule
from frostline.data.sentences import load_data
from frostline.encoder.cache import ActivationCache
from frostline.encoder.load import Pretrained, has_weights, load_encoder, stand_in
from frostline.encoder.outline import outline
from frostline.encoder.quick import quicken
from frostline.once import Once
from frostline.runs.manifest import surroundings
from frostline.runs.wandb import finish_wandb, start_wandb
from frostline.schema import Config, HubModel, PlanOptions
from frostline.terminal import quieten

STAND_IN_BLOCKS = 2


class Forecast:
    """Reads the sentences of jobs and times their parts, each once.

    Args:
        options: of the command.
    """

    def __init__(self, options: PlanOptions):
        quieten()
        self.options, self.once = options, Once()
        self._encoders: dict[str, Pretrained] = {}
        self._sentences: dict[str, tuple[SentenceModule, float]] = {}
        self._throughputs: dict[str, Throughput] = {}
        self._loading: dict[str, float] = {}  # seconds, by encoder and by data set
        self._bookkeeping: dict[str, float] = {}  # seconds a job, by logger

    def read(self, config: Config) -> Job:
        """Return a job with its sentences.

        Raises:
            FrostlineError: as a run, of its encoder and its sentences.
        """
        cache_dir, encoder = Path(config.paths.cache_dir), self.encoder(config)
        same = replace(config.data, batch_size=None, batch_tokens=None)
        key = json.dumps([asdict(same), encoder_key(config.model), config.seed], sort_keys=True)
        seconds = []
        for _ in range(0 if key in self._sentences else 2):  # the second time is what a job takes
            began = time.perf_counter()
            data = load_data(config.data, cache_dir, config.seed, self.once)
            tokenizer = encoder.tokenizer, encoder.tokenizer_hash
            module = SentenceModule(data, *tokenizer, config.data.max_length, None, config.seed, cache_dir)
            seconds.append(time.perf_counter() - began)
            self._sentences[key] = module, seconds[-1]
        if seconds:
            self._loading.setdefault(config.data.label, max(0.0, seconds[0] - seconds[1]))
        return Job(config, outline(config.model, cache_dir), *self._sentences[key])

    def encoder(self, config: Config) -> Pretrained:
        """Return a job's encoder; without its weights, if they are not needed or not here, a stand-in."""
        key, cache_dir = encoder_key(config.model), Path(config.paths.cache_dir)
        if key not in self._encoders:
            began = time.perf_counter()
            if self.is_told(config):
                self._encoders[key] = stand_in(config.model, cache_dir, STAND_IN_BLOCKS)
            else:
                self._encoders[key] = load_encoder(config.model, cache_dir)
            quicken(self._encoders[key].model, device_of(config))  # as every run does; what the cache holds goes by it, too
            self._loading[key] = time.perf_counter() - began
        return self._encoders[key]

    def is_told(self, config: Config) -> bool:
        """Whether a job's time is told from its operations: on another machine, or with an encoder whose weights are not here."""
        return isinstance(config.model, HubModel) and (self.options.gflops is not None or not has_weights(config.model))

    def parameters(self, job: Job) -> tuple[int, int]:
        """Return how many parameters of a job train, and how many there are in all."""
        return parameter_counts(job)

    def shared(self, jobs: Sequence[Job]) -> list[Encoding]:
        """Return what jobs ask of the encoders' frozen parts."""
        return encodings(jobs)

    def sharing(self, jobs: Sequence[Job]) -> Part:
        """Return what is loaded for the jobs of a process, which share it as long as they follow one another."""
        keys = [(encoder_key(job.config.model), job.config.data.label) for job in jobs]
        changes = [key for before, now in zip([("", ""), *keys], keys, strict=False) for key in set(now) - set(before)]
        total = 0.0 if self.options.gflops else sum(self._loading[key] for key in changes)
        return Part("weights and sentences", total)

    def encoding(self, encoding: Encoding) -> Part:
        """Return the pass over what the cache lacks."""
        first, lengths = encoding.jobs[0], encoding.lengths
        if self.options.gflops or self.is_told(first.config):
            missing, seconds = len(lengths), encoding.flops / self.throughput(first).scoring
        else:
            config, pretrained = first.config, self.encoder(first.config)
            cache = ActivationCache(
                config.cache, Path(config.paths.cache_dir), pretrained, config.trainer.precision, device_of(config)
            )
            keys = cache.lacking(encoding.sentences, encoding.wanted)
            missing = len(keys)
            seconds = seconds_to_encode(encoding, pretrained, keys, self.options.steps)
        return Part(f"encoding pass of {first.config.model.name}: {missing:,} sentences", seconds)

    def jobs(self, kind: Kind, jobs: Sequence[Job]) -> Part:
        """Return what the jobs of a kind take besides what they share."""
        longest = max(jobs, key=lambda job: job.work.flops.total)
        speed: Speed | Throughput
        if self.options.gflops or self.is_told(longest.config):
            speed = self.throughput(longest)
        else:
            speed = speed_of(longest.config, self.encoder(longest.config), longest.sentences, self.options.steps)
        own = 0.0 if self.options.gflops else self.bookkeeping(longest.config)
        each = [own + (job.reading if own else 0.0) + speed.seconds(job.work) for job in jobs]
        for i, job in enumerate(jobs):
            if job.work.encoded and isinstance(speed, Speed):
                each[i] += self.own_pass(job)
        peak = speed.peak_mb if isinstance(speed, Speed) else None
        return Part(f"{kind.traits['strategy']}, depth {kind.traits['frozen depth']}", sum(each), tuple(each), peak)

    def own_pass(self, job: Job) -> float:
        """Return how long a probe without a cache encodes its sentences."""
        alone = Job(replace(job.config, cache=replace(job.config.cache, mode="memory")), job.outline, job.sentences, 0.0)
        (encoding,) = encodings([alone])
        return seconds_to_encode(encoding, self.encoder(job.config), set(encoding.sentences), self.options.steps)

    def throughput(self, job: Job) -> Throughput:
        """Return what is stated, or what a stand-in of the job's encoder reaches."""
        if self.options.gflops:
            return Throughput(self.options.gflops * 1e9, self.options.gflops * 1e9)
        key = encoder_key(job.config.model)
        if key not in self._throughputs:
            shape = replace(job.outline.shape, blocks=STAND_IN_BLOCKS)
            encoder = self.encoder(job.config)
            self._throughputs[key] = throughput_of(job.config, encoder, shape, job.sentences, self.options.steps)
        return self._throughputs[key]

    def bookkeeping(self, config: Config) -> float:
        """Return how long a job's manifest and its W&B run take; the latter offline, whatever it will be then."""
        if config.logger.name not in self._bookkeeping:
            began = time.perf_counter()
            surroundings(device_of(config))
            self._bookkeeping[config.logger.name] = time.perf_counter() - began
            if config.logger.name == "wandb":
                self._bookkeeping["wandb"] += seconds_of_wandb(config)
        return self._bookkeeping[config.logger.name]

    def notes(self, jobs: Sequence[Job]) -> list[str]:
        """Return what a reader must know of the times, a sentence a note."""
        configs = [job.config for job in jobs]
        said = []
        told = sorted({config.model.name for config in configs if self.is_told(config)})
        if self.options.gflops:
            said.append(
                f"Times are operations over the {self.options.gflops:,.0f} GFLOP/s that plan.gflops states: nothing was "
                "measured, and start, reading and writing are left out."
            )
        elif told:
            said.append(
                f"The weights of {', '.join(told)} are not on this machine: times are told from operations, at the rate of "
                f"{STAND_IN_BLOCKS} random blocks of the same shape."
            )
        if any(config.callbacks.early_stopping_patience for config in configs):
            said.append("Early stopping may end jobs sooner.")
        if any(config.measure for config in configs):
            said.append("What the measures take is not in it.")
        if any(config.trainer.devices != 1 or config.trainer.num_nodes > 1 for config in configs):
            said.append("Times are those on one device.")
        return said


def seconds_of_wandb(config: Config) -> float:
    """Return how long it takes to start and finish a W&B run, offline, once its service is running."""
    before = os.environ.get("WANDB_MODE")
    os.environ["WANDB_MODE"] = before if before == "disabled" else "offline"
    try:
        for number in range(2):
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                start_wandb(config, Path(folder), 0, 1, f"plan-{number}", None)
                finish_wandb({}, exit_code=0)
    finally:
        del os.environ["WANDB_MODE"]
        if before is not None:
            os.environ["WANDB_MODE"] = before
    return time.perf_counter() - began
