"""Frostline's sweeper: the union of several grids, and every job checked before the first one starts.

Hydra finds plugins in the namespace package ``hydra_plugins`` only, so this file lives here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.progress import track


class GridsSweeper(BasicSweeper):  # type: ignore[misc]
    """Hydra's basic sweeper, with a list of grids in place of the one.

    Every grid is a mapping of keys to comma-separated values, and stands for all their combinations together with the
    command line's. A key on the command line replaces that key in every grid.

    Args:
        max_batch_size: jobs to hand to the launcher at once; None for all, or for as many as there are cores where it would
            start all of them at once.
        params: as in the basic sweeper: keys that every grid shares.
        grids: the grids; empty for the command line alone.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        grids: Sequence[dict[str, str]] = (),
    ):
        super().__init__(max_batch_size, params)
        self.grids = [dict(grid) for grid in grids] or [{}]

    def sweep(self, arguments: list[str]) -> None:
        """Check all jobs, then launch them.

        Raises:
            FrostlineError: a job's configuration is not valid, its directory holds another run, or the launcher starts none.
        """
        from frostline.commands.launchers import launch_jobs, side_by_side
        from frostline.commands.preflight import check_jobs
        from frostline.commands.sweep_facts import write_facts
        from frostline.config import identity
        from frostline.runs.files import write_text
        from frostline.runs.jobs import SWEEP, Job, record_jobs, unfinished

        assert self.config is not None
        sweep_dir = Path(self.config.hydra.sweep.dir)
        at_once, batch = side_by_side(self.config.hydra)
        jobs, composed = self.jobs(arguments)
        folders = [sweep_dir / str(job.hydra.sweep.subdir) for job in composed]
        configs = check_jobs(list(zip(folders, composed, strict=True)))

        each = zip(folders, jobs, configs, strict=True)
        listed = [Job(number, folder, job, identity(config)) for number, (folder, job, config) in enumerate(each)]
        record_jobs(sweep_dir, listed, sys.argv[1:])
        write_text(sweep_dir / SWEEP, OmegaConf.to_yaml(self.config))
        left = unfinished(listed)
        if len(left) < len(listed):
            print(f"{len(listed) - len(left)} of {len(listed)} jobs in {sweep_dir} are finished already.", file=sys.stderr)
        write_facts(sweep_dir, [configs[job.number] for job in left], len(left), at_once)
        size = batch or max(1, len(left))
        for first in range(0, len(left), size):
            if not launch_jobs(self.launcher, left[first : first + size], first, sweep_dir):
                break

    def jobs(self, arguments: Sequence[str]) -> tuple[list[list[str]], list[DictConfig]]:
        """Return every job's overrides and its composed configuration, ``hydra`` included; nothing is launched or written."""
        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        jobs: list[list[str]] = []
        for grid in self.grids:
            words = [f"{k}={v}" for k, v in {**self.params, **grid}.items()] + list(arguments)
            jobs += [job for job in self.split_arguments(parser.parse_overrides(words), None)[0] if job not in jobs]
        composed = []
        console, is_quiet = Console(stderr=True), not sys.stderr.isatty()
        for number, job in enumerate(track(jobs, "Composing jobs", console=console, transient=True, disable=is_quiet)):
            composed.append(loader.load_sweep_config(self.config, job))
            with open_dict(composed[-1]):
                composed[-1].hydra.job.num = number
        return jobs, composed
