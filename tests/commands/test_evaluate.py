from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from tests.commands.run_files import metrics, predictions
from tests.commands.test_reproduce import STRATEGIES


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_a_finished_run_scores_the_same_from_its_checkpoint(frostline, finished, tiny, tmp_path, strategy):
    run_dir = shutil.copytree(finished(*tiny[:-1], *strategy), tmp_path / "run")
    result = frostline("evaluate", f"run={run_dir}")
    assert result.status == 0, result.err
    (folder,) = (run_dir / "evaluations").iterdir()
    again = json.loads((folder / "metrics.json").read_text())
    assert again == pytest.approx({k: v for k, v in metrics(run_dir).items() if k.startswith("test/")}, abs=1e-9)
    old = predictions(run_dir).query("split == 'test'").reset_index(drop=True)
    new = pd.read_parquet(folder / "predictions.parquet")
    pd.testing.assert_frame_equal(old, new, atol=1e-9)


def test_another_data_set_is_scored_with_the_classes_of_the_run(frostline, finished, tiny, tmp_path):
    run_dir, other = shutil.copytree(finished(*tiny[:-1], *STRATEGIES["full"]), tmp_path / "run"), tmp_path / "other.csv"
    rows = [(f"lovely {i}", "good") for i in range(10)] + [(f"grim {i}", "bad") for i in range(10)]
    pd.DataFrame(rows, columns=["review", "stars"]).to_csv(other, index=False)
    words = ["data=files", f"data.train={other}", "data.text_column=review", "data.label_column=stars", "split=all"]
    result = frostline("evaluate", f"run={run_dir}", *words)
    assert result.status == 0, result.err
    table = pd.read_parquet(run_dir / "evaluations/other-all/predictions.parquet")
    assert len(table) == 20
    assert set(zip(table["text"].str.split().str[0], table["label"], strict=True)) == {("grim", 0), ("lovely", 1)}
