"""The page: self-contained, escaped, complete, and there even if nothing has finished."""

from __future__ import annotations

import html
import json
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from frostline.errors import FrostlineError
from frostline.report.answer import best_and_by_how_much
from frostline.report.arms import summarise
from frostline.report.page import write_page
from frostline.report.page.drawn import MAX_POINTS, read_curves
from frostline.runs.sweep import collect

# The synthetic run directories of the neighbouring test, loaded by path so that any import mode of pytest works.
SYNTHETIC = runpy.run_path(str(Path(__file__).with_name("test_table.py")))
write_run, write_sweep = SYNTHETIC["write_run"], SYNTHETIC["write_sweep"]
VOID = {"meta", "br", "link", "input", "img", "hr"}


class Page(HTMLParser):
    """The page as a reader meets it: its elements and the text outside of scripts, styles and drawings."""

    def __init__(self, source: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not {"script", "style", "svg"} & {*self.open}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str, **attributes: str) -> int:
        return sum(t == tag and attributes.items() <= a.items() for t, a in self.elements)


def curves_in(source: str) -> dict[str, Any]:
    found = re.search(r"^const page = (.*);$", source, re.MULTILINE)
    assert found
    content: dict[str, Any] = json.loads(found[1])["curves"]
    return content


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder)
    return folder


@pytest.fixture(scope="module")
def source(sweep: Path) -> str:
    return write_page(sweep).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_the_page_opens_with_the_answer(sweep: Path, page: Page) -> None:
    assert best_and_by_how_much(summarise(sweep, collect(sweep))) in page.text


def test_all_sections_are_there_and_tables_have_headers(page: Page) -> None:
    for title in ("Answer", "Comparison", "Sweep", "Errors", "Calibration", "All runs", "How it was made"):
        assert title in page.text
    tables = {given["data-table"] for tag, given in page.elements if tag == "table"}
    assert tables == {"comparison", "differences", "seeds", "disagreement", "sentences", "calibration", "results"}
    rows = 3 + 2 + 3 + 3 + 3 + 14  # arms, all but the probe, arms, pairs, arms, jobs; sentences are listed by the script
    assert page.count("th", scope="row") == rows
    figures = [given["data-figure"] for tag, given in page.elements if tag == "figure"]
    assert figures == ["accuracy_by_depth", "pareto", "heat_map", "confusions", "reliability"]
    assert page.count("svg") == len(figures)


def test_nothing_is_loaded_from_elsewhere(page: Page, source: str) -> None:
    fetching = {"script", "link", "img", "iframe", "image", "source"}
    assert [tag for tag, given in page.elements if tag in fetching and {"src", "href", "srcset"} & given.keys()] == []
    assert page.count("script") == 2  # plotly.js once, and the page's own
    assert "default-src 'none'" in source
    assert "@import" not in re.sub(r"<script[^>]*>.*?</script>", "", source, flags=re.DOTALL)


def test_text_from_runs_is_escaped(page: Page, source: str) -> None:
    assert "<script>alert(1)" not in source
    assert html.escape("<script>alert(1)</script>") in source
    assert "CUDA out of memory: [bold] <script>alert(1)</script>" in page.text


def test_a_name_that_closes_the_script_stays_text(tmp_path: Path) -> None:
    write_run(tmp_path / "0", overrides={"model.pooling": "</script><script>alert(2)</script>"})
    write_run(tmp_path / "1", overrides={"model.pooling": "mean"})
    source = write_page(tmp_path).read_text(encoding="utf-8")
    assert "<script>alert(2)" not in source
    assert Page(source).count("script") == 2
    assert "</script><script>alert(2)</script>" in curves_in(source)["arms"][0]["name"]


def test_every_finished_run_has_its_curve_whatever_its_learning_rate(sweep: Path, source: str) -> None:
    curves = curves_in(source)
    assert [arm["name"] for arm in curves["arms"]] == ["frozen, layer 4", "partial, 2 of 6", "full"]
    assert curves["metrics"][:2] == ["train/loss", "val/accuracy"]
    assert len(curves["runs"]) == 12
    assert "full, learning rate 1e-4, seed 2" in [run["label"] for run in curves["runs"]]
    logged = pd.read_csv(sweep / "3" / "curves.csv")["val/accuracy"].dropna()
    assert curves["runs"][3]["points"]["val/accuracy"]["y"] == pytest.approx(logged.tolist(), abs=1e-6)


def test_curves_drop_what_is_not_finite_and_thin_what_is_long(tmp_path: Path) -> None:
    write_run(tmp_path / "0")
    steps = range(5 * MAX_POINTS)
    loss = [float("nan"), float("inf"), *(1.0 for _ in steps)][: 5 * MAX_POINTS]
    pd.DataFrame({"step": steps, "epoch": 0, "train/loss": loss}).to_csv(tmp_path / "0" / "curves.csv", index=False)
    results = collect(tmp_path)
    points = read_curves(tmp_path, results, summarise(tmp_path, results))["runs"][0]["points"]["train/loss"]
    assert len(points["x"]) == len(points["y"]) == MAX_POINTS
    assert points["x"][0] == 2
    assert set(points["y"]) == {1.0}


def test_the_manifest_says_how_it_was_made(page: Page) -> None:
    for words in ("frostline train strategy=frozen", "torch 2.13.0", "threads 2"):
        assert words in page.text
    assert "seed 0, 1, 2" in page.text


def test_a_single_run_has_a_page(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    text = Page(write_page(tmp_path / "run").read_text(encoding="utf-8")).text
    assert "The only arm, full fine-tuning, scores" in text


@pytest.mark.parametrize("status", ["running", "failed", "diverged"])
def test_without_a_finished_run_the_page_says_so(tmp_path: Path, status: str) -> None:
    write_run(tmp_path / "0", status=status, error=None if status == "running" else "the loss became NaN")
    source = write_page(tmp_path).read_text(encoding="utf-8")
    assert "No run has finished yet." in Page(source).text
    assert status in Page(source).text
    assert len(source) < 50_000  # no plotly.js without a curve


def test_a_test_split_that_was_not_read_leaves_the_picture_out(tmp_path: Path) -> None:
    write_run(tmp_path / "0", test=None)
    assert Page(write_page(tmp_path).read_text(encoding="utf-8")).count("svg") == 0


def test_a_damaged_curve_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "0")
    (tmp_path / "0" / "curves.csv").write_text("no,such,columns\n1,2,3\n")
    with pytest.raises(FrostlineError, match=r"0/curves\.csv' is damaged"):
        write_page(tmp_path)
