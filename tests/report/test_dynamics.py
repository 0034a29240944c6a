"""The map of training sentences, from runs of which the truth is known."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from frostline.errors import FrostlineError
from frostline.report.arms import Arm, summarise
from frostline.report.dynamics import dynamics_figure, dynamics_table, rank_correlation, raters_in_words
from frostline.report.figures import inline_svg
from frostline.report.page import write_page
from frostline.runs.files import write_json
from frostline.runs.reading import read_json
from frostline.runs.sweep import collect

write_run = runpy.run_path(str(Path(__file__).with_name("test_table.py")))["write_run"]
ROWS = {  # text: label, confidence in either seed (None: not trained on), rating_sd
    "easy": (1, (0.9, 0.95), 0.1),
    "wrong": (0, (0.1, 0.05), 0.8),
    "of one seed": (0, (0.5, None), 0.5),
}


def runs(folder: Path, strategies: tuple[str, ...] = ("partial", "full")) -> list[Arm]:
    for number, strategy in enumerate(strategies):
        for seed in (0, 1):
            run = folder / f"{10 * number + seed}"
            write_run(run, strategy, seed, lr=1e-4)
            write_json(run / "manifest.json", read_json(run / "manifest.json") | {"class_names": ["no", "yes"]})
            rows = [(t, y, c[seed], 0.2, 1.0, sd) for t, (y, c, sd) in ROWS.items() if c[seed] is not None]
            table = pd.DataFrame(rows, columns=["text", "label", "confidence", "variability", "correctness", "rating_sd"])
            table.assign(index=range(len(table)), rating=2.0).to_parquet(run / "dynamics.parquet")
    return summarise(folder, collect(folder))


def test_the_least_confident_sentence_of_each_arm_stands_first(tmp_path: Path) -> None:
    table = dynamics_table(tmp_path, runs(tmp_path))
    assert table is not None
    assert list(table)[:6] == ["arm", "text", "label", "confidence", "variability", "correctness"]
    assert table["text"].tolist() == ["wrong", "of one seed", "easy"] * 2
    assert table["label"].tolist() == ["no", "no", "yes"] * 2
    assert [name[:4] for name in table["arm"]] == ["part"] * 3 + ["full"] * 3
    assert table["confidence"].tolist() == pytest.approx([0.075, 0.5, 0.925] * 2)
    assert table["seeds"].tolist() == [2, 1, 2] * 2
    assert table["rating_sd"].tolist() == [0.8, 0.5, 0.1] * 2


def test_a_text_with_two_labels_is_two_sentences(tmp_path: Path) -> None:
    arms = runs(tmp_path, ("full",))
    path = tmp_path / "1/dynamics.parquet"
    flipped = pd.read_parquet(path)
    flipped.loc[flipped["text"] == "easy", ["label", "confidence"]] = [0, 0.2]
    flipped.to_parquet(path)
    table = dynamics_table(tmp_path, arms)
    assert table is not None
    easy = table[table["text"] == "easy"]
    assert dict(zip(easy["label"], easy["confidence"], strict=True)) == {"no": 0.2, "yes": 0.9}


def test_no_arm_followed_its_sentences(tmp_path: Path) -> None:
    arms = runs(tmp_path)
    for path in tmp_path.glob("*/dynamics.parquet"):
        path.unlink()
    assert dynamics_table(tmp_path, arms) is None


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    arms = runs(tmp_path)
    (tmp_path / "0/dynamics.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(FrostlineError, match=r"0/dynamics.parquet' is damaged"):
        dynamics_table(tmp_path, arms)


@pytest.mark.parametrize("arms", [1, 2, 4])
def test_an_arm_is_a_panel_with_a_dot_a_sentence(arms: int) -> None:
    random = np.random.default_rng(0)
    values = {"variability": random.uniform(0, 0.5, 50), "confidence": random.uniform(size=50), "correctness": 0.5}
    table = pd.concat([pd.DataFrame(values).assign(arm=f"arm {i}") for i in range(arms)])
    figure = dynamics_figure(table)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == [f"arm {i}" for i in range(arms)]
    for axes in panels:
        np.testing.assert_allclose(axes.collections[0].get_offsets(), np.c_[values["variability"], values["confidence"]])
    assert len(inline_svg(figure)) < 200_000 * arms


def test_rank_correlation_is_scipys_and_its_interval_holds_it() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=400)
    b = np.round(a + random.normal(size=400))  # with ties
    found = rank_correlation(a, b)
    assert found.mean == pytest.approx(stats.spearmanr(a, b).statistic)
    error = (found.high - found.low) / 2 / 1.96
    assert error == pytest.approx((1 - found.mean**2) / np.sqrt(400), rel=0.3)  # as for Pearson's, roughly
    assert found.low < found.mean < found.high


def rated(slope: float, n: int = 300, **columns: object) -> pd.DataFrame:
    random = np.random.default_rng(0)
    confidence = random.uniform(size=n)
    spread = slope * -confidence + random.normal(size=n) / 3
    columns = {"confidence": confidence, "rating_sd": spread, "rating": random.choice([-1, 1], n) * confidence, **columns}
    return pd.DataFrame(columns).assign(arm="full")


def test_words_say_in_which_direction_and_how_sure() -> None:
    (words,) = raters_in_words(rated(1.0))
    assert words.startswith("full: how unsure the run is of a label goes with how much the judges disagree (Spearman 0.")
    assert "goes against how strong their mean rating is (Spearman -1.00" in words
    assert words.endswith("300 sentences.")
    table = rated(1.0)
    mirrored = pd.concat([table, table.assign(rating_sd=-table["rating_sd"])])  # a correlation of exactly 0
    assert "does not visibly go with how much the judges disagree" in raters_in_words(mirrored)[0]


def test_labels_made_wrong_on_purpose_are_not_the_raters() -> None:
    table = rated(1.0)
    wrong = table.assign(confidence=0.0, rating_sd=-9.0, flipped=True)
    both = pd.concat([table.assign(flipped=False), wrong])
    assert raters_in_words(both) == raters_in_words(table)


def test_without_ratings_nothing_is_said() -> None:
    assert raters_in_words(rated(1.0).drop(columns="rating_sd")) == []
    assert raters_in_words(rated(1.0, n=9)) == []


def test_the_page_lists_probable_label_errors_first(tmp_path: Path) -> None:
    runs(tmp_path)
    source = write_page(tmp_path).read_text(encoding="utf-8")
    section = source[source.index('<section id="dynamics"') :].partition("</section>")[0]
    cells = re.findall(r">([^<>]+)</td>", section)
    assert [cell for cell in cells if cell in ROWS] == ["wrong", "of one seed", "easy"] * 2
    assert 'data-figure="cartography"' in section
    file = pd.read_csv(tmp_path / "tables" / "dynamics.csv")
    assert file["text"].tolist() == ["wrong", "of one seed", "easy"] * 2
