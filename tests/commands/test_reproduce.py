from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

STRATEGIES = {
    "probe": ["strategy=frozen"],
    "partial": ["strategy=partial", "strategy.frozen_depth=2", "data.batch_size=16"],
    "full": ["strategy=full", "data.batch_size=16"],
}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_a_snapshot_reproduces_to_the_last_bit(frostline, finished, tiny, strategy):
    result = frostline("reproduce", f"run={finished(*tiny[:-1], *strategy)}")
    assert result.status == 0, result.err
    assert "agrees to the last bit" in result.out


def test_minilm_reproduces_to_the_last_bit(frostline, tmp_path):
    words = ["logger=csv", "data.train_size=32", "strategy=partial", "strategy.frozen_depth=5", "trainer.max_epochs=1"]
    assert frostline("train", *words, "test=false", "data.validation_share=0.02", f"hydra.run.dir={tmp_path / 'run'}").status == 0
    assert frostline("reproduce", f"run={tmp_path / 'run'}").status == 0


def test_what_differs_is_said_with_its_possible_reason(frostline, finished, tiny, tmp_path):
    run_dir = shutil.copytree(finished(*tiny[:-1], *STRATEGIES["full"]), tmp_path / "run")
    final = json.loads((run_dir / "metrics.json").read_text())
    (run_dir / "metrics.json").write_text(json.dumps(final | {"val/loss": final["val/loss"] + 1e-16 + 1e-6}))
    table = pd.read_parquet(run_dir / "predictions.parquet")
    table.loc[0, "logit_bad"] += 0.5
    table.to_parquet(run_dir / "predictions.parquet")
    facts = json.loads((run_dir / "manifest.json").read_text())
    facts["packages"]["torch"] = "1.0.0"
    (run_dir / "manifest.json").write_text(json.dumps(facts))

    result = frostline("reproduce", f"run={run_dir}")
    assert result.status == 1
    assert "val/loss" in result.out
    assert "logit_bad differs in 1 of" in result.out and "by 0.5 at most" in result.out
    assert "packages.torch: 1.0.0 then" in result.out
