"""A sweep's jobs and its end: every job in a state of its own, one table and one page when the last is done."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from frostline.commands.placement import end_with_launcher, take_place
from frostline.commands.sweep_facts import AT_ONCE, FROZEN, GPUS, JOBS, STARTED, take_facts
from frostline.errors import FrostlineError, PrunedError
from frostline.interruption import STATUS, Interrupted
from frostline.once import Once
from frostline.runs.processes import GROUP, PARENT, check_launch, launched
from frostline.schema import Config
from frostline.terminal import told

log = logging.getLogger(__name__)
ONCE = Once()  # weights and sentences that the jobs of this process share


def run_job(config: Config) -> int:
    """Train one job of a sweep; a failure stays in the job's own folder and does not stop the sweep.

    Returns:
        0, or 1 if the job failed.
    """
    hydra = HydraConfig.get()
    run_dir, sweep_dir = Path(hydra.runtime.output_dir), Path(hydra.sweep.dir)
    facts = take_facts(sweep_dir)
    log.info("%s %s", sweep_progress(hydra.job.num), " ".join(hydra.overrides.task))
    if (config.trainer.devices != 1 or config.trainer.num_nodes > 1) and launched() is None:
        return run_apart(run_dir, list(hydra.overrides.task), sweep_dir.name)
    if str(hydra.launcher.get("_target_")).endswith(".JoblibLauncher"):
        end_with_launcher()
    take_place(hydra.job.num, int(facts.get(AT_ONCE, 0)), [gpu for gpu in facts.get(GPUS, "").split(",") if gpu], sweep_dir)
    from frostline.commands.search import trial_of
    from frostline.commands.train import train  # not before: it takes seconds
    from frostline.runs.directory import TakenError

    try:
        check_launch(config.trainer.devices, config.trainer.num_nodes)
        report = trial_of(run_dir, hydra.sweeper, config.trainer.max_epochs)
        train(config, run_dir, group=sweep_dir.name, once=ONCE, report=report)
        return 0
    except PrunedError as pruned:
        log.info("Job %s: %s", run_dir.name, pruned)
        return 0
    except TakenError as error:  # two processes share one sweep
        log.info("Passed over: %s", error)
        return 0
    except Exception as error:
        if not isinstance(error, FrostlineError):
            print(told(traceback.format_exc()), file=sys.stderr)
        log.error("Job %s failed: %s", run_dir.name, error)
        return 1
    finally:
        gc.collect()  # what Lightning leaves behind in cycles


def sweep_progress(number: int) -> str:
    """Return ``[3/21, about 9 min left]`` for job ``number`` (from 0) of the running sweep."""
    jobs, started = int(os.environ.get(JOBS, "0")), float(os.environ.get(STARTED, "0"))
    left = ""
    if number > 0:
        minutes = (time.time() - started) / number * (jobs - number) / 60
        left = f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"
    return f"[{number + 1}/{jobs}{left}]"


def is_finished(run_dir: Path, config: Config) -> bool:
    """Say so, and return True, if this very run was completed in its directory before."""
    from frostline.runs.directory import RunDirectory

    finished = RunDirectory(run_dir, config).is_finished
    if finished:
        log.info("Already finished: %s", run_dir)
    return finished


def run_apart(run_dir: Path, overrides: list[str], group: str) -> int:
    """Run a job on several devices in a process of its own: its child processes would else run the whole sweep again.

    It ends with this process, however this one ends, so that nobody is at work in its directory when the sweep is started again.

    Args:
        run_dir: the job's directory.
        overrides: the job's.
        group: the W&B group of the sweep's runs.

    Returns:
        0, or 1 if it failed.

    Raises:
        Interrupted: this process or the job's was told to end.
    """
    from frostline.commands.launch import quoted

    command = [sys.executable, "-m", "frostline", "train", *overrides, f"hydra.run.dir={quoted(run_dir)}", "hydra.mode=RUN"]
    with subprocess.Popen(command, env=os.environ | {PARENT: str(os.getpid()), GROUP: group}) as child:
        try:
            status = child.wait()
        except Interrupted:
            child.terminate()
            raise
    for number, of_interrupted in STATUS.items():
        if status == of_interrupted:
            raise Interrupted(number)
    return int(status != 0)


class SweepEnd(Callback):  # type: ignore[misc]
    """Collects ``results.csv`` and ``report.html`` when the last job is done, and exits with 1 if any failed."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget what an earlier sweep of this process has loaded."""
        ONCE.forget()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write and show the results.

        Raises:
            SystemExit: a job failed, or there is nothing to report.
        """
        from frostline.commands.launch import tell
        from frostline.commands.report import report

        ONCE.forget()
        os.environ.pop(FROZEN, None)
        try:
            failed = report(Path(config.hydra.sweep.dir))
        except Exception as error:  # which Hydra would warn of, and forget
            raise SystemExit(tell(error, "train", [])) from None
        if failed:
            raise SystemExit(1)
