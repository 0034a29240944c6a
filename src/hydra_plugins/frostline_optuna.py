"""A sweeper that searches: each job's values are drawn where earlier jobs did well on validation, and poor jobs end early.

Hydra finds plugins in the namespace package ``hydra_plugins`` only, so this file lives here; what it does with Optuna is in
:mod:`frostline.commands.search`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class OptunaSweeper(BasicSweeper):  # type: ignore[misc]
    """A search with Optuna; see ``conf/hydra/sweeper/optuna.yaml``.

    Args:
        max_batch_size: jobs to draw and launch at once; None for as many as run side by side on this machine.
        params: what is searched, and fixed values, by their keys; the command line goes before them.
        options: the other keys of the file.
    """

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None, **options: Any):
        super().__init__(max_batch_size, params)
        self.options = OmegaConf.create(options)

    def sweep(self, arguments: list[str]) -> None:
        """Check the ends of everything that is searched, then draw and launch job after job.

        Raises:
            FrostlineError: Optuna is not installed; nothing is searched, or what cannot be; a job's configuration is not valid;
                the directory holds another search; or the launcher starts no job.
        """
        from frostline.commands import search
        from frostline.commands.launchers import launch_jobs, side_by_side
        from frostline.commands.preflight import check_jobs
        from frostline.commands.sweep_facts import write_facts
        from frostline.config import identity
        from frostline.errors import FrostlineError
        from frostline.runs.files import write_text
        from frostline.runs.jobs import SWEEP, Job, read_jobs, record_jobs

        search.require_optuna()
        assert self.config is not None
        sweep_dir, command = Path(self.config.hydra.sweep.dir), sys.argv[1:]  # which jobs of this process change
        at_once, batch = side_by_side(self.config.hydra)
        fixed, space = self.space(arguments)
        keys = list(space)
        configs = check_jobs([(sweep_dir / "none", self.compose(job, 0)) for job in corners(fixed, space)])
        if len({(config.callbacks.monitor, config.callbacks.mode) for config in configs}) > 1:
            raise FrostlineError("callbacks.monitor and callbacks.mode say what a search is for, so they cannot be searched.")
        callbacks = configs[0].callbacks

        sweep_dir.mkdir(parents=True, exist_ok=True)
        describes = {"values": fixed, "space": {key: str(space[key]) for key in keys}, "monitor": callbacks.monitor}
        study = search.open_study(sweep_dir, describes, callbacks.mode)
        write_text(sweep_dir / SWEEP, OmegaConf.to_yaml(self.config))
        write_facts(sweep_dir, configs, self.options.n_trials, at_once)

        def run(trials: Sequence[tuple[int, search.Values]]) -> bool:
            composed = [(number, self.compose(with_values(fixed, values), number)) for number, values in trials]
            folders = [sweep_dir / str(job.hydra.sweep.subdir) for _, job in composed]
            checked = check_jobs([(folder, job) for folder, (_, job) in zip(folders, composed, strict=True)])
            jobs = [
                Job(number, folder, with_values(fixed, values), identity(config))
                for (number, values), folder, config in zip(trials, folders, checked, strict=True)
            ]
            known = {job.folder: job for job in [*read_jobs(sweep_dir), *jobs]}
            record_jobs(sweep_dir, list(known.values()), command)
            goes_on = launch_jobs(self.launcher, jobs, trials[0][0], sweep_dir)
            for job in jobs:
                search.tell(study, job.number, job.folder, callbacks.monitor)
            return goes_on

        size, begun = batch or at_once or 1, search.open_trials(study, keys)
        goes_on = all(run(begun[i : i + size]) for i in range(0, len(begun), size))
        while goes_on and (left := self.options.n_trials - search.count(study, keys)) > 0:
            goes_on = run([search.ask(study, space, self.options) for _ in range(min(size, left))])
        print(search.best_in_words(study, callbacks.monitor))

    def space(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
        """Return the overrides that all jobs share, and what is searched, by its key.

        Raises:
            FrostlineError: nothing is searched, or the seed.
        """
        from frostline.errors import FrostlineError

        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        words = [f"{key}={value}" for key, value in self.params.items()] + list(arguments)
        overrides = {override.get_key_element(): override for override in parser.parse_overrides(words)}
        searched = {key: override for key, override in overrides.items() if override.is_sweep_override()}
        if not searched:
            raise FrostlineError(
                "A search needs something to search: 'optimizer.lr=tag(log, interval(1e-5, 1e-3))', or choice(…), or range(…)."
            )
        if "seed" in searched:
            raise FrostlineError(
                "The seed cannot be searched: that would choose the luckiest; run the best values with several seeds afterwards."
            )
        fixed = [f"{key}={override.get_value_element_as_str()}" for key, override in overrides.items() if key not in searched]
        return fixed, {key: distribution(override) for key, override in searched.items()}

    def compose(self, job: Sequence[str], number: int) -> DictConfig:
        """Return a job's composed configuration, ``hydra`` node included."""
        assert self.hydra_context is not None
        composed: DictConfig = self.hydra_context.config_loader.load_sweep_config(self.config, list(job))
        with open_dict(composed):
            composed.hydra.job.num = number
        return composed


def distribution(override: Override) -> BaseDistribution:
    """Return what Optuna draws from for an interval, a range or a choice of Hydra's grammar.

    Raises:
        FrostlineError: it is empty, or a logarithmic one includes 0.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from frostline.errors import FrostlineError

    value, log = override.value(), False
    try:
        if isinstance(value, IntervalSweep):
            low, high, step, log = value.start, value.end, None, "log" in value.tags
        elif isinstance(value, RangeSweep):
            values = sorted(value.range())
            low, high, step = values[0], values[-1], abs(value.step)
        else:
            return CategoricalDistribution(list(override.sweep_string_iterator()))
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log, step=step or 1)
        return FloatDistribution(low, high, log=log, step=step)
    except (ValueError, IndexError) as error:
        raise FrostlineError(f"'{override.input_line}' cannot be searched: {str(error) or 'it is empty'}") from None


def corners(fixed: Sequence[str], space: dict[str, BaseDistribution]) -> list[list[str]]:
    """Return jobs in which every choice, and both ends of every interval, occur at least once."""
    ends = {key: list(getattr(of_key, "choices", None) or (of_key.low, of_key.high)) for key, of_key in space.items()}  # type: ignore[attr-defined]
    return [
        with_values(fixed, {key: values[min(i, len(values) - 1)] for key, values in ends.items()})
        for i in range(max(map(len, ends.values())))
    ]


def with_values(fixed: Sequence[str], values: dict[str, Any]) -> list[str]:
    """Return a job's overrides."""
    return [*fixed, *(f"{key}={value}" for key, value in values.items())]
