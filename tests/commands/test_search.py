"""Searches with Optuna: what is drawn, which jobs are given up, and that a killed search goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.commands import search
from frostline.commands.launch import compose_alone, quoted
from frostline.commands.train import train
from frostline.config import validate
from frostline.errors import FrostlineError, PrunedError
from frostline.runs.files import write_json
from hydra_plugins.frostline_optuna import corners, distribution
from tests.commands.run_files import curves, manifest, metrics
from tests.commands.test_launchers import results

SPACE = {"optimizer.lr": FloatDistribution(1e-5, 1e-1, log=True), "strategy.frozen_depth": IntDistribution(0, 3)}
OPTIONS = OmegaConf.create({"sampler": "tpe", "pruner": "median", "startup_trials": 1, "warmup_epochs": 1, "seed": 3})


def end_job(run_dir: Path, accuracy: float | None) -> None:
    write_json(run_dir / "manifest.json", {"status": "pruned" if accuracy is None else "finished"})
    write_json(run_dir / "metrics.json", {"val/accuracy": accuracy, "test/accuracy": 1.0})


@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_a_job_that_falls_behind_is_given_up_after_its_warm_up(tmp_path, pruner):
    options = OmegaConf.merge(OPTIONS, {"pruner": pruner})
    study = search.open_study(tmp_path, {}, "max")

    def stopped_at(start: float) -> int | None:
        """Run a job whose accuracy grows from ``start``, and return the epoch after which it was given up."""
        number, _ = search.ask(study, SPACE, options)
        report = search.trial_of(tmp_path / str(number), options, epochs=9)
        epoch = next((epoch for epoch in range(9) if report(start + epoch / 100, epoch)), None)
        end_job(tmp_path / str(number), start if epoch is None else None)
        search.tell(study, number, tmp_path / str(number), "val/accuracy")
        return epoch

    assert [stopped_at(0.8) for _ in range(6)] == [None] * 6
    behind = [stopped_at(0.1) for _ in range(3)]  # hyperband compares within one of three brackets
    assert 0 not in behind, "every job may train one epoch"
    assert (set(behind) == {None}) == (pruner == "none")
    assert stopped_at(0.9) is None


def test_a_search_that_was_killed_draws_what_it_would_have_drawn(tmp_path):
    """Opened anew before every job; one of them was begun and has no end yet."""
    drawn = {}
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
        study = search.open_study(tmp_path / name, {"space": "s"}, "max")
        for _ in range(6):
            if name == "killed":
                study = search.open_study(tmp_path / name, {"space": "s"}, "max")
            number, values = search.ask(study, SPACE, OPTIONS)
            if name == "killed":
                study = search.open_study(tmp_path / name, {"space": "s"}, "max")
                assert search.open_trials(study, list(SPACE)) == [(number, values)]
            drawn.setdefault(name, []).append((number, values))
            run_dir = tmp_path / name / str(number)
            end_job(run_dir, None if number == 2 else 1 - abs(values["optimizer.lr"] - 0.01))
            search.tell(study, number, run_dir, "val/accuracy")
    assert drawn["killed"] == drawn["undisturbed"]
    assert len({str(values) for _, values in drawn["killed"]}) == 6
    assert search.count(study, list(SPACE)) == 6
    assert "of 6 jobs (1 pruned)" in search.best_in_words(study, "val/accuracy")
    with pytest.raises(FrostlineError, match=r"holds another search \(its space differ"):
        search.open_study(tmp_path / "killed", {"space": "another"}, "max")


def test_a_pruned_run_is_no_failure_and_no_result(frostline, tiny, tmp_path):
    run_dir = tmp_path / "run"
    words = [*tiny, "strategy=full", "trainer.max_epochs=5", f"paths.cache_dir={quoted(tmp_path)}"]
    told = []

    def report(value: float, epoch: int) -> bool:
        told.append((epoch, value))
        return epoch == 1

    with pytest.raises(PrunedError, match="pruned after epoch 2 of 5, with val/accuracy"):
        train(validate(compose_alone("train", words)), run_dir, report=report)
    logged = curves(run_dir).dropna(subset="val/accuracy")
    assert told == list(zip([0, 1], logged["val/accuracy"], strict=True))
    assert (manifest(run_dir)["status"], manifest(run_dir)["exit_status"]) == ("pruned", 0)
    assert not {"error.txt", "metrics.json", "resume"} & {path.name for path in run_dir.iterdir()}
    reported = frostline("report", f"run={run_dir}")
    assert reported.status == 0, reported.err
    assert "No run has finished yet." in reported.out and "1 job that the search gave up is left out." in reported.out


def test_a_search_goes_on_and_its_jobs_are_pruned_by_the_rule(frostline, tiny, tmp_path):
    """Two jobs, then two more: whether each was given up is what the median of those before it says."""
    sweep = tmp_path / "sweep"
    words = [*tiny, "strategy=full", "trainer.max_epochs=3", "optimizer.lr=tag(log, interval(1e-6, 1e-2))"]
    options = ["hydra/sweeper=optuna", "hydra.sweeper.startup_trials=1", "callbacks.monitor=val/loss", "callbacks.mode=min"]
    first = frostline("train", "-m", *words, *options, "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={sweep}")
    assert first.status == 0, first.err
    ended = (sweep / "0/metrics.json").stat().st_mtime_ns
    more = frostline("train", f"resume={sweep}", "hydra.sweeper.n_trials=4")
    assert more.status == 0, more.err
    assert (sweep / "0/metrics.json").stat().st_mtime_ns == ended, "what was finished is not run again"
    table = results(sweep)
    assert list(table["job"]) == [0, 1, 2, 3] and table["optimizer.lr"].between(1e-6, 1e-2).all()
    losses = [curves(sweep / str(job)).dropna(subset="val/loss")["val/loss"].to_list() for job in range(4)]
    for job in range(4):
        assert table["status"][job] == ("finished" if len(losses[job]) == 3 else "pruned")
        finished = [losses[before] for before in range(job) if table["status"][before] == "finished"]
        behind = [
            epoch >= 1 and min(losses[job][: epoch + 1]) > sorted(of[epoch] for of in finished)[(len(finished) - 1) // 2]
            for epoch in range(2)
            if finished
        ]
        if len(finished) in (1, 3):  # else the median is between two of them
            assert (table["status"][job] == "pruned") == any(behind[: len(losses[job])])
    best = min(metrics(sweep / str(job))["val/loss"] for job in range(4) if table["status"][job] == "finished")
    assert f"has the best val/loss, {best:.4f}" in more.out
    assert frostline("status", f"run={sweep}").status == 0


@pytest.mark.parametrize(
    ("word", "drawn_from"),
    [
        ("x=tag(log, interval(1e-5, 1e-3))", FloatDistribution(1e-5, 1e-3, log=True)),
        ("x=interval(0, 1)", FloatDistribution(0, 1)),
        ("x=int(interval(1, 6))", IntDistribution(1, 6)),
        ("x=range(0, 7, 2)", IntDistribution(0, 6, step=2)),
        ("x=range(0.1, 0.5, 0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
        ("x=choice(a, b)", CategoricalDistribution(["a", "b"])),
        ("x=1,2.5,'a b'", CategoricalDistribution(["1", "2.5", "'a b'"])),
    ],
)
def test_hydras_grammar_says_what_is_drawn_from(word, drawn_from):
    assert distribution(OverridesParser.create().parse_override(word)) == drawn_from


def test_every_choice_and_both_ends_are_checked_beforehand():
    space = {"a": CategoricalDistribution(["x", "y", "z"]), "b": IntDistribution(0, 6)}
    assert corners(["c=1"], space) == [["c=1", "a=x", "b=0"], ["c=1", "a=y", "b=6"], ["c=1", "a=z", "b=6"]]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["optimizer.lr=1e-3"], "A search needs something to search"),
        (["seed=0,1"], "The seed cannot be searched"),
        (["optimizer.lr=interval(-1, 1)"], "optimizer.lr is -1.0, but must be greater than 0"),
        (["optimizer.lr=tag(log, interval(0, 1))"], "'optimizer.lr=tag(log, interval(0, 1))' cannot be searched"),
        (["strategy=partial", "strategy.frozen_depth=range(2, 9)"], "strategy.frozen_depth"),
        (["callbacks.monitor=test/accuracy", "seed=0", "optimizer.lr=1e-3,1e-2"], "callbacks.monitor is 'test/accuracy'"),
        (["optimizer.lr=1e-3,1e-2", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials is 0"),
        (["optimizer.lr=1e-3,1e-2", "hydra.sweeper.pruner=medium"], "did you mean 'median'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_searched_is_one_sentence(frostline, tiny, tmp_path, words, says):
    result = frostline("train", "-m", "hydra/sweeper=optuna", *tiny, "strategy=full", *words, f"hydra.sweep.dir={tmp_path / 's'}")
    assert result.status == 1
    assert result.err.startswith("frostline train: ") and result.err.count("\n") == 1
    assert says in result.err
    assert not (tmp_path / "s").exists()
