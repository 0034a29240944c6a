"""Measures of bias from the command line: a tiny encoder for the plumbing, MiniLM for what must come out."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.usefixtures("one_thread")
REVIEWS = ["logger=csv", "data.validation_share=0.03", "data.test_share=0.05"]


def table_of(run_dir: Path, measure: str) -> pd.DataFrame:
    return pd.read_csv(run_dir / "measures" / f"{measure}.csv")


def whole(run_dir: Path, measure: str) -> pd.Series:
    table = table_of(run_dir, measure)
    return table[table["layer"].isna()].set_index("statistic")["value"]


def test_a_skew_is_amplified_and_its_absence_is_not(frostline, tmp_path):
    sweep_dir = tmp_path / "sweep"
    words = ["strategy=frozen", "data.skew=0.5,0.8", "data.train_size=800", "measure=[amplification,association,counterfactual]"]
    words += ["measure.association.permutations=200", "measure.association.poolings=[mean]"]
    words += ["measure.counterfactual.group_column=marker"]
    result = frostline("train", "-m", *REVIEWS, *words, f"hydra.sweep.dir={sweep_dir}")
    assert result.status == 0, result.err
    none, skewed = (whole(sweep_dir / job, "amplification") for job in ("0", "1"))
    assert skewed["balanced_rate_gap"] > 0.1 > abs(none["balanced_rate_gap"])
    assert skewed["bayes_rate_gap"] > 0.1 and none["bayes_rate_gap"] == pytest.approx(0, abs=1e-9)
    assert skewed["permutation_p"] < 0.05
    assert skewed["conflicting_accuracy"] < skewed["balanced_accuracy"]
    assert skewed["balanced_bias_amplification"] == pytest.approx(skewed["balanced_rate_gap"] / 2)
    probes = table_of(sweep_dir / "1", "amplification").query("statistic == 'marker_probe_accuracy'")
    assert len(probes) == 7 and probes["value"].iloc[-1] > 0.7  # names that it never saw

    association = whole(sweep_dir / "0", "association")
    assert association["controls_passed"] == 1
    assert association["flowers_insects_effect_size"] > 0.5 and association["mean_absolute_effect_size"] > 0
    counterfactual = whole(sweep_dir / "1", "counterfactual")
    assert counterfactual["women_men.mean_change"] < -0.02  # women's reviews were the positive ones
    assert {"religion.wilcoxon_p", "marker.women.bpsn_auc", "marker.demographic_parity_difference"} <= set(counterfactual.index)

    manifest = json.loads((sweep_dir / "1" / "manifest.json").read_text())
    assert manifest["notes"]["train_women_positive"] == manifest["notes"]["train_men_negative"] == 320
    results = pd.read_csv(sweep_dir / "results.csv")
    assert {"amplification/balanced_rate_gap", "association/controls_passed"} <= set(results.columns)
    for name in ("amplification", "association", "counterfactual"):
        assert (sweep_dir / "1" / "figures" / f"{name}.svg").stat().st_size > 1000
        assert (sweep_dir / "figures" / f"{name}.svg").exists()
    assert 'id="bias"' in (sweep_dir / "report.html").read_text()


def test_an_erased_marker_moves_no_prediction(frostline, tmp_path):
    words = ["strategy=frozen", "strategy.layer=6", "strategy.erase=marker", "data.skew=0.8", "data.train_size=800"]
    result = frostline("train", *REVIEWS, *words, "measure=amplification", f"hydra.run.dir={tmp_path / 'run'}")
    assert result.status == 0, result.err
    assert abs(whole(tmp_path / "run", "amplification")["balanced_rate_gap"]) < 0.1
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    again = frostline("evaluate", f"run={tmp_path / 'run'}")  # from plain features, by the folded head
    assert again.status == 0 and f"{metrics['test/accuracy']:.4f}" in again.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["strategy=frozen", "strategy.erase=marcer", "data.skew=0.5", "data=tweets"],
            "no column 'marcer'; did you mean 'marker'?",
        ),
        (["strategy=frozen", "data.mitigation=subsample"], "data.mitigation takes a skew out again, but data.skew is null"),
        (["data.skew=0.4"], "data.skew is 0.4"),
        (["data.marker=someone"], "data.marker"),
        (["data=tweets", "data.skew=0.8", "data.domain=mixed"], "data.skew is drawn from one domain"),
        (["measure=likelihood", "measure.likelihood.parts=[crows]"], "measure.likelihood.parts"),
    ],
)
def test_keys_that_cannot_be_are_refused(frostline, tmp_path, words, says):
    result = frostline("train", "model=tiny", "logger=csv", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert result.status != 0 and says in result.err and "Traceback" not in result.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["measure=amplification"], "measure=amplification needs sentences with markers; train with data.skew=0.5 or more."),
        (["measure=likelihood"], "has no head for masked words"),
    ],
)
def test_a_measure_that_cannot_be_made_says_why(frostline, tiny, tmp_path, words, says):
    result = frostline("train", *tiny, "strategy=full", "trainer.max_epochs=1", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert says in result.err and "Traceback" not in result.err
    assert (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ("odd: {X: [a, b, c, d, e], Y: [a, b, c, d], A: [a, b, c, d], B: [a, b, c, d]}", "X has 5 words, Y 4"),
        ("few: {X: [a, b, c], Y: [a, b, c], A: [a, b, c, d], B: [a, b, c, d]}", "its set X has 3 words; at least 4"),
        ("none: {X: [a, b, c, d], Y: [a, b, c, d], A: [a, b, c, d]}", "its set B must be a list of words"),
        ("strange: {X: [a, b, c, ☃], Y: [a, b, c, d], A: [a, b, c, d], B: [a, b, c, d]}", "the tokenizer does not know '☃'"),
        ("- a\n- b", "must hold sets of words by name"),
        ("a: [", "is not a YAML file (line 2)"),
    ],
)
def test_word_sets_that_cannot_be_used_are_told(frostline, tiny, tmp_path, sets, says):
    file = tmp_path / "sets.yaml"
    file.write_text(f"{sets}\n", encoding="utf-8")
    words = ["strategy=full", "trainer.max_epochs=1", "measure=association", f"measure.association.words={file}"]
    result = frostline("train", *tiny, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert says in result.err and "Traceback" not in result.err
