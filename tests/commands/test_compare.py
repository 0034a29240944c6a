"""Two runs side by side, on synthetic run directories."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import binomtest

SYNTHETIC = runpy.run_path(str(Path(__file__).parents[1] / "report" / "test_table.py"))
write_run = SYNTHETIC["write_run"]


def right(run: Path) -> pd.DataFrame:
    table = pd.read_parquet(run / "predictions.parquet")
    table = table[table["split"] == "test"].sort_values("index")
    return table.assign(right=table["label"] == table["prediction"]).set_index("index")


def test_two_runs_are_compared_as_they_are(frostline, tmp_path):
    write_run(tmp_path / "sweep" / "0", "frozen", lr=None, test=0.75)
    write_run(tmp_path / "sweep" / "1", "full", seed=1, test=0.85)
    result = frostline("compare", f"run={tmp_path / 'sweep/0'}", f"run={tmp_path / 'sweep/1'}", "sentences=2")
    assert result.status == 0, result.err
    a, b = right(tmp_path / "sweep" / "0"), right(tmp_path / "sweep" / "1")
    fixed, broken = (b["right"] & ~a["right"]).sum(), (a["right"] & ~b["right"]).sum()
    out = " ".join(result.out.split())
    told = re.search(r": ([+-][\d.]+) points", out)
    assert told and float(told[1]) == pytest.approx(100 * (b["right"].mean() - a["right"].mean()), abs=0.051)
    assert f"exact p {binomtest(fixed, fixed + broken).pvalue:.3g}" in out
    assert f"the second fixes {fixed:,} and breaks {broken:,}" in out
    assert result.out.count("\n  fixes  ") == result.out.count("\n  breaks  ") == 2
    surest = a[b["right"] & ~a["right"]].filter(like="logit_").max(axis=1).idxmax()
    assert f": {a.loc[surest, 'text']}" in result.out.split("\n  fixes  ")[1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["run=one"], "Give two runs"),
        (["run=one", "run=one"], "are the same run"),
        (["run=one", "run=other"], "not scored on the same test sentences"),
        (["run=one", "run=sweep"], "is not the directory of one finished run"),
        (["run=one", "run=nowhere"], "There is no directory"),
        (["run=one", "run=other", "sentences=-1"], "sentences of at least 0"),
        (["run=one", "run=other", "sentence=1"], "sentences"),
    ],
)
def test_what_cannot_be_compared_is_said(frostline, tmp_path, monkeypatch, given, sentence):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "one")
    write_run(tmp_path / "other", seed_of_test_set=3)
    for job in (0, 1):
        write_run(tmp_path / "sweep" / str(job), seed=job)
    result = frostline("compare", *given)
    assert result.status == 1
    assert sentence in result.err and "Traceback" not in result.err
