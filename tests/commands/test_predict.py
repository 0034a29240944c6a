from __future__ import annotations

import io
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from tests.bad_input.test_bad_input import assert_refused
from tests.commands.run_files import predictions
from tests.commands.test_reproduce import STRATEGIES

QUICK = ["data.batch_size=16", "data.train_size=24", "trainer.max_epochs=1"]
OTHERS = {
    "lora": ["strategy=lora", *QUICK],
    "bitfit": ["strategy=bitfit", *QUICK],
    "lp_ft": ["strategy=lp_ft", *QUICK],
    "gradual": ["strategy=gradual", "strategy.frozen_depth=3", *QUICK[:2], "trainer.max_epochs=2"],
    "cls": ["strategy=partial", "model.pooling=cls", *QUICK],
}
LOGITS = ["logit_bad", "logit_good"]
PROBABILITIES = ["probability_bad", "probability_good"]


def expected_probabilities(run_dir, split):
    """Temperature and all, from the run's own predictions by another optimiser."""
    table = predictions(run_dir)
    validation = table[table["split"] == "validation"]
    logits, labels = validation[LOGITS].to_numpy(), validation["label"].to_numpy()

    def loss(log_t):
        return -log_softmax(logits / np.exp(log_t[0]), axis=1)[np.arange(len(labels)), labels].mean()

    start = min(np.linspace(-5, 5, 101), key=lambda log_t: loss([log_t]))
    (log_t,) = minimize(loss, [start], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-14}).x
    return softmax(table.loc[table["split"] == split, LOGITS].to_numpy() / np.exp(log_t), axis=1)


@pytest.mark.parametrize("strategy", [*STRATEGIES.values(), *OTHERS.values()], ids=[*STRATEGIES, *OTHERS])
def test_a_file_has_the_probabilities_of_the_runs_own_predictions(frostline, finished, tiny, tmp_path, strategy, monkeypatch):
    monkeypatch.setattr("frostline.commands.finished.CHUNK", 7)
    run_dir = finished(*tiny[:-1], *strategy)
    table = predictions(run_dir).query("split == 'test'")
    order = np.random.default_rng(0).permutation(len(table))
    path = tmp_path / "new.csv"
    pd.DataFrame({"id": np.arange(len(table)), "text": table["text"]}).iloc[order].to_csv(path, index=False)
    result = frostline("predict", f"run={run_dir}", f"file={path}")
    assert result.status == 0, result.err
    found = pd.read_csv(io.StringIO(result.out))
    assert found.columns.tolist() == ["id", "text", "prediction", *PROBABILITIES]
    assert found["id"].tolist() == order.tolist()
    probabilities = expected_probabilities(run_dir, "test")[order]
    np.testing.assert_allclose(found[PROBABILITIES], probabilities, atol=1e-4)
    assert found["prediction"].tolist() == [["bad", "good"][i] for i in probabilities.argmax(axis=1)]


def test_a_text_is_taken_as_it_is_written(frostline, finished, tiny, tmp_path):
    run_dir = finished(*tiny[:-1], *STRATEGIES["full"])
    text = "it's \"lovely\", {a} = ${b}; (c) [d] \\ 'n"
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": text}))
    told = frostline("predict", f"run={run_dir}", f"text={text}")
    assert told.status == 0, told.err
    lines = [line.split() for line in told.out.splitlines()]
    row = pd.read_csv(io.StringIO(frostline("predict", f"run={run_dir}", f"file={tmp_path / 'one.jsonl'}").out)).iloc[0]
    assert {name: float(p) for name, p in lines} == {n: pytest.approx(row[f"probability_{n}"], abs=6e-4) for n in ("bad", "good")}
    assert lines[0][0] == row["prediction"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_is_written_whole_with_its_columns_as_they_were(frostline, finished, tiny, tmp_path, suffix):
    run_dir, out = finished(*tiny[:-1], *STRATEGIES["full"]), tmp_path / f"out{suffix}"
    (tmp_path / "new.tsv").write_text("text\tnumber\ndull, dull\t007\nlovely\tNA\n")
    result = frostline("predict", f"run={run_dir}", f"file={tmp_path / 'new.tsv'}", f"out={out}")
    assert result.status == 0, result.err
    assert str(out) in result.out
    if suffix == ".csv":
        table = pd.read_csv(out, dtype=str, keep_default_na=False)
    else:
        table = pd.DataFrame([json.loads(line) for line in out.read_text().splitlines()])
    assert table[["text", "number"]].to_numpy().tolist() == [["dull, dull", "007"], ["lovely", "NA"]]
    assert table[PROBABILITIES].astype(float).sum(axis=1).tolist() == pytest.approx([1, 1])


def test_lines_of_plain_text_and_other_columns(frostline, finished, tiny, tmp_path):
    run_dir = finished(*tiny[:-1], *STRATEGIES["full"])
    (tmp_path / "new.txt").write_bytes("grim\r\nlovely\u2028witty\r\n".encode())
    lines = pd.read_csv(io.StringIO(frostline("predict", f"run={run_dir}", f"file={tmp_path / 'new.txt'}").out))
    pd.DataFrame({"review": ["grim", "lovely\u2028witty"], "text": ["x", "y"]}).to_parquet(tmp_path / "new.parquet")
    words = [f"file={tmp_path / 'new.parquet'}", "text_column=review"]
    columns = pd.read_csv(io.StringIO(frostline("predict", f"run={run_dir}", *words).out))
    assert lines["text"].tolist() == columns["review"].tolist()
    assert lines[PROBABILITIES].equals(columns[PROBABILITIES])


@pytest.fixture
def pairs(finished, shared):
    """A run on pairs of sentences, of columns with names of their own."""
    rows = [(f"{i} {a}", f"{b} {i}", "same" if a == b else "other") for i in range(25) for a, b in itertools.product("xy", "xy")]
    path = shared / "pairs.csv"
    pd.DataFrame(rows, columns=["first", "second", "label"]).to_csv(path, index=False)
    columns = ["data.text_column=first", "data.text_pair_column=second"]
    return finished("model=tiny", "logger=csv", "data=files", f"data.train={path}", *columns, "strategy=full", *QUICK)


def test_pairs_are_read_from_the_columns_that_the_run_was_trained_on(frostline, pairs, tmp_path):
    table = predictions(pairs).query("split == 'test'").reset_index(drop=True)
    path = tmp_path / "new.csv"
    pd.DataFrame({"first": table["text"], "second": table["text_pair"]}).to_csv(path, index=False)
    found = pd.read_csv(io.StringIO(frostline("predict", f"run={pairs}", f"file={path}").out))
    ratio = np.log(found["probability_same"] / found["probability_other"])  # the logits' difference over the temperature
    difference = table["logit_same"] - table["logit_other"]
    assert np.corrcoef(ratio, difference)[0, 1] > 0.9999
    first = table.iloc[0]
    told = frostline("predict", f"run={pairs}", f"text={first['text']}", f"text_pair={first['text_pair']}")
    assert float(told.out.split()[1]) == pytest.approx(found.loc[0, ["probability_same", "probability_other"]].max(), abs=6e-4)
    assert_refused(frostline("predict", f"run={pairs}", "text=x"), "pairs of sentences", "text_pair=", command="predict")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ["text=", "file="]),
        (["text=x", "file=new.csv"], ["either"]),
        (["text= "], ["text", "empty"]),
        (["text=a\ud800b"], ["Unicode"]),
        (["text=x", "text_pair=y"], ["single sentences", "text_pair"]),
        (["text=x", "out=o.csv"], ["file="]),
        (["file=new.csv"], ["row 2", "empty"]),
        (["file=new.csv", "text_column=texte"], ["no column 'texte'", "did you mean 'text'"]),
        (["file=nwe.csv"], ["no file 'nwe.csv'"]),
        (["file=new.csv", "out=o.xlsx"], [".xlsx", ".csv or .jsonl"]),
        (["file=new.csv", "out=new.csv"], ["the file that is read"]),
        (["fiel=new.csv"], ["did you mean 'file'"]),
        (["text=x", "run=nowhere"], ["no run directory 'nowhere'"]),
    ],
    ids=str,
)
def test_mistakes_are_told_in_a_sentence(frostline, finished, tiny, tmp_path, words, said):
    run_dir = finished(*tiny[:-1], *STRATEGIES["full"])
    (tmp_path / "new.csv").write_text("text,id\nlovely,1\n  ,2\ngrim,3\n")
    before = sorted(tmp_path.iterdir())
    run = [] if any(word.startswith("run=") for word in words) else [f"run={run_dir}"]
    assert_refused(frostline("predict", *run, *words), *said, command="predict")
    assert sorted(tmp_path.iterdir()) == before
