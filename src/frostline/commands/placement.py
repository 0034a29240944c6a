"""A job's place on a machine that it shares with other jobs of its sweep: its cores, and its GPU."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

_HELD: list[tuple[str, FileLock | None]] = []  # the GPU of this process, until it ends; no lock where it is shared


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def take_place(number: int, at_once: int, gpus: Sequence[str], folder: Path) -> None:
    """Take a job's share of its machine before anything is computed: as many threads as there are cores for each, and a GPU.

    Args:
        number: of the job.
        at_once: how many jobs run side by side; nothing is shared out where it is only one.
        gpus: those of the machine; none where no job asks for one.
        folder: where the jobs that share the machine can see one another's locks.
    """
    if at_once < 2:
        return
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(max(cores() // at_once, 1))
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = choose_gpu(number, gpus, folder)


def choose_gpu(number: int, gpus: Sequence[str], folder: Path) -> str:
    """Return the GPU of this process: a free one as long as there are any, else one to share, by the job's number.

    It stays the same for all jobs of the process, because CUDA, once in use, cannot change it.
    """
    if _HELD:
        return _HELD[0][0]
    start = number % len(gpus)
    in_turn = [*gpus[start:], *gpus[:start]]
    for gpu in in_turn:
        lock = FileLock(folder / f".gpu-{gpu}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _HELD.append((gpu, lock))
        return gpu
    _HELD.append((in_turn[0], None))
    return in_turn[0]


def end_with_launcher() -> None:
    """Have this worker process told to end (SIGTERM) when the one that started it is gone, which it would not notice itself."""
    if any(thread.name == end_with_launcher.__name__ for thread in threading.enumerate()):
        return
    launcher = os.getppid()

    def watch() -> None:
        while True:
            time.sleep(1)
            if os.getppid() != launcher:
                os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name=end_with_launcher.__name__, daemon=True).start()
