"""A run directory belongs to one run and one process, and says how the run ended."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from frostline.config import identity, validate
from frostline.errors import DivergedError, FrostlineError
from frostline.runs.directory import RunDirectory, TakenError, find_unfinished, is_at_work, refuse_foreign
from frostline.runs.reading import read_manifest
from frostline.schema import (
    CacheConfig,
    CallbacksConfig,
    Config,
    Constant,
    FilesData,
    FrozenStrategy,
    Lbfgs,
    LoggerConfig,
    PathsConfig,
    RandomModel,
    TrainerConfig,
)


def configuration(seed: int = 0, output: str = "/out") -> Config:
    return Config(
        seed=seed,
        test=True,
        ckpt_path=None,
        data=FilesData("files", "full", None, 32, None, 0.1, 0.1, 0, False, "/t.csv", None, None, "text", None, "label", None),
        model=RandomModel("random", "mean", "tiny", "bert", 2, 8, 2, 0),
        strategy=FrozenStrategy("frozen", 1e-3, 10, "last", True),
        optimizer=Lbfgs("lbfgs", "full", 1.0, [1.0], 1e-6),
        scheduler=Constant("constant"),
        trainer=TrainerConfig("cpu", 1, 1, "auto", "32-true", 10, 1, False, False),
        callbacks=CallbacksConfig("val/accuracy", "max", None),
        logger=LoggerConfig("csv"),
        cache=CacheConfig("disk", "fp32", "1GB"),
        paths=PathsConfig(output, "/cache"),
    )


def work(path: Path, seed: int, ready: object) -> None:
    with RunDirectory(path, configuration(seed)).running():
        ready.set()  # type: ignore[attr-defined]
        time.sleep(60)


@contextmanager
def alive(path: Path, seed: int = 0) -> Iterator[BaseProcess]:
    """Another process at work in ``path``; killed, if it still lives, at the end."""
    processes = multiprocessing.get_context("fork")
    ready = processes.Event()
    worker = processes.Process(target=work, args=(path, seed, ready))
    worker.start()
    try:
        assert ready.wait(30)
        yield worker
    finally:
        kill(worker)


def kill(worker: BaseProcess) -> None:
    if worker.is_alive():
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
    worker.join(30)


def killed(path: Path, seed: int = 0) -> Path:
    with alive(path, seed):
        pass
    return path


# --- one run -----------------------------------------------------------------------------------------------------------


def test_a_finished_run_says_so_and_can_be_run_again_from_its_snapshot(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "a" / "run", configuration())
    assert not run.is_finished
    with run.running():
        assert read_manifest(run.path)["status"] == "running"
        run.record(blocks=2)
        run.last_checkpoint.parent.mkdir()
        run.last_checkpoint.touch()
    manifest = read_manifest(run.path)
    assert (manifest["status"], manifest["exit_status"], manifest["error"]) == ("finished", 0, None)
    assert manifest["blocks"] == 2
    assert manifest["seconds"] >= 0
    assert run.is_finished
    assert {path.name for path in run.path.iterdir()} == {"manifest.json", "config.yaml"}
    again = validate(OmegaConf.load(run.path / "config.yaml"))  # type: ignore[arg-type]
    assert again == configuration()
    assert identity(again) == manifest["identity"]


@pytest.mark.parametrize(
    ("error", "status", "keeps_state"),
    [(FrostlineError("told"), "failed", True), (KeyError("a bug"), "failed", True), (DivergedError("lr"), "diverged", False)],
)
def test_an_error_is_left_in_the_directory_and_goes_on(error: Exception, status: str, keeps_state: bool, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, configuration())
    with pytest.raises(type(error)), run.running():
        run.last_checkpoint.parent.mkdir()
        run.last_checkpoint.touch()
        raise error
    manifest = read_manifest(tmp_path)
    assert (manifest["status"], manifest["exit_status"], manifest["error"]) == (status, 1, str(error))
    text = (tmp_path / "error.txt").read_text()
    assert "Traceback" in text
    assert type(error).__name__ in text
    assert run.last_checkpoint.is_file() == keeps_state
    assert not run.is_finished


def test_trying_again_removes_the_old_error_and_adds_up_the_time(tmp_path: Path) -> None:
    with pytest.raises(ValueError), RunDirectory(tmp_path, configuration()).running():
        raise ValueError("first try")
    first = read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(first | {"seconds": 100.0, "started": "before", "wandb_id": "w"}))
    with RunDirectory(tmp_path, configuration()).running():
        assert not (tmp_path / "error.txt").exists()
    manifest = read_manifest(tmp_path)
    assert (manifest["status"], manifest["error"]) == ("finished", None)
    assert (manifest["started"], manifest["wandb_id"]) == ("before", "w")
    assert manifest["seconds"] >= 100


def test_a_child_of_a_distributed_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    run = RunDirectory(tmp_path / "run", configuration())
    with run.running():
        run.record(blocks=2)
    assert not run.path.exists()


# --- one owner ---------------------------------------------------------------------------------------------------------


def test_the_directory_of_another_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, configuration(seed=0)).running():
        pass
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        pytest.raises(FrostlineError, match=r"holds another run .* is not overwritten"),
        RunDirectory(tmp_path, configuration(seed=1)).running(),
    ):
        pytest.fail("it ran")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_where_things_are_written_does_not_make_another_run(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, configuration()).running():
        pass
    moved = dataclasses.replace(configuration(output="/elsewhere"), logger=LoggerConfig("wandb"), ckpt_path="/x.ckpt")
    refuse_foreign(tmp_path, moved)
    refuse_foreign(tmp_path / "empty", moved)


def test_a_directory_in_which_a_process_is_at_work_is_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", configuration())
    with alive(run.path) as worker:
        before = (run.path / "manifest.json").read_bytes()
        with pytest.raises(FrostlineError, match="Another process is at work"), run.running():
            pytest.fail("it ran")
        assert (run.path / "manifest.json").read_bytes() == before
        assert worker.is_alive()
        kill(worker)
        with run.running():  # a lock dies with its process
            pass
    assert run.is_finished


def test_what_another_process_has_finished_meanwhile_is_not_run_again(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, configuration()).running():
        pass
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(TakenError, match="was finished by another process"), RunDirectory(tmp_path, configuration()).running():
        pytest.fail("it ran")
    assert (tmp_path / "manifest.json").read_bytes() == before
    assert not is_at_work(tmp_path)


def test_half_written_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    leftovers = [tmp_path / ".metrics.json.17.part", tmp_path / "checkpoint" / ".trained.safetensors.17.part"]
    for path in leftovers:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with RunDirectory(tmp_path, configuration()).running():
        assert not any(path.exists() for path in leftovers)


def test_the_lock_file_is_removed_only_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes a lock just before its file is removed would share the directory with whoever makes the next file."""
    unlink, was_held = Path.unlink, []

    def watched(self: Path, missing_ok: bool = False) -> None:
        if self.name == ".lock":
            with self.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    was_held.append(False)
                except BlockingIOError:
                    was_held.append(True)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    with RunDirectory(tmp_path, configuration()).running():
        pass
    assert all(was_held)


def hold_briefly(path: Path, start: object, overlaps: object) -> None:
    """Take turns in one directory; two inside at once leave a mark."""
    start.wait(30)  # type: ignore[attr-defined]
    for _ in range(40):
        try:
            with RunDirectory(path, configuration()).running():
                try:
                    (path / "inside").touch(exist_ok=False)
                except FileExistsError:
                    overlaps.value += 1  # type: ignore[attr-defined]
                else:
                    time.sleep(0.001)
                    (path / "inside").unlink()
                raise FrostlineError("failed, so that it can be run again")
        except FrostlineError:
            time.sleep(0.0005)


def test_no_two_processes_are_ever_inside_at_once(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")
    start, overlaps = processes.Barrier(4), processes.Value("i", 0)
    workers = [processes.Process(target=hold_briefly, args=(tmp_path, start, overlaps)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert overlaps.value == 0


# --- killed runs -------------------------------------------------------------------------------------------------------


def test_a_killed_run_is_found_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "2026-01-01" / "10-00-00"
    with alive(path) as worker:
        assert find_unfinished(tmp_path, configuration()) is None
        assert worker.is_alive()
        kill(worker)
        assert find_unfinished(tmp_path, configuration()) == path
        assert find_unfinished(tmp_path, configuration()) == path, "looking must not change what is found"
    with RunDirectory(path, configuration()).running():
        pass
    assert find_unfinished(tmp_path, configuration()) is None, "it was finished since"


def test_only_this_very_run_is_found_and_the_newest_of_several(tmp_path: Path) -> None:
    for name in ("2026-01-01/10-00-00", "2026-01-02/09-00-00", "2026-01-01/23-00-00"):
        killed(tmp_path / name, seed=0)
    killed(tmp_path / "2026-01-03" / "00-00-00", seed=1)
    assert find_unfinished(tmp_path, configuration(seed=0)) == tmp_path / "2026-01-02" / "09-00-00"
    assert find_unfinished(tmp_path, configuration(seed=1)) == tmp_path / "2026-01-03" / "00-00-00"
    assert find_unfinished(tmp_path, configuration(seed=2)) is None
    assert find_unfinished(tmp_path / "nowhere", configuration()) is None


def test_failed_and_diverged_runs_are_not_taken_for_killed_ones(tmp_path: Path) -> None:
    for name, error in (("a", ValueError("x")), ("b", DivergedError("y"))):
        with pytest.raises(type(error)), RunDirectory(tmp_path / "day" / name, configuration()).running():
            raise error
    assert find_unfinished(tmp_path, configuration()) is None


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"identity": ')
    with pytest.raises(FrostlineError, match=r"manifest\.json' is damaged"):
        read_manifest(tmp_path)
    assert read_manifest(tmp_path / "nowhere") == {}
