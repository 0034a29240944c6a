from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from lightning import Callback
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.commands.run_files import curves, manifest, metrics, predictions
from tests.commands.test_reproduce import STRATEGIES

FULL = ["strategy=full", "optimizer.lr=1e-3"]


def run(frostline, directory: Path, *words: str) -> Path:
    result = frostline("train", *words, f"hydra.run.dir={directory}")
    assert result.status == 0, result.err
    return directory


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_directory_holds_what_the_contract_promises(finished, tiny, strategy):
    run_dir = finished(*tiny[:-1], *STRATEGIES[strategy])
    files = {p.relative_to(run_dir).as_posix() for p in run_dir.rglob("*") if p.is_file()}
    assert {
        "config.yaml", "manifest.json", "metrics.json", "curves.csv", "predictions.parquet",
        ".hydra/config.yaml", ".hydra/overrides.yaml", "checkpoint/trained.safetensors", "checkpoint/checkpoint.json",
    } <= files  # fmt: skip
    assert not [name for name in files if "resume" in name or name.endswith((".part", ".lock"))]
    names = {f"{split}/{score}" for split in ("train", "val", "test") for score in ("accuracy", "macro_f1", "loss")}
    assert names | {"trained_parameters", "total_parameters"} <= metrics(run_dir).keys()
    facts = manifest(run_dir)
    assert facts["status"] == "finished" and facts["exit_status"] == 0
    assert {
        "code",
        "packages",
        "seed",
        "weights_hash",
        "tokenizer_hash",
        "data_hashes",
        "device",
        "threads",
        "precision",
    } <= facts.keys()
    columns = ["split", "index", "text", "label", "prediction", "logit_bad", "logit_good", "unknown_words"]
    assert list(predictions(run_dir).columns) == columns


def test_metrics_equal_a_recomputation_from_the_predictions(finished, tiny):
    run_dir = finished(*tiny, *FULL)
    final, table = metrics(run_dir), predictions(run_dir)
    for split, name in (("validation", "val"), ("test", "test")):
        rows = table[table["split"] == split]
        logits = rows[["logit_bad", "logit_good"]].to_numpy()
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert final[f"{name}/accuracy"] == accuracy_score(rows["label"], rows["prediction"])
        assert final[f"{name}/macro_f1"] == f1_score(rows["label"], rows["prediction"], average="macro")
        assert final[f"{name}/loss"] == pytest.approx(log_loss(rows["label"], probabilities), abs=1e-9)
        assert (logits.argmax(axis=1) == rows["prediction"]).all()


def test_every_split_is_scored_once_in_its_own_order(finished, tiny, reviews_csv):
    table = predictions(finished(*tiny, *FULL))
    source = pd.read_csv(reviews_csv).set_index("text")["label"]
    for _, rows in table.groupby("split"):
        assert list(rows["index"]) == list(range(len(rows)))
    assert not table["text"].duplicated().any()
    assert [["bad", "good"][label] for label in table["label"]] == list(source[table["text"]])


def test_fine_tuning_learns_what_a_majority_guess_cannot(frostline, tiny, tmp_path):
    final = metrics(run(frostline, tmp_path / "run", *tiny, "strategy=full", "optimizer.lr=5e-3", "trainer.max_epochs=15"))
    assert final["test/accuracy"] > 0.8


def test_depth_0_is_full_fine_tuning_bit_for_bit(frostline, finished, tiny, tmp_path):
    partial = run(frostline, tmp_path / "partial", *tiny, "strategy=partial", "strategy.frozen_depth=0", "optimizer.lr=1e-3")
    full = finished(*tiny, *FULL)
    assert metrics(partial) == metrics(full)
    assert predictions(partial).equals(predictions(full))
    assert curves(partial).equals(curves(full))
    old, new = (load_file(folder / "checkpoint/trained.safetensors") for folder in (partial, full))
    assert old.keys() == new.keys() and all(old[k].equal(new[k]) for k in old)


def test_depth_L_is_a_probe_with_the_same_optimizer(frostline, tiny, tmp_path):
    same = ["optimizer.lr=1e-2", "trainer.max_epochs=4"]
    partial = run(frostline, tmp_path / "partial", *tiny, "strategy=partial", "strategy.frozen_depth=4", *same)
    words = ["strategy=frozen", "strategy.layer=last", "strategy.standardize=false", "optimizer=adamw", "scheduler=linear_warmup"]
    probe = run(frostline, tmp_path / "probe", *tiny, *words, *same)
    assert metrics(partial)["test/accuracy"] == metrics(probe)["test/accuracy"]
    assert metrics(partial)["val/loss"] == pytest.approx(metrics(probe)["val/loss"], abs=1e-5)
    assert np.allclose(curves(partial)["train/loss"], curves(probe)["train/loss"], atol=1e-5)


def test_a_checkpoint_holds_only_what_was_trained(finished, tiny):
    probe = finished(*tiny[:-1], *STRATEGIES["probe"])
    assert load_file(probe / "checkpoint/trained.safetensors").keys() == {"head.weight", "head.bias", "mean", "scale"}
    partial = finished(*tiny[:-1], *STRATEGIES["partial"])
    names = load_file(partial / "checkpoint/trained.safetensors").keys()
    assert {n.split(".")[3] for n in names if n.startswith("encoder.")} == {"2", "3"}
    assert (probe / "checkpoint/trained.safetensors").stat().st_size < 8_000


def test_the_same_seed_repeats_and_another_differs(frostline, tiny, tmp_path):
    words = [*tiny, *FULL, "data.train_size=60", "trainer.max_epochs=1"]
    first, again, other = (run(frostline, tmp_path / f"{i}", *words, f"seed={seed}") for i, seed in enumerate((0, 0, 1)))
    assert metrics(first) == metrics(again)
    assert predictions(first).equals(predictions(again))
    assert metrics(first)["test/loss"] != metrics(other)["test/loss"]
    hashes = [manifest(d)["data_hashes"] for d in (first, other)]
    assert hashes[0]["train"] != hashes[1]["train"], "the seed draws the training subset"
    assert hashes[0]["test"] == hashes[1]["test"], "but every run is scored on the same sentences"


WAYS = {
    "exact probe": STRATEGIES["probe"],
    "cached states": STRATEGIES["partial"],
    "tokens": STRATEGIES["full"],
    "bf16": [*STRATEGIES["full"], "trainer.precision=bf16-mixed"],
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_best_epochs_own_pass_over_validation_is_its_score_to_the_last_bit(frostline, tiny, tmp_path, monkeypatch, way):
    """What training scored is not scored again; another pass would find the same."""
    import frostline.commands.train as train_module

    passes, own = [], train_module.predict
    monkeypatch.setattr(train_module, "predict", lambda *args: passes.append(args[2]) or own(*args))
    monkeypatch.setattr("frostline.processor.has_bf16", lambda: True)
    words = [*tiny[:-1], *way, "trainer.max_epochs=1"]
    kept = run(frostline, tmp_path / "kept", *words)
    assert passes == ["train", "test"]
    monkeypatch.setattr(train_module.KeepBest, "on_validation_batch_end", Callback.on_validation_batch_end)
    scored = run(frostline, tmp_path / "scored", *words)
    assert passes[2:] == ["train", "validation", "test"]
    assert predictions(kept).equals(predictions(scored))
    assert metrics(kept) == metrics(scored)


def test_test_false_leaves_the_test_split_unread(frostline, tiny, tmp_path):
    run_dir = run(frostline, tmp_path / "run", *tiny, *FULL, "test=false", "trainer.max_epochs=1")
    assert not [name for name in metrics(run_dir) if name.startswith("test/")]
    assert set(predictions(run_dir)["split"]) == {"validation"}


def test_the_best_epoch_by_validation_is_kept(frostline, tiny, tmp_path):
    words = [*tiny, "strategy=full", "optimizer.lr=2e-2", "scheduler=constant", "trainer.max_epochs=6"]
    run_dir = run(frostline, tmp_path / "run", *words)
    assert metrics(run_dir)["val/accuracy"] == pytest.approx(curves(run_dir)["val/accuracy"].max(), abs=1e-6)


def test_early_stopping_ends_a_run_that_no_longer_improves(frostline, tiny, tmp_path):
    words = [*tiny, "strategy=full", "optimizer.lr=1e-7", "callbacks=early_stopping", "trainer.max_epochs=30"]
    assert curves(run(frostline, tmp_path / "run", *words))["epoch"].max() < 29


def test_accumulation_equals_the_larger_batch(frostline, tiny, tmp_path):
    """Without dropout (a probe), two batches of 8 per step move the head as one of 16 does, if the order is the same."""
    same = ["strategy=frozen", "strategy.layer=2", "optimizer=sgd", "optimizer.lr=0.1", "optimizer.gradient_clip=null"]
    once = run(frostline, tmp_path / "once", *tiny[:-1], *same, "trainer.max_epochs=1", "data.batch_size=84")
    parts = ["data.batch_size=42", "trainer.accumulate_grad_batches=2"]
    twice = run(frostline, tmp_path / "twice", *tiny[:-1], *same, "trainer.max_epochs=1", *parts)
    assert metrics(once)["val/loss"] == pytest.approx(metrics(twice)["val/loss"], abs=1e-5)


def test_mixed_precision_trains(frostline, tiny, tmp_path, monkeypatch):
    """bf16 comes out the same where it is emulated; users are only kept from waiting for it."""
    words = [*tiny, *FULL, "trainer.max_epochs=1"]
    exact = run(frostline, tmp_path / "exact", *words, "trainer.precision=32-true")
    monkeypatch.setattr("frostline.processor.has_bf16", lambda: True)
    mixed = run(frostline, tmp_path / "mixed", *words, "trainer.precision=auto")
    assert metrics(mixed)["val/loss"] == pytest.approx(metrics(exact)["val/loss"], abs=0.05)
    assert metrics(mixed)["val/loss"] != metrics(exact)["val/loss"]
    assert manifest(mixed)["precision"] == "bf16-mixed"


@pytest.mark.parametrize("family", ["distilbert", "roberta", "modernbert", "deberta-v2", "electra", "gpt2"])
def test_every_family_trains_partially(frostline, tiny, tmp_path, family):
    pooling = "last" if family == "gpt2" else "mean"
    words = [
        f"model.family={family}",
        f"model.pooling={pooling}",
        "strategy=partial",
        "strategy.frozen_depth=2",
        "trainer.max_epochs=1",
    ]
    run_dir = run(frostline, tmp_path / "run", *tiny, *words)
    assert manifest(run_dir)["frozen_depth"] == 2


def test_sentence_pairs_and_more_than_two_classes(frostline, tmp_path):
    rows = [{"a": f"{i} {w}", "b": f"{w} {i}", "kind": k} for i in range(30) for k, w in enumerate(("red", "green", "blue"))]
    pd.DataFrame(rows).to_json(tmp_path / "pairs.jsonl", orient="records", lines=True)
    words = ["data=files", f"data.train={tmp_path / 'pairs.jsonl'}", "data.text_column=a", "data.text_pair_column=b"]
    run_dir = run(frostline, tmp_path / "run", "model=tiny", "logger=csv", *words, "data.label_column=kind", "strategy=full")
    assert [c for c in predictions(run_dir).columns if c.startswith("logit_")] == ["logit_0", "logit_1", "logit_2"]
    assert "text_pair" in predictions(run_dir)


def test_the_snapshot_is_resolved_and_complete(finished, tiny):
    text = (finished(*tiny, *FULL) / "config.yaml").read_text()
    assert "${" not in text
    assert yaml.safe_load(text)["optimizer"]["lr"] == 1e-3


def test_the_exact_probe_is_scikit_learns_logistic_regression(frostline, cache_dir, tmp_path):
    """MiniLM on real sentences: same features, same C."""
    import torch

    from frostline.encoder.load import load_encoder
    from frostline.runs.snapshot import read_snapshot

    words = ["logger=csv", "data.train_size=200", "data.validation_share=0.01", "data.test_share=0.01"]
    run_dir = run(frostline, tmp_path / "run", *words, "strategy=frozen", "strategy.layer=4")
    config, facts = read_snapshot(run_dir), manifest(run_dir)

    def features_of(pretrained, texts):
        tokens = pretrained.tokenizer(texts, truncation=True, max_length=128, padding=True, return_tensors="pt")
        with torch.no_grad():
            states = pretrained.model(**tokens, output_hidden_states=True).hidden_states[4]
        mask = tokens["attention_mask"][..., None]
        return ((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy()

    from frostline.data.sentences import load_data

    data, pretrained = load_data(config.data, cache_dir, config.seed), load_encoder(config.model, cache_dir)
    features, labels = {}, {}
    for name in ("train", "test"):
        texts = data.splits[name]["text"][:]
        features[name] = np.concatenate([features_of(pretrained, texts[i : i + 50]) for i in range(0, len(texts), 50)])
        labels[name] = np.asarray(data.splits[name]["label"][:])
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=facts["C"], tol=1e-8, max_iter=10_000))
    pipeline.fit(features["train"], labels["train"])
    rows = predictions(run_dir).query("split == 'test'")
    difference = rows["logit_positive"].to_numpy() - rows["logit_negative"].to_numpy()
    assert np.allclose(difference, pipeline.decision_function(features["test"]), atol=2e-3)
    assert metrics(run_dir)["test/accuracy"] == pytest.approx(pipeline.score(features["test"], labels["test"]), abs=2 / len(rows))
