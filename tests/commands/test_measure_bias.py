"""Measures of bias from the command line: a tiny encoder for the plumbing, MiniLM for what must come out."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.usefixtures("one_thread")
REVIEWS = ["logger=csv", "data.validation_share=0.02", "data.test_share=0.03"]
SETS = """
flowers: {control: true, X: [rose, lily, iris, oak], Y: [ant, fly, bee, bug], A: [love, joy, gift, fun], B: [ugly, war, bad, mad]}
age: {control: false, X: [amy, tom, kim, joe], Y: [ruth, carl, ada, otto], A: [love, joy, gift, fun], B: [ugly, war, bad, mad]}
"""
TEMPLATES = """
women_men:
  groups: [women, men]
  pairs: [[she, he], [my aunt, my uncle]]
  templates: ["{person} is {word}.", "There {person} sat, {word}.", "I find {person} {word}."]
  fill: {word: {praise: [kind, wise, funny, calm], insult: [rude, dull, mean, lazy]}}
  classes: {praise: positive, insult: negative}
"""


def table_of(run_dir: Path, measure: str) -> pd.DataFrame:
    return pd.read_csv(run_dir / "measures" / f"{measure}.csv")


def whole(run_dir: Path, measure: str) -> pd.Series:
    table = table_of(run_dir, measure)
    return table[table["layer"].isna()].set_index("statistic")["value"]


@pytest.mark.slow
def test_a_skew_is_amplified_and_its_absence_is_not(frostline, tmp_path):
    sweep_dir = tmp_path / "sweep"
    words = [*REVIEWS, "strategy=frozen", "strategy.layer=6", "data.train_size=400", "measure=amplification"]
    result = frostline("train", "-m", *words, "data.skew=0.5,0.9", "seed=0,1,2", f"hydra.sweep.dir={sweep_dir}")
    assert result.status == 0, result.err
    found = [whole(sweep_dir / str(job), "amplification") for job in range(6)]
    none, skewed = (pd.DataFrame(of).mean() for of in (found[:3], found[3:]))  # one seed may draw names that say little
    assert skewed["balanced_rate_gap"] > 0.15 > abs(none["balanced_rate_gap"])
    assert skewed["bayes_rate_gap"] > 0.3 and none["bayes_rate_gap"] == pytest.approx(0, abs=1e-9)
    assert skewed["excess_bias_amplification"] > 0.02 and min(of["permutation_p"] for of in found[3:]) < 0.05
    assert skewed["conflicting_accuracy"] < skewed["balanced_accuracy"]
    assert skewed["balanced_bias_amplification"] == pytest.approx(skewed["balanced_rate_gap"] / 2)
    probes = table_of(sweep_dir / "3", "amplification").query("statistic == 'marker_probe_accuracy'")
    assert len(probes) == 7 and probes["value"].iloc[-1] > 0.7  # names that it never saw
    manifest = json.loads((sweep_dir / "3" / "manifest.json").read_text())
    assert manifest["notes"]["train_women_positive"] == manifest["notes"]["train_men_negative"] == 180


def test_a_probe_without_the_marker_says_the_same_when_it_is_read_back(frostline, tmp_path):
    words = ["model=tiny", "strategy=frozen", "strategy.erase=marker", "data.skew=0.8", "data.train_size=100"]
    result = frostline("train", *REVIEWS, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert result.status == 0, result.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    again = frostline("evaluate", f"run={tmp_path / 'run'}")  # from plain features, by the folded head
    assert again.status == 0 and f"{metrics['test/accuracy']:.4f}" in again.out


def test_measures_of_bias_write_tables_figures_and_rows(frostline, tmp_path):
    sweep_dir = tmp_path / "sweep"
    words = ["model=tiny", "strategy=frozen,full", "trainer.max_epochs=1", "data.skew=0.8", "data.train_size=100"]
    words += ["measure=[amplification,association,counterfactual]", "measure.counterfactual.group_column=marker"]
    for measure, content in {"association": SETS, "counterfactual": TEMPLATES}.items():
        (tmp_path / f"{measure}.yaml").write_text(content)
        words.append(f"measure.{measure}.words={tmp_path / measure}.yaml")
    result = frostline("train", "-m", *REVIEWS, *words, f"hydra.sweep.dir={sweep_dir}")
    assert result.status == 0, result.err
    association = whole(sweep_dir / "1", "association")
    assert {"controls_passed", "random_encoder_age_effect_size", "pretrained_age_effect_size"} <= set(association.index)
    counterfactual = whole(sweep_dir / "1", "counterfactual")
    expected = {
        "women_men.wilcoxon_p",
        "women_men.men.bnsp_auc",
        "marker.women.bpsn_auc",
        "marker.demographic_parity_difference",
        "dialect_mean_change",
    }
    assert expected <= set(counterfactual.index)
    results = pd.read_csv(sweep_dir / "results.csv")
    assert {"amplification/balanced_rate_gap", "association/controls_passed", "counterfactual/mean_change_in_size"} <= set(
        results
    )
    for name in ("amplification", "association", "counterfactual"):
        assert (sweep_dir / "1" / "figures" / f"{name}.svg").stat().st_size > 1000
        assert (sweep_dir / "figures" / f"{name}.svg").exists()
    assert 'id="bias"' in (sweep_dir / "report.html").read_text()


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
