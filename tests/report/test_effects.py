"""Effects and verdicts, on synthetic runs of which the truth is known."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from frostline.errors import FrostlineError
from frostline.measures.statistics import Interval
from frostline.measures.table import MeasureTable
from frostline.report.arms import Arm, summarise
from frostline.report.effects import EFFECTS, Effect
from frostline.report.measures import layers_in_words
from frostline.report.verdict import decide, judge, read_verdict, write_verdict
from frostline.runs.files import write_csv, write_parquet
from frostline.runs.sweep import collect
from frostline.schema import ClaimConfig

SYNTHETIC = runpy.run_path(str(Path(__file__).with_name("test_table.py")))
write_run, write_sweep = SYNTHETIC["write_run"], SYNTHETIC["write_sweep"]
CLAIM = ClaimConfig("a_claim", "Something holds", "Somebody 2020", "probe_share_of_gain", "of the gain", "above", 0.5, 3)


def arms_of(folder: Path) -> list[Arm]:
    return summarise(folder, collect(folder))


def accuracy(folder: Path, strategy: str) -> float:
    arm = next(arm for arm in arms_of(folder) if arm.strategy == strategy)
    assert arm.test is not None
    return arm.test.mean


@pytest.fixture
def sweep_dir(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)  # type: ignore[no-any-return]


# --- accuracies ------------------------------------------------------------------------------------------------------------


def test_shares_of_gains_are_computed_from_the_chosen_runs(sweep_dir: Path) -> None:
    probe, partial, full = (accuracy(sweep_dir, name) for name in ("frozen", "partial", "full"))
    labels = SYNTHETIC["LABELS"]
    majority = max(labels.mean(), 1 - labels.mean())
    arms = arms_of(sweep_dir)
    found = EFFECTS["probe_share_of_gain"](arms, sweep_dir)
    assert found.interval.mean == pytest.approx((probe - majority) / (full - majority))
    assert found.seeds == 3
    assert f"probe {100 * probe:.1f} %" in found.detail
    found = EFFECTS["upper_share_of_gain"](arms, sweep_dir)
    assert found.interval.mean == pytest.approx((partial - probe) / (full - probe))
    assert found.interval.low < found.interval.mean < found.interval.high


def test_a_missing_arm_and_a_gain_that_is_none_are_told(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path / f"{seed}", strategy="frozen", lr=None, seed=seed, test=0.9)
    with pytest.raises(FrostlineError, match="strategy=full"):
        EFFECTS["probe_share_of_gain"](arms_of(tmp_path), tmp_path)
    for seed in range(2):
        write_run(tmp_path / f"{seed + 2}", strategy="full", seed=seed, test=0.3)
    with pytest.raises(FrostlineError, match="no gain to share"):
        EFFECTS["probe_share_of_gain"](arms_of(tmp_path), tmp_path)


# --- what measures wrote ------------------------------------------------------------------------------------------------------


def write_geometry(run_dir: Path, cka: list[float], parts: dict[str, float]) -> None:
    table = MeasureTable("geometry")
    for layer, value in enumerate(cka):
        for pooling, shift in (("mean", 0.0), ("cls", -0.01)):
            table.add("cka_debiased", Interval(value + shift, value + shift, value + shift), layer, pooling, 0.0, 400)
            for part, moved in parts.items():
                table.add(f"procrustes_{part}", moved, layer, pooling, 0.0, 400)
    write_csv(run_dir / "measures" / "geometry.csv", table.frame())


def test_changes_of_the_space_are_those_of_the_run_s_own_pooling(sweep_dir: Path) -> None:
    full = next(arm for arm in arms_of(sweep_dir) if arm.strategy == "full")
    last = [0.5, 0.6, 0.7]
    for run, value in zip(full.runs, last, strict=True):
        parts = {"translation": 1.0, "rotation": 2.0, "scale": 0.0, "residual": 1.0}
        write_geometry(sweep_dir / run, [1, 0.99, 0.98, 0.97, 0.9, 0.8, value], parts)
    found = EFFECTS["change_of_the_space"](arms_of(sweep_dir), sweep_dir)
    assert found.interval.mean == pytest.approx(0.4)
    assert found.interval.high - found.interval.mean == pytest.approx(4.303 * 0.1 / np.sqrt(3), rel=1e-3)  # Student's t, 2 df
    assert "rotation 50 %" in found.detail
    found = EFFECTS["top_over_bottom_change"](arms_of(sweep_dir), sweep_dir)
    assert found.interval.mean == pytest.approx((0.1 + 0.2 + 0.4) / 3 - (0.01 + 0.02 + 0.03) / 3)
    (sweep_dir / full.runs[0] / "measures" / "geometry.csv").unlink()
    with pytest.raises(FrostlineError, match="is missing; frostline measure"):
        EFFECTS["change_of_the_space"](arms_of(sweep_dir), sweep_dir)


def write_layers(run_dir: Path, seed: int, centres: dict[str, float], best: int = 4) -> None:
    table, rows = MeasureTable("layers"), []
    rng = np.random.default_rng(seed)
    for pooling, gain in (("mean", 0.1), ("cls", 0.0)):
        for layer in range(7):
            correct = rng.random(400) < 0.6 + gain + (0.1 if layer == best else 0)
            rows.append(pd.DataFrame({"layer": layer, "pooling": pooling, "index": range(400), "correct": correct}))
            table.add("probe_accuracy", Interval(correct.mean(), 0.5, 0.9), layer, pooling, 0.5, 400)
            table.add("probe_validation_accuracy", 0.6 + gain + (0.1 if layer == best else 0), layer, pooling)
    for task, centre in centres.items():
        table.add(f"{task}.majority_accuracy", 0.5)
        table.add(f"{task}.expected_layer", centre, pooling="mean")
    write_csv(run_dir / "measures" / "layers.csv", table.frame())
    write_parquet(run_dir / "measures" / "layers_test.parquet", pd.concat(rows))


CENTRES = {"sentence_length": 1.0, "word_content": 2.0, "bigram_shift": 9.0, "tense": 3.0, "subject_number": 4.0}


def test_pooling_and_depth_effects_read_the_probes(sweep_dir: Path) -> None:
    probe = next(arm for arm in arms_of(sweep_dir) if arm.strategy == "frozen")
    means = []
    for seed, run in enumerate(probe.runs):
        write_layers(sweep_dir / run, seed, {task: centre + 0.1 * seed for task, centre in CENTRES.items()})
        table = pd.read_parquet(sweep_dir / run / "measures" / "layers_test.parquet")
        last = table[table["layer"] == 6].groupby("pooling")["correct"].mean()
        means.append(last["mean"] - last["cls"])
    found = EFFECTS["mean_over_cls"](arms_of(sweep_dir), sweep_dir)
    assert found.interval.mean == pytest.approx(np.mean(means))
    assert found.interval.low > 0
    found = EFFECTS["depth_of_meaning_over_form"](arms_of(sweep_dir), sweep_dir)
    assert found.interval.mean == pytest.approx(2.0)


def test_words_name_the_layer_that_validation_chose_and_where_form_and_meaning_lie(sweep_dir: Path) -> None:
    runs = [sweep_dir / f"{number}" for number in range(3)]
    for seed, run in enumerate(runs):
        write_layers(run, seed, CENTRES)
    tables = [pd.read_csv(run / "measures" / "layers.csv") for run in runs]
    words = layers_in_words(runs, tables)
    assert words.startswith("Use layer 4 of 6 with mean pooling: a linear probe scores ")
    assert "3 seeds, 400 sentences" in words
    assert "points against the last layer" in words
    assert words.endswith("lower layers hold the form, upper layers the meaning of a sentence in this encoder.")
    for seed, run in enumerate(runs):
        write_layers(run, seed, CENTRES | {"sentence_length": 9.0}, best=6)
    words = layers_in_words(runs, [pd.read_csv(run / "measures" / "layers.csv") for run in runs])
    assert words.startswith("Use layer 6 of 6")
    assert "last layer" not in words
    assert words.endswith("here it is not the lower layers that hold the form.")


# --- verdicts -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("supported", "low", "high", "verdict"),
    [
        ("above", 0.6, 0.8, "supported"),
        ("above", 0.4, 0.8, "inconclusive"),
        ("above", 0.2, 0.4, "refuted"),
        ("below", 0.2, 0.4, "supported"),
        ("below", 0.6, 0.8, "refuted"),
    ],
)
def test_the_rule_decides_by_the_whole_interval(supported: str, low: float, high: float, verdict: str) -> None:
    claim = dataclasses.replace(CLAIM, supported=supported)
    effect = Effect(Interval((low + high) / 2, low, high), 3, "")
    assert decide(claim, effect) == verdict
    assert decide(claim, dataclasses.replace(effect, seeds=2)) == "inconclusive"  # fewer than the rule asks for


def set_claim(sweep_dir: Path, claim: dict[str, Any]) -> None:
    path = sweep_dir / "0" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"claim": claim}))


def test_a_verdict_is_written_with_its_rule_and_read_back(sweep_dir: Path) -> None:
    assert judge(sweep_dir, arms_of(sweep_dir)) is None
    set_claim(sweep_dir, dataclasses.asdict(CLAIM))
    verdict = judge(sweep_dir, arms_of(sweep_dir))
    assert verdict is not None
    assert verdict.verdict == "supported"
    assert "SUPPORTED: Something holds (Somebody 2020). Rule: supported if probe share of gain is above 0.5" in verdict.in_words()
    write_verdict(sweep_dir, verdict)
    assert read_verdict(sweep_dir / "verdict.json") == verdict
    assert json.loads((sweep_dir / "verdict.json").read_text())["claim"]["threshold"] == 0.5
    (sweep_dir / "verdict.json").write_text("{}")
    with pytest.raises(FrostlineError, match="is damaged"):
        read_verdict(sweep_dir / "verdict.json")


def test_an_effect_that_cannot_be_computed_is_inconclusive_and_says_why(sweep_dir: Path) -> None:
    set_claim(sweep_dir, dataclasses.asdict(dataclasses.replace(CLAIM, effect="change_of_the_space")))
    verdict = judge(sweep_dir, arms_of(sweep_dir))
    assert verdict is not None
    assert (verdict.verdict, verdict.effect) == ("inconclusive", None)
    assert "geometry.csv' is missing" in verdict.in_words()
