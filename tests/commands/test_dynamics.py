"""``callbacks.dynamics=true``: from the command line to ``dynamics.parquet``."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tests.commands.run_files import curves, metrics, predictions
from tests.commands.test_resume import IN_A_STEP, KILL, SHORT, program

FOLLOW = "callbacks.dynamics=true"
PARTIAL = ["strategy=partial", "strategy.frozen_depth=2", *SHORT]


def dynamics(run_dir: Path) -> pd.DataFrame:
    return pd.read_parquet(run_dir / "dynamics.parquet")


@pytest.mark.slow
def test_minilm_finds_labels_that_are_known_to_be_wrong(frostline, tmp_path):
    """Of flipped and other labels, a flipped one is less confident in 4 of 5 pairs (methods notes, 9.4)."""
    words = ["logger=csv", "strategy=partial", "strategy.frozen_depth=4", "trainer.max_epochs=5", "test=false", FOLLOW]
    words += ["data.train_size=400", "data.label_noise=0.1", "data.validation_share=0.02"]
    result = frostline("train", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert result.status == 0, result.err
    table = dynamics(tmp_path / "run")
    assert table["flipped"].sum() == 40
    assert roc_auc_score(table["flipped"], -table["confidence"]) > 0.8
    assert {"rating", "rating_sd"} <= set(table)


def test_a_run_that_follows_its_sentences_is_the_same_run(frostline, finished, tiny):
    words = [*tiny[:-1], *PARTIAL, "data.label_noise=0.2"]
    with_it, without = finished(*words, FOLLOW), finished(*words)
    assert metrics(with_it) == metrics(without)
    assert predictions(with_it).equals(predictions(without))
    assert curves(with_it).equals(curves(without))
    assert not (without / "dynamics.parquet").exists()
    table = dynamics(with_it)
    sizes = len(pd.read_csv(tiny[3].removeprefix("data.train="))) - len(predictions(with_it))
    assert len(table) == sizes
    assert table["flipped"].sum() == round(0.2 * sizes)
    epochs = table[["epoch_0", "epoch_1", "epoch_2"]].to_numpy()
    np.testing.assert_allclose(table["confidence"], epochs.mean(axis=1))
    np.testing.assert_array_equal(table["correctness"], (epochs > 0.5).mean(axis=1))  # of two classes


def test_a_killed_run_resumes_to_the_same_dynamics(process, frostline, finished, tiny, tmp_path):
    words = [*tiny[:-1], *PARTIAL, "data.label_noise=0.2", FOLLOW]
    running = process("train", *words, program=program(IN_A_STEP, KILL))
    output, _ = running.communicate(timeout=500)
    assert running.returncode == -signal.SIGKILL, output
    (run_dir,) = (tmp_path / "outputs/runs").glob("*/*")
    assert not (run_dir / "dynamics.parquet").exists(), "nothing that looks finished"
    result = frostline("train", *words)
    assert result.status == 0 and "Resuming" in result.err
    assert dynamics(run_dir).equals(dynamics(finished(*words)))


def test_the_exact_probe_says_that_it_has_no_epochs(frostline, tiny, tmp_path):
    result = frostline("train", *tiny[:-1], "strategy=frozen", FOLLOW, f"hydra.run.dir={tmp_path / 'run'}")
    assert result.status == 0
    assert "the exact probe of optimizer=lbfgs is solved at once; this run writes no dynamics.parquet" in result.err
    assert not (tmp_path / "run/dynamics.parquet").exists()


def test_the_users_columns_come_to_predictions_and_dynamics(frostline, tiny, tmp_path):
    source = tmp_path / "own.csv"
    rows = pd.read_csv(tiny[3].removeprefix("data.train="))
    rows["author"], rows["year"] = ["anna", "", "007"] * 40, np.arange(len(rows))
    rows.to_csv(source, index=False)
    words = [*tiny[:3], f"data.train={source}", "data.keep_columns=[author,year]", *PARTIAL, "trainer.max_epochs=1", FOLLOW]
    result = frostline("train", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert result.status == 0, result.err
    by_text = rows.set_index("text")
    for table in (predictions(tmp_path / "run"), dynamics(tmp_path / "run")):
        own = by_text.loc[table["text"]]
        assert table["year"].tolist() == own["year"].tolist()
        assert table["author"].fillna("").tolist() == own["author"].tolist()
    again = frostline("reproduce", f"run={tmp_path / 'run'}")
    assert again.status == 0, "a missing value equals a missing value" + again.out


def test_shares_of_unknown_words_are_those_of_the_runs_training_sentences(finished, tiny, tmp_path, frostline):
    run_dir = shutil.copytree(finished(*tiny[:-1], *PARTIAL, "data.label_noise=0.2", FOLLOW), tmp_path / "run")
    known = set(" ".join(dynamics(run_dir)["text"]).split())
    table = predictions(run_dir)
    expected = [np.mean([word not in known for word in text.split()]) for text in table["text"]]
    assert table["unknown_words"].tolist() == pytest.approx(expected)
    assert 0 < table["unknown_words"].mean() < 1
