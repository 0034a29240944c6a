from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from frostline.encoder import stock
from tests.bad_input.test_bad_input import assert_refused
from tests.commands.run_files import predictions
from tests.commands.test_predict import OTHERS, pairs  # noqa: F401
from tests.commands.test_reproduce import STRATEGIES

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_same_logits(run_dir, folder, split, count=24):
    """Transformers alone gives the logits that the run wrote, one sentence at a time and in padded batches."""
    model, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    table = predictions(run_dir)
    table = table[table["split"] == split].head(count)
    names = [column.removeprefix("logit_") for column in table if column.startswith("logit_")]
    assert [model.config.id2label[i] for i in range(len(names))] == names
    expected = table[[f"logit_{name}" for name in names]].to_numpy()
    columns = [table[column].tolist() for column in ("text", "text_pair") if column in table]
    options = {"truncation": True, "return_tensors": "pt"}
    with torch.inference_mode():
        padded = model(**tokenizer(*columns, padding=True, **options)).logits.numpy()
        single = [model(**tokenizer(*([c[i]] for c in columns), **options)).logits[0].numpy() for i in range(len(table))]
    np.testing.assert_allclose(padded, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.stack(single), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("strategy", [*STRATEGIES.values(), *OTHERS.values()], ids=[*STRATEGIES, *OTHERS])
def test_a_plain_model_has_the_logits_of_the_run(frostline, finished, tiny, tmp_path, strategy):
    run_dir, folder = finished(*tiny[:-1], *strategy), tmp_path / "model"
    result = frostline("export", f"run={run_dir}", f"to={folder}")
    assert result.status == 0, result.err
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".md", ".txt"}
    assert_same_logits(run_dir, folder, "test")
    assert "| strategy |" in (folder / "README.md").read_text()


def test_a_probe_of_features_that_hardly_vary_is_exported_with_a_word_on_rounding(frostline, finished, tiny, tmp_path):
    run_dir = finished(*tiny[:-1], "strategy=frozen", "model.pooling=cls", "strategy.layer=2", "optimizer.C=0.1")
    result = frostline("export", f"run={run_dir}", f"to={tmp_path / 'model'}")
    assert result.status == 0, result.err
    assert "exact to" in result.out


def test_the_pipeline_gives_the_classes_and_truncates_as_the_run(frostline, finished, tiny, tmp_path):
    run_dir = finished(*tiny[:-1], *STRATEGIES["full"], "data.max_length=16")
    assert frostline("export", f"run={run_dir}", f"to={tmp_path / 'model'}").status == 0
    table = predictions(run_dir).query("split == 'test'").head(8)
    classify = pipeline("text-classification", model=str(tmp_path / "model"), truncation=True)
    told = classify(table["text"].tolist())
    assert [one["label"] for one in told] == [["bad", "good"][i] for i in table["prediction"]]
    assert_same_logits(run_dir, tmp_path / "model", "test")


def test_pairs_have_the_logits_of_the_run(frostline, pairs, tmp_path):  # noqa: F811
    (tmp_path / "model").mkdir()  # an empty folder is as good as none
    result = frostline("export", f"run={pairs}", f"to={tmp_path / 'model'}")
    assert result.status == 0, result.err
    assert_same_logits(pairs, tmp_path / "model", "test")


@pytest.mark.parametrize(
    "strategy", [["frozen"], ["partial", "strategy.frozen_depth=5"], ["full"]], ids=["probe", "partial", "full"]
)
def test_minilm_as_a_plain_model_has_the_logits_of_the_run(frostline, tmp_path, strategy):
    words = ["logger=csv", "data.train_size=24", f"strategy={strategy[0]}", *strategy[1:], "test=false"]
    words += ["data.validation_share=0.02"] + (["trainer.max_epochs=1"] if strategy[0] != "frozen" else [])
    words += ["trainer.precision=32-true", "cache=memory"]
    assert frostline("train", *words, f"hydra.run.dir={tmp_path / 'run'}").status == 0
    result = frostline("export", f"run={tmp_path / 'run'}", f"to={tmp_path / 'model'}")
    assert result.status == 0, result.err
    assert_same_logits(tmp_path / "run", tmp_path / "model", "validation")


def test_a_folder_that_holds_something_is_left_alone(frostline, finished, tiny, tmp_path):
    run_dir, folder = finished(*tiny[:-1], *STRATEGIES["full"]), tmp_path / "model"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert_refused(frostline("export", f"run={run_dir}", f"to={folder}"), "exists already", "to=", command="export")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_what_cannot_be_exported_leaves_nothing(frostline, finished, tiny, tmp_path, monkeypatch):
    run_dir = finished(*tiny[:-1], *STRATEGIES["full"])
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(stock, "SMALL", 1.0)  # a wrong model
    result = frostline("export", f"run={run_dir}", f"to={tmp_path / 'model'}")
    assert_refused(result, "would differ", "frostline predict", command="export")
    copied = shutil.copytree(run_dir, tmp_path / "run")
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("pooling: mean", "pooling: max"))
    result = frostline("export", f"run={copied}", f"to={tmp_path / 'model'}")
    assert_refused(result, "model.pooling=max", "model.pooling=cls or mean", command="export")
    assert sorted(tmp_path.iterdir()) == sorted([*before, copied])
