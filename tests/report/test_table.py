"""Arms, their learning rates and their intervals, on synthetic run directories."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console
from sklearn.metrics import accuracy_score

from frostline.errors import FrostlineError
from frostline.report.answer import best_and_by_how_much
from frostline.report.arms import Arm, names, summarise
from frostline.report.figures import accuracy_by_depth, save
from frostline.report.table import as_latex, as_markdown, cells, compact, notes, print_table, scientific
from frostline.runs.sweep import collect

DEPTHS = {"frozen": 6, "partial": 2, "full": 0}
TRAINED = {"frozen": 770, "partial": 7_100_000, "full": 22_713_986}
LABELS = np.random.default_rng(0).integers(0, 2, 400)  # of the one test set that all runs share


def write_run(
    folder: Path,
    strategy: str = "full",
    seed: int = 0,
    lr: float | None = 1e-4,
    validation: float = 0.8,
    test: float | None = 0.8,
    status: str = "finished",
    error: str | None = None,
    overrides: dict[str, Any] | None = None,
    seed_of_test_set: int | None = None,
    seconds: float = 30.0,
) -> None:
    """Write a run directory whose test accuracy is about ``test`` and whose validation accuracy is ``validation``."""
    rng = np.random.default_rng([seed, round(1e6 * (lr or 0)), DEPTHS[strategy]])
    given = {"strategy": strategy, "seed": seed, **({} if lr is None else {"optimizer.lr": lr}), **(overrides or {})}
    config: dict[str, Any] = {
        "seed": seed,
        "data": {"source": "packaged", "name": "movie_reviews", "train_size": 1000},
        "model": {"name": "minilm", "pooling": "mean"},
        "strategy": {"name": strategy} | ({"layer": "best"} if strategy == "frozen" else {}),
        "optimizer": {"name": "lbfgs", "C": None} if lr is None else {"name": "adamw", "lr": lr},
    }
    for key, value in (overrides or {}).items():
        group, _, name = key.partition(".")
        config[group][name] = value
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"{k}={v}" for k, v in given.items()]))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    manifest = {
        **{"identity": f"{seed}{lr}", "status": status, "error": error, "blocks": 6, "frozen_depth": DEPTHS[strategy]},
        **{"layer": 4 + seed % 2 if strategy == "frozen" else None, "C": 0.01 if lr is None else None, "seed": seed},
        **{"command": ["frostline", "train", f"strategy={strategy}"], "packages": {"torch": "2.13.0"}, "threads": 2},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if error:
        (folder / "error.txt").write_text(f"Traceback …\n{error}\n")
    steps = np.arange(1, 61)
    curves = pd.DataFrame({"step": steps, "epoch": (steps - 1) // 20})
    curves["train/loss"] = 0.7 / steps**0.3 + rng.normal(0, 0.02, 60)
    curves["val/accuracy"] = np.where(steps % 20 == 0, validation - 0.1 / (steps / 20), np.nan)
    curves["val/loss"] = np.where(steps % 20 == 0, 0.5, np.nan)
    curves.to_csv(folder / "curves.csv", index=False)
    if status != "finished":
        return
    labels = LABELS if seed_of_test_set is None else np.random.default_rng(seed_of_test_set).integers(0, 2, 400)
    tables = []
    for split, accuracy in (("validation", validation), ("test", test)):
        if accuracy is not None:
            right = rng.random(400) < accuracy
            texts = [f"sentence {i} of test set {seed_of_test_set}" for i in range(400)]
            rows = pd.DataFrame({"split": split, "index": np.arange(400), "text": texts, "label": labels})
            rows["prediction"] = np.where(right, labels, 1 - labels)
            side = np.where(rows["prediction"] == 1, 1, -1) * rng.gamma(2, 0.5, 400)
            rows["logit_negative"], rows["logit_positive"] = -side, side
            tables.append(rows)
    pd.concat(tables).sample(frac=1, random_state=seed).to_parquet(folder / "predictions.parquet", index=False)
    metrics = {"train/accuracy": 0.99, "val/accuracy": validation, "val/loss": 1 - validation}
    if test is not None:
        metrics["test/accuracy"] = float(accuracy_score(tables[1]["label"], tables[1]["prediction"]))
    metrics |= {"trained_parameters": TRAINED[strategy], "total_parameters": 22_713_986, "fit_seconds": seconds + seed}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def write_sweep(folder: Path) -> Path:
    """Write a probe, a partial and a full arm, of which full wins; one job failed and one was killed."""
    jobs: list[dict[str, Any]] = [
        dict(strategy="frozen", lr=None, seed=s, validation=0.78 + s / 100, test=0.76) for s in range(3)
    ]
    for s in range(3):
        jobs += [
            dict(strategy="partial", lr=1e-4, seed=s, validation=0.83, test=0.80),
            dict(strategy="full", lr=5e-5, seed=s, validation=0.88, test=0.84),
            dict(strategy="full", lr=1e-4, seed=s, validation=0.86, test=0.97),  # better on test, worse on validation
        ]
    error = "CUDA out of memory: [bold] <script>alert(1)</script>"
    jobs.append(dict(strategy="partial", seed=3, status="failed", error=error))
    jobs.append(dict(strategy="partial", seed=4, status="running"))
    for number, job in enumerate(jobs):
        write_run(folder / str(number), **job)
    return folder


def arms_of(folder: Path) -> list[Arm]:
    return summarise(folder, collect(folder))


def printed(arms: list[Arm], failures: int) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_table(arms, failures, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def arms(sweep: Path) -> list[Arm]:
    return arms_of(sweep)


def test_arms_go_from_frozen_to_full(arms: list[Arm]) -> None:
    assert [(a.strategy, a.depth, a.blocks) for a in arms] == [("frozen", 6, 6), ("partial", 2, 6), ("full", 0, 6)]
    assert names(arms) == ["frozen, layer 4", "partial, 2 of 6", "full"]


def test_the_learning_rate_is_chosen_on_validation_even_if_another_is_better_on_test(arms: list[Arm]) -> None:
    full = arms[2]
    assert full.lr == 5e-5
    assert full.lrs_tried == (5e-5, 1e-4)
    assert full.val_accuracy == pytest.approx(0.88)
    assert full.test is not None
    assert full.test.mean < 0.9
    assert len(full.runs) == 3
    assert len(full.tried) == 6


def test_only_the_chosen_runs_test_predictions_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sweep(tmp_path)
    read, read_parquet = [], pd.read_parquet

    def spy(path: Path, **options: Any) -> pd.DataFrame:
        read.append(path.parent.name)
        table: pd.DataFrame = read_parquet(path, **options)
        return table

    monkeypatch.setattr(pd, "read_parquet", spy)
    arms = arms_of(tmp_path)
    assert sorted(read) == sorted(run for arm in arms for run in arm.runs)


def test_test_accuracy_is_scikit_learns(sweep: Path, arms: list[Arm]) -> None:
    for arm in arms:
        scores = []
        for run in arm.runs:
            rows = pd.read_parquet(sweep / run / "predictions.parquet").query("split == 'test'")
            scores.append(accuracy_score(rows["label"], rows["prediction"]))
        assert arm.test is not None
        assert arm.test.mean == pytest.approx(np.mean(scores))
        assert arm.test.low < arm.test.mean < arm.test.high
        assert arm.n_test == 400
        assert arm.same_test_set


def test_a_probe_reports_its_most_frequent_layer_and_no_learning_rate(arms: list[Arm]) -> None:
    assert (arms[0].layer, arms[0].lr, arms[0].trained_parameters) == (4, None, 770)
    assert arms[0].fit_seconds == pytest.approx(31)


def test_a_rate_that_survived_fewer_seeds_is_not_chosen_for_them(tmp_path: Path) -> None:
    write_run(tmp_path / "0", seed=0, lr=1e-4, validation=0.80)
    write_run(tmp_path / "1", seed=1, lr=1e-4, validation=0.80)
    write_run(tmp_path / "2", seed=0, lr=1e-2, validation=0.90)
    write_run(tmp_path / "3", seed=1, lr=1e-2, status="diverged", error="the loss became NaN")
    assert arms_of(tmp_path)[0].lr == 1e-4


def test_equal_accuracies_are_settled_by_validation_loss(tmp_path: Path) -> None:
    for job, lr in enumerate((1e-4, 2e-4)):
        write_run(tmp_path / str(job), lr=lr)
        path = tmp_path / str(job) / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"val/loss": 0.5 - lr}))
    assert arms_of(tmp_path)[0].lr == 2e-4


def test_other_overridden_keys_make_arms_of_their_own(tmp_path: Path) -> None:
    for job, pooling in enumerate(("cls", "mean")):
        write_run(tmp_path / str(job), overrides={"model.pooling": pooling})
    arms = arms_of(tmp_path)
    assert names(arms) == ["full · pooling cls", "full · pooling mean"]
    assert "model.pooling" in printed(arms, 0)


def test_what_most_arms_share_or_do_not_set_goes_without_saying(tmp_path: Path) -> None:
    told = [{}, {"model.pooling": "cls"}, {"data.label_noise": 0.1}, {"data.label_noise": 0.2}]
    for job, overrides in enumerate(told):
        write_run(tmp_path / str(job), overrides=overrides)
    assert sorted(names(arms_of(tmp_path))) == ["full", "full · label_noise 0.1", "full · label_noise 0.2", "full · pooling cls"]


def test_each_training_size_is_a_task_with_an_answer_of_its_own(tmp_path: Path) -> None:
    sizes = [(s, n) for s in ("frozen", "full") for n in (100, 1000)]
    for job, (strategy, size) in enumerate(sizes):
        validation = 0.7 + size / 10_000 + 0.05 * (strategy == "full")
        write_run(tmp_path / str(job), strategy, validation=validation, overrides={"data.train_size": size})
    lines = best_and_by_how_much(arms_of(tmp_path)).split("\n")
    assert len(lines) == 2
    assert lines[0].startswith("data.train_size 100: Of 2 arms, full fine-tuning")


def test_the_answer_names_the_winner_and_its_distance_to_the_probe(arms: list[Arm]) -> None:
    answer = best_and_by_how_much(arms)
    probe, full = arms[0].test, arms[2].test
    assert probe is not None
    assert full is not None
    assert answer.startswith("Of 3 arms, full fine-tuning did best on validation (88.0 %)")
    assert f"on test it scores {100 * full.mean:.1f} %" in answer
    assert f"{100 * (full.mean - probe.mean):.1f} points above the linear probe on layer 4" in answer


def test_the_winner_is_the_best_on_validation_not_on_test(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "frozen", lr=None, validation=0.80, test=0.70)
    write_run(tmp_path / "1", "full", validation=0.79, test=0.90)
    answer = best_and_by_how_much(arms_of(tmp_path))
    assert answer.startswith("Of 2 arms, the linear probe on layer 4 did best on validation")
    assert "points below full fine-tuning" in answer  # said plainly, though it speaks against the choice


def test_it_says_when_it_cannot_tell(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "frozen", lr=None, validation=0.80, test=0.80)
    write_run(tmp_path / "1", "full", validation=0.81, test=0.80)
    assert "we cannot tell" in best_and_by_how_much(arms_of(tmp_path))


def test_the_answer_says_what_it_costs_and_what_would_do_for_less(tmp_path: Path) -> None:
    jobs = {"frozen": (None, 0.80, 0.6, 2.0), "partial": (1e-4, 0.84, 0.81, 20.0), "full": (1e-4, 0.85, 0.82, 80.0)}
    for job, (strategy, (lr, validation, test, seconds)) in enumerate(jobs.items()):
        write_run(tmp_path / str(job), strategy, lr=lr, validation=validation, test=test, seconds=seconds)
    answer = best_and_by_how_much(arms_of(tmp_path))
    assert "above the linear probe on layer 4" in answer and ", in 40 × its time;" in answer
    assert (
        answer.count(
            "Cheaper, and not worse as far as we can tell: partial fine-tuning with 2 of 6 blocks frozen, in 25 % of the"
        )
        == 1
    )


def test_what_is_worse_or_no_cheaper_is_no_cheaper_choice(tmp_path: Path) -> None:
    for job, (strategy, test, seconds) in enumerate([("frozen", 0.6, 2.0), ("partial", 0.6, 20.0), ("full", 0.9, 80.0)]):
        write_run(tmp_path / str(job), strategy, validation=test, test=test, seconds=seconds)
    assert "Cheaper" not in best_and_by_how_much(arms_of(tmp_path))


def test_arms_that_share_no_seed_are_not_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "frozen", lr=None, seed=0, test=0.6)
    write_run(tmp_path / "1", "full", seed=1, validation=0.9, test=0.9)
    assert "share no seed" in best_and_by_how_much(arms_of(tmp_path))


def test_test_sets_that_differ_between_seeds_are_said_to(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / str(seed), seed=seed, seed_of_test_set=seed)
    arms = arms_of(tmp_path)
    accuracies = [json.loads((tmp_path / str(s) / "metrics.json").read_text())["test/accuracy"] for s in range(3)]
    assert not arms[0].same_test_set
    assert arms[0].test is not None
    assert arms[0].test.mean == pytest.approx(np.mean(accuracies))
    assert min(accuracies) <= arms[0].test.low
    assert arms[0].test.high <= max(accuracies)
    assert any("differ between seeds" in note for note in notes(arms, 0))


def test_an_unread_test_split_stays_unread(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "frozen", lr=None, test=None)
    write_run(tmp_path / "1", "full", test=None)
    arms = arms_of(tmp_path)
    assert all(arm.test is None for arm in arms)
    assert "not scored on test" in best_and_by_how_much(arms)
    assert "A dash under test accuracy" in printed(arms, 0)


def test_nothing_finished_is_no_arm(tmp_path: Path) -> None:
    write_run(tmp_path / "0", status="running")
    assert arms_of(tmp_path) == []
    assert best_and_by_how_much([]) == "No run has finished yet."
    assert "1 job did not finish" in printed([], 1)


def test_a_damaged_prediction_file_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "0")
    (tmp_path / "0" / "predictions.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(FrostlineError, match=r"0/predictions\.parquet' is damaged"):
        arms_of(tmp_path)


def test_the_table_shows_every_arm_and_counts_failures(arms: list[Arm]) -> None:
    text = printed(arms, 2)
    assert "6 of 6" in text
    assert "22.7M" in text
    assert "770" in text
    assert "5e-5" in text
    assert "2 jobs did not finish and are left out." in text
    assert "chosen by mean validation accuracy" in text
    assert arms[2].test is not None
    assert f"{100 * arms[2].test.mean:.1f} (" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [(770, "770"), (1538, "1,538"), (384_770, "385k"), (22_713_986, "22.7M"), (7_000_000_000, "7.0B")],
)
def test_parameters_are_short(count: int, text: str) -> None:
    assert compact(count) == text


def test_learning_rates_are_written_as_people_write_them() -> None:
    assert [scientific(x) for x in (1e-4, 5e-5, 2.5e-5, 0.1)] == ["1e-4", "5e-5", "2.5e-5", "1e-1"]


def test_the_figure_has_a_point_an_arm_and_is_the_same_twice(arms: list[Arm], tmp_path: Path) -> None:
    svg, png = save(accuracy_by_depth(arms), tmp_path / "figures" / "accuracy_by_depth")
    first = svg.read_text()
    assert first.count(" trained<") == 3
    assert png.stat().st_size > 10_000
    save(accuracy_by_depth(arms), tmp_path / "figures" / "accuracy_by_depth")
    assert svg.read_text() == first


def test_a_paper_gets_the_comparison_as_markdown_or_latex(arms: list[Arm]) -> None:
    _, rows = cells(arms)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in as_markdown(arms).splitlines()]
    assert lines[2:] == rows and set(lines[1]) == {"---"}
    latex = as_latex(arms)
    assert latex.startswith("\\begin{tabular}") and latex.endswith("\\end{tabular}")
    assert "test accuracy, \\% (95 \\% CI)" in latex
    assert all(f"{row[0]} & {row[1]}" in latex for row in rows)
