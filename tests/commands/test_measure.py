"""Measures from the command line: what they write, and that frozen runs show no change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

pytestmark = pytest.mark.usefixtures("one_thread")
# Small enough for seconds: one pooling beside the run's own, two tasks that the sentences of a test allow.
LAYERS = [
    *("measure.layers.poolings=[mean,cls]", "measure.layers.codelength_shuffles=1", "measure.layers.C_grid=[0.01,1]"),
    *("measure.layers.tasks=[sentence_length,tense]", "measure.layers.task_sentences=120", "measure.layers.token_tasks=[]"),
]
GEOMETRY = ["measure.geometry.split=train", "measure.geometry.attention_sentences=8"]


def table_of(run_dir: Path, measure: str) -> pd.DataFrame:
    return pd.read_csv(run_dir / "measures" / f"{measure}.csv")


def test_a_sweep_with_measures_writes_tables_figures_and_rows(frostline, tiny, tmp_path):
    sweep_dir = tmp_path / "sweep"
    words = ["strategy=frozen,full", "measure=[layers,geometry]", *LAYERS, *GEOMETRY]
    result = frostline("train", "-m", *tiny[:-1], *words, f"hydra.sweep.dir={sweep_dir}")
    assert result.status == 0, result.err
    # The sentences of the test are no English, so a task is left out, in one sentence; the others go on.
    assert "measure=layers leaves out tense: " in result.err
    for job in ("0", "1"):
        for name in ("layers.svg", "layers.png", "cka_by_layer.svg", "procrustes_by_layer.svg"):
            assert (sweep_dir / job / "figures" / name).stat().st_size > 1000
        layers = table_of(sweep_dir / job, "layers")
        assert {"probe_accuracy", "compression", "selectivity", "sentence_length.probe_accuracy"} <= set(layers["statistic"])
        assert set(layers["pooling"].dropna()) == {"mean", "cls"}
        manifest = json.loads((sweep_dir / job / "manifest.json").read_text())
        assert manifest["measures"] == {"asked": ["geometry", "layers"], "failed": 0}

    frozen, full = (table_of(sweep_dir / job, "geometry") for job in ("0", "1"))
    changes = frozen["statistic"].str.match(r".*_change$|procrustes_(translation|rotation|scale|residual|total)$")
    assert changes.sum() > 50
    assert frozen.loc[changes, "value"].abs().max() <= 1e-9
    similar = frozen["statistic"].isin(["cka_debiased", "cka_biased", "representational_similarity", "neighbour_overlap"])
    np.testing.assert_allclose(frozen.loc[similar, "value"].dropna(), 1, atol=1e-9)
    moved = full[(full["statistic"] == "procrustes_total") & (full["pooling"] == "mean")]
    assert (moved["value"] > 1e-6).all()
    parts = full[full["statistic"].isin([f"procrustes_{part}" for part in ("translation", "rotation", "scale", "residual")])]
    sums = parts.groupby(["layer", "pooling"])["value"].sum(min_count=4)
    totals = full[full["statistic"] == "procrustes_total"].set_index(["layer", "pooling"])["value"]
    np.testing.assert_allclose(sums, totals[sums.index], rtol=1e-9)

    results = pd.read_csv(sweep_dir / "results.csv")
    assert {"layers/best_layer", "layers/best_pooling", "geometry/last_layer_cka_debiased"} <= set(results.columns)
    assert results["geometry/last_layer_cka_debiased"].iloc[0] == pytest.approx(1)
    page = (sweep_dir / "report.html").read_text()
    assert "What the layers know" in page and "What training did to the space" in page


def test_measuring_later_is_the_same_as_measuring_at_the_end(frostline, tiny, tmp_path):
    at_the_end, later = tmp_path / "one", tmp_path / "two"
    words = [*tiny, "strategy=partial", "strategy.frozen_depth=1", "trainer.max_epochs=1"]
    assert frostline("train", *words, "measure=geometry", *GEOMETRY, f"hydra.run.dir={at_the_end}").status == 0
    assert frostline("train", *words, f"hydra.run.dir={later}").status == 0
    result = frostline("measure", f"run={later}", "measure=geometry", *GEOMETRY)
    assert result.status == 0, result.err
    pd.testing.assert_frame_equal(table_of(at_the_end, "geometry"), table_of(later, "geometry"))
    below = table_of(later, "geometry")
    frozen = below[(below["layer"] <= 1) & (below["statistic"] == "procrustes_total")]
    assert frozen["value"].abs().max() <= 1e-9  # the frozen blocks' outputs did not change
    assert below[(below["layer"] == 2) & (below["statistic"] == "procrustes_total")]["value"].min() > 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["measure=layrs"], "'layrs' is not a choice of measure; did you mean 'layers'?"),
        ([], "No measure was chosen; choose some with measure=[layers,geometry]."),
        (["measure=geometry", "measure.geometry.poolings=[men]"], "measure.geometry.poolings is ['men'], but must be a list of"),
        (["measure=geometry", "measure.geometry.neighbors=5"], "measure.geometry.neighbours"),
    ],
)
def test_what_is_not_there_to_be_measured_is_told(frostline, tiny, tmp_path, words, sentence):
    run_dir = tmp_path / "run"
    assert frostline("train", *tiny[:-1], f"hydra.run.dir={run_dir}").status == 0
    result = frostline("measure", f"run={run_dir}", *words)
    assert result.status == 1
    assert sentence in result.err
    assert "Traceback" not in result.err


def test_a_run_that_cannot_be_measured_is_told_and_fails(frostline, tiny, tmp_path):
    run_dir = tmp_path / "run"
    result = frostline("measure", f"run={run_dir}", "measure=geometry")
    assert result.status == 1
    assert f"There is no directory {run_dir}" in result.err
    assert frostline("train", *tiny[:-1], f"hydra.run.dir={run_dir}").status == 0
    result = frostline("measure", f"run={run_dir}", "measure=geometry", "measure.geometry.split=validation")
    assert "needs at least 20 sentences, but the validation split has" in result.err
    assert result.status == 1

    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["model"]["weights_seed"] = 1
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    result = frostline("measure", f"run={run_dir}", "measure=geometry")
    assert "was trained on another pretrained base" in result.err
    assert result.status == 1
    (run_dir / "checkpoint" / "checkpoint.json").unlink()
    result = frostline("measure", f"run={run_dir}", "measure=geometry")
    assert "has no checkpoint" in result.err
    assert result.status == 1


def test_claims_lists_every_experiment_and_its_last_verdict(frostline, tmp_path):
    result = frostline("claims")
    assert result.status == 0
    assert "top_layers_change_most" in result.out and "Merchant et al. 2020" in result.out
    assert result.out.count("not run yet") >= 7
    claim = {"name": "top_layers_change_most", "statement": "s", "source": "s", "effect": "top_over_bottom_change"}
    claim |= {"unit": "", "supported": "above", "threshold": 0.0, "min_seeds": 3}
    verdict = {"claim": claim, "verdict": "supported", "effect": [0.25, 0.2, 0.3], "seeds": 5, "detail": ""}
    folder = tmp_path / "outputs" / "sweeps" / "2026-01-01" / "12-00-00"
    folder.mkdir(parents=True)
    (folder / "verdict.json").write_text(json.dumps(verdict))
    result = frostline("claims")
    assert "supported" in result.out and "0.25 (0.2 to 0.3), 5 seeds" in result.out


FORGETTING = [
    *("measure.forgetting.sentences=60", "measure.forgetting.tasks=[sentence_length]", "measure.forgetting.task_sentences=300"),
    *("measure.forgetting.C_grid=[0.01,1]", "measure.forgetting.reading_sentences=40"),
    *("measure.forgetting.pseudo_perplexity_sentences=3", "measure.forgetting.path=[0,1]"),
]
TWEETS = ["model=tiny", "logger=csv", "data=tweets", "data.train_size=120", "data.validation_share=0.03", "data.test_share=0.03"]


@pytest.mark.slow
def test_a_frozen_run_forgets_exactly_nothing_and_a_full_one_forgets(frostline, tmp_path):
    sweep_dir = tmp_path / "sweep"
    words = ["strategy=frozen,full,lora", "optimizer.lr=1e-2", "optimizer=adamw", "measure=[forgetting,overfitting]", *FORGETTING]
    result = frostline("train", "-m", *TWEETS, *words, "trainer.max_epochs=2", f"hydra.sweep.dir={sweep_dir}")
    assert result.status == 0, result.err
    assert "leaves out" not in result.err
    frozen, full, lora = (table_of(sweep_dir / job, "forgetting").set_index("statistic")["value"] for job in ("0", "1", "2"))
    changes = [name for name in frozen.index if name.endswith("_change")]
    assert len(changes) > 15
    assert (frozen[changes] == 0).all() and (frozen["weight_distance"] == 0).all()
    for adapted in (full, lora):
        assert adapted["weight_distance"].max() > 0 and adapted["reading_loss_change"] != 0
        assert adapted["neighbour_overlap_change"] < 0
    # The ends of the path are the pretrained encoder and the run itself.
    assert full["alpha_1.in_domain_accuracy"] == full["in_domain_accuracy"]
    assert full["alpha_1.similarity_correlation"] == pytest.approx(full["similarity_correlation"])
    kept = full["similarity_correlation"] - full["similarity_correlation_change"]
    assert full["alpha_0.similarity_correlation"] == pytest.approx(kept)

    overfitting = table_of(sweep_dir / "1", "overfitting").set_index("statistic")["value"]
    metrics = json.loads((sweep_dir / "1" / "metrics.json").read_text())
    assert overfitting["train_loss"] == pytest.approx(metrics["train/loss"], abs=1e-4)
    assert overfitting["validation_accuracy"] == pytest.approx(metrics["val/accuracy"])
    assert overfitting["loss_gap"] == pytest.approx(overfitting["validation_loss"] - overfitting["train_loss"])
    assert overfitting["parameters_per_sentence"] == metrics["trained_parameters"] / 120
    results = pd.read_csv(sweep_dir / "results.csv")
    assert {"forgetting/similarity_correlation_change", "overfitting/loss_gap"} <= set(results.columns)
    assert "What thawing costs" in (sweep_dir / "report.html").read_text()
    assert (sweep_dir / "1" / "figures" / "forgetting.svg").exists() and (sweep_dir / "figures" / "losses.svg").exists()


def test_wrong_labels_that_are_reproduced_are_counted(frostline, tmp_path):
    words = [*TWEETS, "strategy=full", "optimizer.lr=1e-2", "data.label_noise=0.2", "trainer.max_epochs=1", "measure=overfitting"]
    result = frostline("train", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert result.status == 0, result.err
    found = table_of(tmp_path / "run", "overfitting").set_index("statistic")
    memorised, recovered = found.loc["memorised_wrong_labels"], found.loc["recovered_clean_labels"]
    assert memorised["n"] == recovered["n"] == 24
    assert memorised["value"] + recovered["value"] == pytest.approx(1)  # of two classes it is one or the other
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["notes"]["flipped_labels"] == 24
