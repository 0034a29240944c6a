"""``frostline plan``: what a run or a sweep would do, and how long it would take, before it does anything."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from frostline.commands.launch import compose_jobs
from frostline.commands.plan.kinds import kinds_of
from frostline.commands.preflight import check_jobs, check_surroundings
from frostline.config import read_plan, validate
from frostline.schema import Config

if TYPE_CHECKING:  # torch takes seconds, and the list of jobs needs none of it
    from frostline.commands.plan.work import Encoding, Job

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A part of the expected time, in seconds.

    Attributes:
        what: in words.
        total: of all jobs.
        each: of every job, where it is theirs.
        peak_mb: the largest resident memory, if it was seen.
    """

    what: str
    total: float
    each: tuple[float, ...] = ()
    peak_mb: float | None = None


@dataclass(frozen=True)
class Plan:
    """What is expected.

    Attributes:
        jobs: by kind.
        parameters: by kind: how many train, and how many there are.
        encodings: the passes over sentences that jobs share.
        parts: of the time.
    """

    jobs: list[list[Job]]
    parameters: list[tuple[int, int]]
    encodings: list[Encoding]
    parts: list[Part]

    @property
    def seconds(self) -> float:
        """In all."""
        return sum(part.total for part in self.parts)


def plan(words: Sequence[str]) -> Plan:
    """Print what a command line of ``frostline train`` stands for, and return it.

    Args:
        words: Hydra's overrides and options, such as ``-m``, and the keys of ``plan``.

    Raises:
        FrostlineError: as ``frostline train`` with these words.
    """
    from frostline.commands.plan import tables as shown

    console = Console()
    console.width = max(console.width, 110)  # so that a log file gets whole lines
    before, began = time.process_time(), time.perf_counter()
    composed, is_sweep = compose_jobs("plan", words)
    options = read_plan(composed[0][1])
    composed = [(run_dir, of_train(job)) for run_dir, job in composed]
    configs = check_jobs(composed) if is_sweep else [_checked(composed[0][1])]
    composing = time.perf_counter() - began
    kinds = kinds_of(configs)
    shown.print_jobs(kinds, console)

    began = time.perf_counter()
    from frostline.commands.plan.forecast import Forecast  # imports all that a run does

    start = before + 2 * composing + time.perf_counter() - began  # a run composes everything twice, too: to check and to start it
    forecast = Forecast(options)
    read = {id(config): forecast.read(config) for config in shown_progress(configs, "Reading sentences")}
    jobs = [[read[id(config)] for config in kind.configs] for kind in kinds]
    parameters = [forecast.parameters(of_kind[0]) for of_kind in jobs]
    shown.print_work(kinds, jobs, parameters, console)
    in_order = [read[id(config)] for config in configs]
    encodings = forecast.shared(in_order)
    shown.print_cache(encodings, console)
    console.print()

    parts = [Part("start of the process", start)] if options.gflops is None else []
    parts.append(forecast.sharing(in_order))
    parts += [forecast.encoding(encoding) for encoding in shown_progress(encodings, "Timing encoding passes")]
    for kind, of_kind in shown_progress(list(zip(kinds, jobs, strict=True)), "Timing steps"):
        parts.append(forecast.jobs(kind, of_kind))
    found = Plan(jobs, parameters, encodings, [part for part in parts if part.total])
    shown.print_time(found, forecast.notes(in_order), console)
    return found


def shown_progress(items: Sequence[T], what: str) -> Iterable[T]:
    """Go through some items, with a bar."""
    return track(items, what, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def of_train(composed: DictConfig) -> DictConfig:
    """Return the configuration of ``frostline train`` in one of ``frostline plan``."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "plan"])


def _checked(composed: DictConfig) -> Config:
    config = validate(composed)
    check_surroundings(config)
    return config
