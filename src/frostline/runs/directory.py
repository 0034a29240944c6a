"""The life of a run directory: new, running, finished, failed, diverged, pruned, interrupted; how a killed run is found again."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from frostline.config import identity, to_yaml
from frostline.errors import DivergedError, FrostlineError, PrunedError
from frostline.interruption import Interrupted
from frostline.runs.files import write_json, write_text
from frostline.runs.processes import LostProcess, is_main
from frostline.runs.reading import read_manifest
from frostline.schema import Config
from frostline.trust import without_secrets

MANIFEST, CONFIG, ERROR, LOCK, RESUME = "manifest.json", "config.yaml", "error.txt", ".lock", "resume"
DONE = ("finished", "pruned")  # what leaves nothing to be run
PATIENCE = 0.3  # seconds: longer than another process takes that only looks whether a directory is taken


class TakenError(FrostlineError):
    """Another process is at work in a directory, or has finished its run meanwhile."""


class RunDirectory:
    """A directory that one process at a time fills with one run.

    Attributes:
        path: of the directory.
        manifest: what the configuration cannot say; written at the start, and whenever :meth:`record` adds to it.
        before: the manifest that a killed or failed run left here, empty for a new one.
        is_main: False in all processes of a distributed run but one; they write nothing, unless they fail.
    """

    def __init__(self, path: Path, config: Config):
        self.path, self.config = path, config
        self.is_main = is_main()
        self.manifest: dict[str, Any] = {}
        self.before: dict[str, Any] = {}
        self._started = time.monotonic()

    @property
    def last_checkpoint(self) -> Path:
        """Where the state to resume from lies while the run is unfinished."""
        return self.path / RESUME / "last.ckpt"

    @property
    def is_finished(self) -> bool:
        """Whether this very run was completed here before."""
        return read_manifest(self.path).get("status") == "finished"

    def record(self, **entries: Any) -> None:
        """Add to the manifest and write it."""
        self.manifest |= entries
        if self.is_main:
            write_json(self.path / MANIFEST, self.manifest)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold the directory for the time of the run and leave its end in the manifest, whatever the end is.

        An exception leaves its traceback in ``error.txt`` and goes on; a killed process leaves the status ``running``.

        Raises:
            FrostlineError: the directory belongs to another run.
            TakenError: another process is at work in it, or finished the run since it was last looked at.
        """
        if not self.is_main:
            try:
                yield
            except LostProcess:
                raise
            except Exception as error:  # the main process can only say that it lost this one, or is killed before it can
                self.keep(error)
                raise
            return
        refuse_foreign(self.path, self.config)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            raise TakenError(f"Another process is at work in '{self.path}'; wait for it, or choose another directory.") from None
        try:
            self._begin()
            try:
                yield
            except Interrupted as end:
                self.end("interrupted", end)
                raise
            except PrunedError:
                self.end("pruned", None)
                raise
            except Exception as error:
                self.end("diverged" if isinstance(error, DivergedError) else "failed", error)
                raise
            self.end("finished", None)
        finally:
            (self.path / LOCK).unlink(missing_ok=True)  # while it is held: whoever waits for it must not get a deleted file
            lock.release()

    def _begin(self) -> None:
        """Take over what an earlier process left; the caller holds the lock."""
        self.before = read_manifest(self.path)
        if self.before.get("status") == "finished":
            raise TakenError(f"'{self.path}' was finished by another process meanwhile.")
        # A run may be killed more than once, so what was recorded of it stays until it is recorded again.
        self.manifest = {
            **{key: value for key, value in self.before.items() if key not in ("ended", "exit_status", "seconds")},
            "identity": identity(self.config),
            "status": "running",
            "error": None,
            "started": self.before.get("started", _now()),
            "running_since": _now(),
            "seconds_before": self.before.get("seconds", self.before.get("seconds_before", 0.0)),
        }
        for leftover in self.path.rglob(".*.part"):  # half a file of a killed process
            leftover.unlink()
        (self.path / ERROR).unlink(missing_ok=True)
        self.record()
        write_text(self.path / CONFIG, to_yaml(self.config))

    def end(self, status: str, error: Exception | Interrupted | None) -> None:
        """Record how the run ended; a finished run no longer needs the state to resume from."""
        message = None if error is None else without_secrets(str(error)) or type(error).__name__
        if isinstance(error, LostProcess) and (self.path / ERROR).exists():  # in that process's own words
            last_line = (self.path / ERROR).read_text(encoding="utf-8").strip().rpartition("\n")[2]
            message = f"Another process of the run failed: {last_line}"
        elif isinstance(error, Exception):
            self.keep(error)
        seconds = self.manifest["seconds_before"] + time.monotonic() - self._started
        code = 0 if error is None else error.code if isinstance(error, Interrupted) else 1
        self.record(status=status, error=message, ended=_now(), exit_status=code, seconds=round(seconds, 3))
        if status in ("finished", "diverged", "pruned"):
            shutil.rmtree(self.path / RESUME, ignore_errors=True)

    def keep(self, error: Exception) -> None:
        """Leave the traceback in ``error.txt``."""
        write_text(self.path / ERROR, without_secrets("".join(traceback.format_exception(error))))


def refuse_foreign(run_dir: Path, config: Config) -> None:
    """Refuse to write into the directory of another run.

    Raises:
        FrostlineError: ``run_dir`` holds a run with another identity, or a configuration that is no run's.
    """
    manifest = read_manifest(run_dir)
    if not manifest and (run_dir / CONFIG).exists():
        raise FrostlineError(f"'{run_dir}' holds a {CONFIG} that is no run's and is not overwritten; choose another directory.")
    if manifest and manifest.get("identity") != identity(config):
        raise FrostlineError(
            f"'{run_dir}' holds another run (its configuration differs from this one) and is not overwritten; choose another "
            "directory, or remove it."
        )


def find_unfinished(runs_dir: Path, config: Config) -> Path | None:
    """Return the newest directory below ``runs_dir`` in which this very run was killed or interrupted, or None.

    A run that is still alive holds its lock and is passed over.
    """
    wanted = identity(config)
    for path in sorted(runs_dir.glob(f"*/*/{MANIFEST}"), reverse=True):
        try:
            manifest = read_manifest(path.parent)
        except FrostlineError:
            continue  # a damaged one is nobody's business here
        if (
            manifest.get("identity") == wanted
            and manifest.get("status") in ("running", "interrupted")
            and not is_at_work(path.parent)
        ):
            return path.parent
    return None


def is_at_work(run_dir: Path) -> bool:
    """Whether a process holds a run directory, so that its status ``running`` is true."""
    if not (run_dir / LOCK).exists():  # looking must not make one
        return False
    lock = FileLock(run_dir / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a read-only disk
        return False
    lock.release()
    return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
