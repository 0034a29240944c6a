"""What all tests share: the cache, so that archives are fetched once per machine, and the command line, in this process."""

from __future__ import annotations

import csv
import itertools
import logging
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

# Threads that wait asleep: where several processes share few cores, spinning ones keep the others from their work for minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    return Path(os.environ.get("FROSTLINE_CACHE", Path(__file__).parents[1] / ".cache" / "frostline"))


@pytest.fixture
def own_cache(cache_dir: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own: archives and tokens are those of all tests, activations its own (in memory, too)."""
    from frostline.encoder import store

    monkeypatch.setattr(store, "_IN_MEMORY", {})
    folder = tmp_path_factory.mktemp("cache")
    for name in ("assets", "tokens"):
        (cache_dir / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(cache_dir / name)
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny tensors: threads only wait for one another, for seconds where the machine is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Result:
    """How a command ended: its exit status, and what it wrote to the terminal."""

    status: int
    out: str
    err: str


Frostline = Callable[..., Result]


@pytest.fixture
def frostline(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Frostline:
    """``frostline("train", "seed=1", env={…})`` runs one command in an empty directory, with a cache of the test's own."""
    from frostline.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["frostline"])
    for name in ("LOCAL_RANK", "NODE_RANK", "COMP_LINE"):
        monkeypatch.delenv(name, raising=False)
    surroundings = {"FROSTLINE_OUTPUT": str(tmp_path / "outputs"), "FROSTLINE_CACHE": str(own_cache), "WANDB_MODE": "offline"}

    def run(*args: object, env: Mapping[str, str] | None = None) -> Result:
        logging.getLogger().handlers.clear()  # Hydra's, from an earlier call, write to a stream that is closed by now
        capsys.readouterr()
        with monkeypatch.context() as during:
            # What a command sets for its child processes must not reach the next command.
            for name in (
                "HYDRA_FULL_ERROR",
                "FROSTLINE_SWEEP_JOBS",
                "FROSTLINE_SWEEP_STARTED",
                "FROSTLINE_SWEEP_FROZEN",
                "FROSTLINE_SWEEP_AT_ONCE",
                "FROSTLINE_SWEEP_GPUS",
                "SBATCH_REQUEUE",
                "SRUN_CPUS_PER_TASK",
            ):
                during.setenv(name, "")
                during.delenv(name)
            for name, value in {**surroundings, **(env or {})}.items():
                during.setenv(name, value)
            try:
                status = main([str(arg) for arg in args])
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
        written = capsys.readouterr()
        return Result(status, written.out, written.err)

    return run


@pytest.fixture
def reviews_csv(tmp_path: Path) -> Path:
    """120 different sentences of 2 to 21 words, half of them ``good``, half ``bad``, with words of their own."""
    words = {
        "good": ["bright", "lovely", "warm", "tender", "witty", "splendid"],
        "bad": ["dull", "clumsy", "hollow", "grim", "tedious", "vapid"],
    }
    draw = random.Random(0)
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for number, label in itertools.product(range(60), words):
            rows.writerow([f"{number} {' '.join(draw.choices(words[label], k=1 + number // 3))}", label])
    return path
