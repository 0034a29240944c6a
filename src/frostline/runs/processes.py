"""The processes that share a run: who started them, which one this is, and that none outlives the one that started it.

Lightning starts those of a machine itself, with ``LOCAL_RANK``; on several machines the user starts one on each, with
``NODE_RANK``. Or they are all started from outside, by torchrun or by srun. Read from the environment alone, for much must be
known before Lightning is loaded.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from typing import NamedTuple

from frostline.errors import FrostlineError

PARENT = "FROSTLINE_PARENT"  # the process that starts others of the same run, and takes them with it when it ends
GROUP = "FROSTLINE_SWEEP_GROUP"  # the W&B group of a sweep, for a job that runs in processes of its own
LOST = re.compile("Connection (closed|reset) by peer|Broken pipe|remote process exit|Timed out waiting")  # in torch's words
PR_SET_PDEATHSIG = 1  # of Linux's prctl


class Launched(NamedTuple):
    """Processes that were started from outside.

    Attributes:
        by: ``torchrun`` or ``srun``.
        per_machine: how many on each machine.
        machines: how many.
        rank: this one's number among all, from 0.
        local_rank: this one's number on its machine, from 0.
    """

    by: str
    per_machine: int
    machines: int
    rank: int
    local_rank: int


class LostProcess(FrostlineError):  # noqa: N818, the name says it
    """Another process of the same run ended before its time."""


def launched() -> Launched | None:
    """Return how this process was started together with others of its run from outside; None where that is left to Lightning.

    A single task of srun starts the others itself.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        here, all_of_them = int(env["LOCAL_WORLD_SIZE"]), int(env["WORLD_SIZE"])
        return Launched("torchrun", here, all_of_them // here, int(env["RANK"]), int(env["LOCAL_RANK"]))
    tasks = int(env.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks > 1:
        machines = int(env.get("SLURM_STEP_NUM_NODES", 1))
        return Launched("srun", tasks // machines, machines, int(env["SLURM_PROCID"]), int(env["SLURM_LOCALID"]))
    return None


def is_main() -> bool:
    """Whether this is the process that writes."""
    if (together := launched()) is not None:
        return together.rank == 0
    return int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


def is_child() -> bool:
    """Whether Lightning started this process: its parent has checked everything, and says where the run is written."""
    return launched() is None and "LOCAL_RANK" in os.environ


def local_rank() -> int:
    """Return this process's number among those of its machine, from 0."""
    together = launched()
    return int(os.environ.get("LOCAL_RANK", 0)) if together is None else together.local_rank


def check_launch(devices: int, num_nodes: int) -> None:
    """Check that as many processes were started as the configuration says.

    Raises:
        FrostlineError: they were not, and would wait for one another in vain.
    """
    together = launched()
    if together is None:
        if num_nodes > 1 and not {"MASTER_ADDR", "NODE_RANK"} <= os.environ.keys():
            raise FrostlineError(
                f"trainer.num_nodes is {num_nodes}, but nothing says which machine this is: start the run with srun or torchrun, "
                "or set MASTER_ADDR, MASTER_PORT and NODE_RANK on every machine."
            )
        return
    if (together.per_machine, together.machines) != (devices, num_nodes):
        raise FrostlineError(
            f"{together.by} has started {together.per_machine} processes on each of {together.machines} machines, but "
            f"trainer.devices is {devices} and trainer.num_nodes is {num_nodes}; let them agree."
        )
    if together.by == "srun" and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise FrostlineError(f"srun was told how many tasks there are in all; use --ntasks-per-node={devices} in its place.")


def end_with_parent() -> None:
    """Have this process killed when the one that started it ends, however it ends: else it would wait for it. Linux only."""
    parent = os.environ.get(PARENT)
    if sys.platform == "linux" and parent == str(os.getppid()):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent != str(os.getppid()):  # it ended meanwhile
            sys.exit(1)


def lost_process(error: Exception) -> LostProcess | None:
    """Return the sentence for an error that only says that another process of the run is gone."""
    if isinstance(error, RuntimeError) and LOST.search(str(error)):
        return LostProcess(
            "Another process of this run has ended before its time (killed, or out of memory?); what it said last, if anything, "
            "stands above, and in error.txt."
        )
    return None
