"""Which process of a run this one is, by what its launcher has set; read without starting any."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline.errors import FrostlineError
from frostline.runs.directory import RunDirectory
from frostline.runs.processes import LostProcess, check_launch, is_child, is_main, launched, local_rank, lost_process
from frostline.runs.reading import read_manifest
from tests.runs.test_directory import configuration

ALONE: dict[str, str] = {}
CHILD = {"LOCAL_RANK": "1", "NODE_RANK": "0"}  # of Lightning
SECOND_MACHINE = {"NODE_RANK": "1", "MASTER_ADDR": "node0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0"}
SRUN = {
    **{"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "2"},
    **{"SLURM_PROCID": "3", "SLURM_LOCALID": "1"},
}
ONE_TASK = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
BATCH_SCRIPT = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}  # without srun


def surround(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    known = {name for of_launcher in (CHILD, SECOND_MACHINE, TORCHRUN, SRUN, BATCH_SCRIPT) for name in of_launcher}
    for name in known | {"MASTER_PORT"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "main", "child", "local"),
    [
        (ALONE, True, False, 0),
        (CHILD, False, True, 1),
        (SECOND_MACHINE, False, False, 0),
        (TORCHRUN, False, False, 0),
        (TORCHRUN | {"RANK": "0"}, True, False, 0),
        (SRUN, False, False, 1),
        (SRUN | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True, False, 0),
        (ONE_TASK, True, False, 0),
        (ONE_TASK | CHILD, False, True, 1),
        (BATCH_SCRIPT, True, False, 0),
    ],
)
def test_one_process_writes(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], main: bool, child: bool, local: int
) -> None:
    surround(monkeypatch, **variables)
    assert (is_main(), is_child(), local_rank()) == (main, child, local)


@pytest.mark.parametrize(
    ("variables", "by"),
    [(ALONE, None), (CHILD, None), (ONE_TASK, None), (BATCH_SCRIPT, None), (TORCHRUN, "torchrun"), (SRUN, "srun")],
)
def test_what_starts_processes_is_known(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], by: str | None) -> None:
    surround(monkeypatch, **variables)
    together = launched()
    assert (together and together.by) == by
    if together is not None:
        assert (together.per_machine, together.machines) == (2, 2)
        check_launch(2, 2)
        for devices, num_nodes in ((1, 1), (4, 1), (2, 1)):
            with pytest.raises(FrostlineError, match=rf"{by} has started 2 processes on each of 2 machines, but .* is {devices}"):
                check_launch(devices, num_nodes)


def test_processes_that_would_wait_in_vain_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    surround(monkeypatch)
    check_launch(2, 1)
    with pytest.raises(FrostlineError, match="num_nodes is 2, but nothing says which machine this is"):
        check_launch(2, 2)
    surround(monkeypatch, **SECOND_MACHINE)
    check_launch(2, 2)
    surround(monkeypatch, **{k: v for k, v in SRUN.items() if k != "SLURM_NTASKS_PER_NODE"})
    with pytest.raises(FrostlineError, match="--ntasks-per-node=2"):
        check_launch(2, 2)


def test_the_main_process_repeats_what_another_one_said_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = lost_process(RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer [127.0.0.1]:1"))
    assert isinstance(lost, LostProcess)
    assert lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    with pytest.raises(LostProcess), RunDirectory(tmp_path, configuration()).running():
        monkeypatch.setenv("LOCAL_RANK", "1")
        with pytest.raises(ValueError), RunDirectory(tmp_path, configuration()).running():
            raise ValueError("out of luck")
        raise lost
    assert read_manifest(tmp_path)["error"] == "Another process of the run failed: ValueError: out of luck"
    assert (tmp_path / "error.txt").read_text().endswith("ValueError: out of luck\n")
