"""Frostline's sweeper: the union of several grids, and every job checked before the first one starts.

Hydra finds plugins in the namespace package ``hydra_plugins`` only, so this file lives here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.progress import track

# Environment variables, so that they reach jobs in other processes, too: the sweep's number of jobs, its start (Unix time), and
# which frozen depths (null: a probe) and poolings of which model its jobs will ask the cache for.
JOBS, STARTED, FROZEN = "FROSTLINE_SWEEP_JOBS", "FROSTLINE_SWEEP_STARTED", "FROSTLINE_SWEEP_FROZEN"


class GridsSweeper(BasicSweeper):  # type: ignore[misc]
    """Hydra's basic sweeper, with a list of grids in place of the one.

    Every grid is a mapping of keys to comma-separated values, and stands for all their combinations together with the
    command line's. A key on the command line replaces that key in every grid.

    Args:
        max_batch_size: jobs to hand to the launcher at once; None for all.
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

    def sweep(self, arguments: list[str]) -> list[object]:
        """Check all jobs, then launch them.

        Raises:
            FrostlineError: a job's configuration is not valid, or its directory holds another run.
        """
        from frostline.commands.launch import quoted
        from frostline.commands.preflight import check_jobs
        from frostline.config import identity
        from frostline.interruption import Interrupted
        from frostline.runs.files import write_text
        from frostline.runs.jobs import SWEEP, Job, record_jobs, unfinished

        assert self.config is not None
        assert self.launcher is not None
        sweep_dir = Path(self.config.hydra.sweep.dir)
        jobs, composed = self.jobs(arguments)
        folders = [sweep_dir / str(job.hydra.sweep.subdir) for job in composed]
        configs = check_jobs(list(zip(folders, composed, strict=True)))

        each = zip(folders, jobs, configs, strict=True)
        listed = [Job(number, folder, job, identity(config)) for number, (folder, job, config) in enumerate(each)]
        record_jobs(sweep_dir, listed, sys.argv[1:])
        write_text(sweep_dir / SWEEP, OmegaConf.to_yaml(self.config))
        # A job keeps its directory, whatever number the launcher gives it among those that are left.
        left = unfinished(listed)
        jobs = [[*job.overrides, f"hydra.sweep.subdir={quoted(job.folder.relative_to(sweep_dir))}"] for job in left]
        if len(left) < len(listed):
            print(f"{len(listed) - len(left)} of {len(listed)} jobs in {sweep_dir} are finished already.", file=sys.stderr)
        os.environ[JOBS], os.environ[STARTED] = str(len(jobs)), str(time.time())
        frozen = {
            (c.model.name, c.model.pooling, getattr(c.strategy, "frozen_depth", None))
            for c in (configs[job.number] for job in left)
            if c.strategy.name != "full" and c.cache.mode != "off" and not getattr(c.strategy, "frozen_dropout", False)
        }
        os.environ[FROZEN] = json.dumps(sorted(frozen, key=str))
        size = self.max_batch_size or max(1, len(jobs))
        try:
            return [self.launcher.launch(jobs[i : i + size], initial_job_idx=i) for i in range(0, len(jobs), size)]
        except Interrupted as end:
            end.directory = sweep_dir
            raise

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


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="grids",
    node={"_target_": f"{__name__}.GridsSweeper", "max_batch_size": None, "params": None, "grids": []},
    provider="frostline",
)
