"""What Frostline's sweepers ask of Hydra's launchers, which run the jobs one by one, side by side, or on a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from frostline.commands.launch import quoted
from frostline.commands.placement import cores
from frostline.errors import FrostlineError
from frostline.interruption import Interrupted
from frostline.ranges import check_ranges
from frostline.runs.jobs import Job, has_begun

log = logging.getLogger(__name__)


def side_by_side(hydra: DictConfig) -> tuple[int | None, int | None]:
    """Return how many jobs of a sweep share this machine, and how many to hand to the launcher at once.

    Args:
        hydra: the ``hydra`` node of the sweep's configuration.

    Returns:
        The first is None if the jobs run elsewhere, such as on a cluster; the second None for all of them.

    Raises:
        FrostlineError: an option of the launcher or the sweeper is outside its range.
    """
    options = {name: OmegaConf.to_container(hydra[name], resolve=True) for name in ("launcher", "sweeper")}
    check_ranges({"hydra": options})
    kind = str(hydra.launcher.get("_target_")).rpartition(".")[2]
    batch = hydra.sweeper.get("max_batch_size")
    if kind == "BasicLauncher":
        return 1, batch
    if kind == "JoblibLauncher":
        jobs = int(hydra.launcher.n_jobs)
        return jobs if jobs > 0 else max(1, cores() + 1 + jobs), batch
    if kind == "LocalLauncher":  # of submitit: it would start all at once
        return batch or cores(), batch or cores()
    if kind == "SlurmLauncher":  # for sbatch, and for srun, which asks no longer how many cores sbatch was told
        os.environ["SBATCH_REQUEUE"] = "1"
        os.environ["SRUN_CPUS_PER_TASK"] = str(hydra.launcher.cpus_per_task or 1)
    return None, batch


def launch_jobs(launcher: Any, jobs: Sequence[Job], first: int, sweep_dir: Path) -> bool:
    """Hand jobs to a launcher, and wait for them. A job keeps its directory, whatever number the launcher gives it.

    A job's own failures stay in its folder; a launcher fails if a job's process is killed, as by a machine without memory left.

    Args:
        launcher: Hydra's.
        jobs: of the sweep.
        first: the number that the launcher gives the first one.
        sweep_dir: the sweep's directory.

    Returns:
        False if the launcher lost a job, which was told.

    Raises:
        FrostlineError: the launcher could not start any.
        Interrupted: by a SIGTERM or a Ctrl-C.
    """
    words = [[*job.overrides, f"hydra.sweep.subdir={quoted(job.folder.relative_to(sweep_dir))}"] for job in jobs]
    try:
        launcher.launch(words, initial_job_idx=first)
        return True
    except Interrupted as end:
        end.directory = sweep_dir
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if not any(has_begun(job.folder) for job in jobs):
            raise FrostlineError(f"The launcher could not start the jobs: {reason}") from None
        log.error("The launcher lost a job (%s). What is finished is reported; resume='%s' runs the rest.", reason, sweep_dir)
        return False
