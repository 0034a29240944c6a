"""Jobs, each in a process of its own, the sides of a case in turn."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Any

from frostline.processor import has_bf16

from settings import BATCH_SIZE, SENTENCES, Settings

HERE = Path(__file__).parent
TIMEOUT = 1_800  # seconds; no job takes a third of it
NO_BF16 = "not measured: this processor has no bf16 instructions"


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        side: which side of its case, in words.
        call: ``module:function``, called in a process of its own. It returns what ends up in the results.
        options: its arguments. ``{work}`` in a text stands for the folder of this benchmark run.
        seconds: about how long, with its start, on 2 cores; for the estimate only.
        repeats: how often; the first of each side come first, then the second, and so on.
        cache: name of Frostline's cache folder; with ``{round}`` each repeat has its own, empty at first.
        bf16: computes in bf16, so it is not run where the processor would only emulate that.
    """

    side: str
    call: str
    options: dict[str, Any]
    seconds: float
    repeats: int = 3
    cache: str = "shared"
    bf16: bool = False

    @property
    def key(self) -> str:
        """What makes it another measurement; equal ones of two cases are run once.

        The side belongs to it: a run on a warm cache is the same call as the one that filled the cache.
        """
        return json.dumps([self.side, self.call, self.options, self.cache], sort_keys=True)


@dataclass
class Measured:
    """What the jobs of a case returned: by side, the results of its repeats, or why there are none.

    Attributes:
        results: of the sides that ended well.
        errors: of those that failed.
        left_out: of those that this machine cannot run.
    """

    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def reason(self, side: str) -> str:
        """Return why a side has no results."""
        return self.errors.get(side) or self.left_out.get(side, "not run")


class Bench:
    """Runs jobs in a temporary folder, with the assets of the user's cache and else empty caches.

    Args:
        settings: sizes and repeats.
        tell: called with a line for the terminal after every job, and the job's expected seconds.
    """

    def __init__(self, settings: Settings, tell: Callable[[str, float], None]):
        self.settings, self.tell = settings, tell
        self.work = Path(tempfile.mkdtemp(prefix="frostline-bench-"))
        self.user_cache = Path(os.environ.get("FROSTLINE_CACHE", "~/.cache/frostline")).expanduser().absolute()
        (self.user_cache / "assets").mkdir(parents=True, exist_ok=True)
        self.known: dict[str, list[dict[str, Any]]] = {}
        self.hashes: dict[str, str] = {}

    def close(self) -> None:
        """Remove the temporary folder."""
        shutil.rmtree(self.work, ignore_errors=True)

    def prepare(self) -> str:
        """Write the sentences for the peers (fetching the assets if need be); returns how many there are, in words."""
        options = {"path": SENTENCES, "words": self.settings.data_words(self.settings.train_size)}
        result = self.run(Job("sentences", "frostline_side:export", options, 10), 0)
        self.hashes = result["written"]
        return f"{result['counts'][0]:,} training and {result['counts'][1]:,} validation sentences"

    def measure(self, jobs: list[Job]) -> Measured:
        """Run all repeats of all jobs, in turn."""
        measured = Measured()
        measured.left_out = {job.side: NO_BF16 for job in jobs if self.repeats(job) == 0}
        for number in range(max(self.repeats(job) for job in jobs)):
            for job in jobs:
                if number >= self.repeats(job) or job.side in measured.errors:
                    continue
                known = self.known.setdefault(job.key, [])
                if number >= len(known):
                    try:
                        known.append(self.run(job, number))
                    except JobError as error:
                        measured.errors[job.side] = str(error)
                        self.tell(f"{job.side}: {error}", job.seconds)
                        continue
                measured.results.setdefault(job.side, []).append(known[number])
                self.tell(f"{job.side}, {number + 1} of {self.repeats(job)}: {known[number]['wall_seconds']:.1f} s", job.seconds)
        return measured

    def repeats(self, job: Job) -> int:
        """Return how often a job is run: never, if this machine cannot."""
        return 0 if job.bf16 and not has_bf16() else self.settings.repeats or job.repeats

    def run(self, job: Job, number: int) -> dict[str, Any]:
        """Run a job once and return its result with ``wall_seconds``, from the start of its process to its end.

        Raises:
            JobError: the process failed; or it trained on other sentences, or with another number of steps, than it should.
        """
        scratch = Path(tempfile.mkdtemp(prefix="job-", dir=self.work))
        words = json.dumps({"call": job.call, "options": job.options}).replace("{work}", str(self.work))
        environment = self._environment(scratch, self._cache(job.cache.format(round=number)))
        command = [sys.executable, str(HERE / "worker.py"), words]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=scratch, env=environment, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True
        )
        try:
            out, err = process.communicate(timeout=TIMEOUT)
            seconds = time.perf_counter() - started
        except subprocess.TimeoutExpired:
            raise JobError(f"failed: took more than {TIMEOUT} s") from None
        finally:
            if process.poll() is None:  # too late, or interrupted: end it with all that it started
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            shutil.rmtree(scratch, ignore_errors=True)
        if process.returncode:
            (HERE / "results").mkdir(exist_ok=True)
            (HERE / "results" / "last_failure.log").write_text(f"{words}\n{err}", encoding="utf-8")
            if process.returncode < 0:
                raise JobError(f"failed: ended by signal {-process.returncode} ({signal.Signals(-process.returncode).name})")
            last = (err.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
            raise JobError(f"failed: {last:.300}")
        result: dict[str, Any] = json.loads(out.splitlines()[-1]) | {"wall_seconds": seconds}
        self._check(job, result)
        return result

    def _check(self, job: Job, result: dict[str, Any]) -> None:
        size = result.get("sentences")
        shared = {*self.settings.data_words(self.settings.train_size)} <= {*job.options.get("words", ())}
        if "hashes" in result and (shared or "sentences" in job.options) and result["hashes"] != self.hashes:
            raise JobError("failed: trained or scored other sentences than the other sides")
        if size and "steps" in result and result["steps"] != -(-size // BATCH_SIZE) * result["epochs"]:
            raise JobError(f"failed: {result['steps']} steps of {size} sentences in {result['epochs']} epochs")

    def _cache(self, name: str) -> Path:
        folder = self.work / "caches" / name
        if not folder.is_dir():
            folder.mkdir(parents=True)
            (folder / "assets").symlink_to(self.user_cache / "assets")
        return folder

    def _environment(self, scratch: Path, cache: Path) -> dict[str, str]:
        offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}  # nothing here needs a hub, and nobody shall wait for one
        return {**os.environ, **offline, "FROSTLINE_CACHE": str(cache), "FROSTLINE_OUTPUT": str(scratch / "outputs")}


class JobError(Exception):
    """Why a job has no result."""
