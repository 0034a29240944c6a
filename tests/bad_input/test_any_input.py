"""Whatever is in a configuration or a file, reading it ends in a value or in one sentence: random trees, bytes and damage.

The examples are the same in every run (``derandomize``); the slow test tries many more.
"""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors.torch import save_file

from frostline.commands.launch import compose_alone
from frostline.config import validate
from frostline.data.conll import _read_conll_2003, read_conllu
from frostline.data.files import read_files, read_table
from frostline.data.packaged import read_judgements
from frostline.encoder.entries import entries, verify
from frostline.encoder.store import Store
from frostline.errors import FrostlineError
from frostline.report.arms import summarise
from frostline.report.page.drawn import read_curves, read_maps
from frostline.report.scored import read_scored
from frostline.report.verdict import read_verdict
from frostline.runs import measured
from frostline.runs.curves import CurvesLogger, read_epochs
from frostline.runs.reading import damage_told, read_frame, read_manifest, read_metrics, read_predictions
from frostline.runs.snapshot import read_snapshot
from frostline.runs.sweep import collect
from frostline.schema import Config, FilesData
from frostline.strategies.checkpoint import read_checkpoint, read_pointer
from frostline.words import read_words_file

TESTS = Path(__file__).parents[1]
write_run = runpy.run_path(str(TESTS / "report" / "test_table.py"))["write_run"]
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
FEW = settings(derandomize=True, database=None, deadline=None, max_examples=100, suppress_health_check=CHECKS)
MANY = settings(FEW, max_examples=4000)

# --- the configuration -----------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=12), st.just("x" * 5000)),
    st.sampled_from(
        ["", "???", "${seed}", "${nowhere}", "${oc.env:HOME}", "${oc.env:SHELL}", "~nobody/x", "1e-3", "nan", "full"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3)),
    max_leaves=6,
)
COMPOSED = (
    ["model=tiny"],
    ["model=tiny", "strategy=full", "remedy=[mixout,averaging]", "measure=[layers,forgetting]", "scheduler=cosine"],
    ["model=hub", "model.name=a/b", "data=hub", "data.path=a/b", "strategy=lora", "optimizer=sgd"],
    ["model=tiny", "data=files", "data.train=a.csv", "strategy=gradual", "trainer.max_epochs=9"],
)


@pytest.fixture(scope="module")
def trees() -> list[dict[str, Any]]:
    """Valid configurations of all kinds of choices."""
    composed = [compose_alone("train", words) for words in COMPOSED]
    for tree in composed:
        assert tree is not None
        validate(tree)
    return [_resolved(tree) for tree in composed]


def _resolved(tree: Any) -> dict[str, Any]:
    groups = {str(key): tree[key] for key in tree if key != "hydra"}
    return {
        key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node for key, node in groups.items()
    }


def changed(tree: Any, data: st.DataObject) -> Any:
    """A tree with one place replaced, left out or added."""
    if not isinstance(tree, dict) or not tree or data.draw(st.integers(0, 5)) == 0:
        return data.draw(VALUES)
    key = data.draw(st.sampled_from(sorted(tree, key=str)))
    what = data.draw(st.sampled_from(["below", "below", "below", "without", "more"]))
    if what == "below":
        return tree | {key: changed(tree[key], data)}
    return {k: v for k, v in tree.items() if k != key} if what == "without" else tree | {data.draw(st.text(max_size=8)): 1}


def check_tree(trees: list[dict[str, Any]], data: st.DataObject) -> None:
    tree = data.draw(st.sampled_from(trees))
    for _ in range(data.draw(st.integers(1, 3))):
        tree = changed(tree, data)
    if not isinstance(tree, dict):
        return
    try:
        config = OmegaConf.create(tree)
    except (OmegaConfBaseException, ValueError):  # what cannot be a configuration at all: a number of YAML that is none, ${
        return
    with suppress(FrostlineError):
        assert isinstance(validate(config), Config)


@FEW
@given(data=st.data())
def test_a_configuration_is_valid_or_told(trees: list[dict[str, Any]], data: st.DataObject) -> None:
    check_tree(trees, data)


@pytest.mark.slow
@MANY
@given(data=st.data())
def test_many_configurations_are_valid_or_told(trees: list[dict[str, Any]], data: st.DataObject) -> None:
    check_tree(trees, data)


# --- files -----------------------------------------------------------------------------------------------------------

ROWS = pd.DataFrame({"text": ["a fine, warm film", "dull", "fine", "grim"] * 3, "label": ["good", "bad"] * 6, "year": range(12)})


def files(path: Path) -> Any:
    shared = {"batch_size": None, "batch_tokens": None, "max_length": 9, "train_size": None, "validation_share": 0.1}
    columns = {"text_column": "text", "text_pair_column": None, "label_column": "label", "group_column": None}
    config = FilesData("files", **shared, test_share=0.1, split_seed=0, drop_empty=False, train=str(path), validation=None,
                       test=None, **columns, keep_columns=["year"])  # fmt: skip
    return read_files(config)


def run(path: Path) -> Any:
    """All that the table, the arms and the page read of a run directory."""
    folder = path.parent
    results = collect(folder)
    arms = summarise(folder, results)
    return read_scored(folder, arms, "test"), read_curves(folder, results, arms), read_epochs(folder / "curves.csv")


def hydra(path: Path) -> Any:
    return collect(path.parents[1])


def cache(path: Path) -> Any:
    root = path.parents[3]
    with Store(root).lock("3fa9"):
        return entries(root), verify(root), Store(root).open("3fa9", "states-4-fp32")


def conll(path: Path) -> Any:
    with damage_told(path):
        return _read_conll_2003(path)


def checkpoint(path: Path) -> Any:
    run_dir = path.parents[1]
    return read_pointer(run_dir), read_checkpoint(run_dir, SimpleNamespace(weights_hash="w", tokenizer_hash="t"))  # type: ignore[arg-type]


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    **{f"sentences.{kind}": (f"sentences.{kind}", files) for kind in ("csv", "tsv", "jsonl", "json", "parquet")},
    "lines": ("lines.txt", lambda path: read_table(path, plain_text=True)),
    **{name: (f"run/{name}", run) for name in ("metrics.json", "manifest.json", "predictions.parquet", "curves.csv")},
    "predictions": ("run/predictions.parquet", read_predictions),
    "config.yaml of a table": ("run/config.yaml", run),
    "overrides.yaml": ("run/.hydra/overrides.yaml", hydra),
    "metrics": ("run/metrics.json", lambda path: read_metrics(path.parent)),
    "manifest": ("run/manifest.json", lambda path: read_manifest(path.parent)),
    "curves to resume": ("run/curves.csv", CurvesLogger),
    "snapshot": ("snapshot/config.yaml", lambda path: read_snapshot(path.parent)),
    "results.csv": ("results.csv", read_frame),
    "measure": ("measure.csv", measured.read_table),
    "projection": ("run/measures/projection.parquet", lambda path: read_maps(path.parents[2], [])),
    "verdict.json": ("verdict.json", read_verdict),
    "words.yaml": ("words.yaml", read_words_file),
    "conllu": ("a.conllu", read_conllu),
    "conll": ("sample.conll", conll),
    "ratings": ("ratings.txt", read_judgements),
    "checkpoint.json": ("run/checkpoint/checkpoint.json", checkpoint),
    "trained.safetensors": ("run/checkpoint/trained.safetensors", checkpoint),
    "cache manifest": ("cache/activations/3fa9/states-4-fp32/manifest.json", cache),
    "cache shard": ("cache/activations/3fa9/states-4-fp32/*.safetensors", cache),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole file of every kind."""
    root: Path = tmp_path_factory.mktemp("whole")
    ROWS.to_csv(root / "sentences.csv", index=False)
    ROWS.to_csv(root / "sentences.tsv", index=False, sep="\t")
    ROWS.to_json(root / "sentences.jsonl", orient="records", lines=True)
    ROWS.to_json(root / "sentences.json", orient="records", lines=True)
    ROWS.to_parquet(root / "sentences.parquet", index=False)
    (root / "lines.txt").write_text("a\nb\n")
    write_run(root / "run")
    (root / "run" / "checkpoint").mkdir()
    pointer = {"model": "tiny", "weights_hash": "w", "tokenizer_hash": "t", "class_names": ["a", "b"], "layer": None, "C": None}
    (root / "run" / "checkpoint" / "checkpoint.json").write_text(json.dumps(pointer))
    save_file({"head.weight": torch.ones(2, 3)}, root / "run" / "checkpoint" / "trained.safetensors")
    (root / "run" / "measures").mkdir()
    places = {f"{when}_{axis}": [0.5, 1.5] for when in ("before", "after") for axis in "xy"}
    pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"], **places}).to_parquet(root / "run/measures/projection.parquet")
    (root / "snapshot").mkdir()
    composed = compose_alone("train", ["model=tiny", "strategy=full"])
    (root / "snapshot" / "config.yaml").write_text(yaml.safe_dump(_resolved(composed)))
    collect(root / "run").to_csv(root / "results.csv", index=False)
    row = ["geometry", 1, "mean", "cka", 0.5, 0.4, 0.6, None, 9]
    pd.DataFrame([row], columns=list(measured.COLUMNS)).to_csv(root / "measure.csv", index=False)
    claim = {
        "name": "a",
        "statement": "b",
        "source": "c",
        "effect": "compromise",
        "unit": "",
        "threshold": 0.0,
        "supported": "above",
    }
    verdict = {"claim": claim | {"min_seeds": 2}, "verdict": "supported", "effect": [1, 0, 2], "seeds": 3, "detail": ""}
    (root / "verdict.json").write_text(json.dumps(verdict))
    (root / "words.yaml").write_text("flowers:\n  X: [rose, lily]\n  Y: [ant]\n")
    (root / "a.conllu").write_text("# newdoc\n" + "\t".join(["1", "cat", "cat", "NOUN", *"______"]) + "\n\n")
    (root / "sample.conll").write_text("-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n")
    (root / "ratings.txt").write_text("1\t0.5\ta film\t[1, 2, -1]\n2\t0.5\ta book\t[0, 2, 3]\n")
    store = runpy.run_path(str(TESTS / "encoder" / "test_store.py"))
    store["ensure"](Store(root / "cache"), range(4))
    return root


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """Arbitrary bytes, the beginning of what was there, a flipped bit of it, or, of JSON, another value somewhere."""
    what = data.draw(st.sampled_from(["other", "cut", "flipped", "flipped", "value", "value"]))
    if what == "other":
        return data.draw(st.binary(max_size=40))
    at = data.draw(st.integers(0, max(0, len(content) - 1)))
    if what == "cut":
        return content[:at]
    if what == "value":
        try:
            return json.dumps(changed(json.loads(content), data)).encode()
        except ValueError:
            pass
    return content[:at] + bytes([content[at] ^ (1 << data.draw(st.integers(0, 7)))]) + content[at + 1 :]


def check_file(whole: Path, name: str, tmp_path: Path, data: st.DataObject) -> None:
    pattern, read = READERS[name]
    (source,) = whole.glob(pattern)
    path = tmp_path / source.relative_to(whole)
    top = source.relative_to(whole).parts[0]
    if source.parent != whole:  # what lies beside it is whole: an earlier example may have changed it
        shutil.rmtree(tmp_path / top, ignore_errors=True)
        shutil.copytree(whole / top, tmp_path / top)
    path.write_bytes(damaged(source.read_bytes(), data))
    with suppress(FrostlineError):
        read(path)


def test_whole_files_are_read(whole: Path, tmp_path: Path) -> None:
    for pattern, read in READERS.values():
        (path,) = whole.glob(pattern)
        assert read(path) is not None


@pytest.mark.parametrize("name", READERS)
@settings(FEW, max_examples=15)
@given(data=st.data())
def test_any_file_is_read_or_told(whole: Path, tmp_path: Path, name: str, data: st.DataObject) -> None:
    check_file(whole, name, tmp_path, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@settings(MANY, max_examples=400)
@given(data=st.data())
def test_many_files_are_read_or_told(whole: Path, tmp_path: Path, name: str, data: st.DataObject) -> None:
    check_file(whole, name, tmp_path, data)
