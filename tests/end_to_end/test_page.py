"""The page of a real sweep: its numbers are those of its files, and a browser draws, filters and downloads what it offers."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, log_loss

from frostline.report.arms import names, summarise
from frostline.runs.sweep import collect

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

PATIENCE = 120_000  # ms, on a busy machine
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # a whole sweep, and a browser


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[Path, str]:
    """Where ./multirun.sh left the main sweep, small and with the tiny encoder, and what it printed.

    Its set-up finds this environment complete.
    """
    output = tmp_path_factory.mktemp("outputs")
    given = ["sweep=main", "model=tiny", "logger=csv", "data.train_size=60", "trainer.max_epochs=2", "trainer.precision=32-true"]
    given += ["data.validation_share=0.02", "data.test_share=0.03"]
    env = {"FROSTLINE_VENV": sys.prefix, "FROSTLINE_CACHE": str(cache_dir), "FROSTLINE_OUTPUT": str(output)}
    words = [str(ROOT / "multirun.sh"), *given]
    result = subprocess.run(words, env=os.environ | env, cwd=output, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr
    (page,) = output.glob("sweeps/*/*/report.html")
    return page.parent, result.stdout


@pytest.fixture(scope="module")
def sweep(said: tuple[Path, str]) -> Path:
    return said[0]


def test_multirun_runs_the_main_sweep_and_says_what_came_of_it(said: tuple[Path, str]) -> None:
    sweep, words = said
    results = pd.read_csv(sweep / "results.csv")
    assert (results["status"] == "finished").all()
    assert results.groupby("strategy").size().to_dict() == {"frozen": 3, "partial": 12, "full": 6}
    assert "test accuracy" in words and f"{sweep.name}/report.html" in "".join(words.split())


# --- numbers ----------------------------------------------------------------------------------------------------------


def predictions_of(sweep: Path) -> dict[str, list[pd.DataFrame]]:
    """Test predictions of the chosen runs by the arm's name."""
    arms = summarise(sweep, collect(sweep))
    tables = {
        name: [pd.read_parquet(sweep / run / "predictions.parquet") for run in arm.runs]
        for name, arm in zip(names(arms), arms, strict=True)
    }
    return {name: [table[table["split"] == "test"].sort_values("index") for table in of] for name, of in tables.items()}


def test_the_comparison_is_what_scikit_learn_makes_of_the_predictions(sweep: Path) -> None:
    table = pd.read_csv(sweep / "tables" / "comparison.csv").set_index("arm")
    for name, runs in predictions_of(sweep).items():
        logits = [run.filter(like="logit_").to_numpy() for run in runs]
        chances = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in logits]
        hot = [np.eye(2)[run["label"]] for run in runs]
        expected = {
            "accuracy": [accuracy_score(run["label"], run["prediction"]) for run in runs],
            "macro_f1": [f1_score(run["label"], run["prediction"], average="macro") for run in runs],
            "nll": [log_loss(run["label"], p) for run, p in zip(runs, chances, strict=True)],
            "brier": [((p - y) ** 2).sum(axis=1).mean() for p, y in zip(chances, hot, strict=True)],
        }
        for key, values in expected.items():
            assert table.loc[name, key] == pytest.approx(np.mean(values), abs=1e-9), (name, key)
            assert table.loc[name, f"{key}_low"] <= table.loc[name, key] <= table.loc[name, f"{key}_high"]


def test_disagreement_is_what_scikit_learn_makes_of_the_predictions(sweep: Path) -> None:
    runs = predictions_of(sweep)
    for row in pd.read_csv(sweep / "tables" / "disagreement.csv").to_dict("records"):
        pairs = [
            (a["prediction"].to_numpy(), b["prediction"].to_numpy()) for a in runs[row["first"]] for b in runs[row["second"]]
        ]
        assert row["churn"] == pytest.approx(np.mean([1 - accuracy_score(a, b) for a, b in pairs]))
        kappas = [cohen_kappa_score(a, b) for a, b in pairs]
        assert np.isnan(kappas).any() or row["kappa"] == pytest.approx(np.mean(kappas))
        majority = [
            np.mean([run["prediction"] == run["label"] for run in runs[row[side]]], axis=0) > 0.5 for side in ("first", "second")
        ]
        assert row["fixed"] == (~majority[0] & majority[1]).sum()
        assert row["broken"] == (majority[0] & ~majority[1]).sum()


def test_every_sentence_is_in_its_file_with_what_every_arm_says(sweep: Path) -> None:
    table = pd.read_csv(sweep / "tables" / "sentences.csv")
    for name, runs in predictions_of(sweep).items():
        assert table["text"].tolist() == runs[0]["text"].tolist()
        right = np.mean([run["prediction"] == run["label"] for run in runs], axis=0)
        assert np.allclose(table[f"{name}: right"], right)


# --- a browser ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a browser: one of {', '.join(BROWSERS)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


def open_page(browser: Any, sweep: Path) -> Any:
    """The page at desktop width; what it asked for and complained of is in ``requests`` and ``complaints``."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.requests, page.complaints = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(f"file://{sweep / 'report.html'}")
    page.wait_for_selector("#plot-0 .trace")
    return page


@pytest.fixture(scope="module")
def opened(browser: Any, sweep: Path) -> Iterator[Any]:
    page = open_page(browser, sweep)
    yield page
    page.close()


def downloaded(page: Any, name: str) -> bytes:
    with page.expect_download() as found:
        page.get_by_role("button", name=f"Download {name}", exact=True).click()
    assert found.value.suggested_filename == name
    return Path(found.value.path()).read_bytes()


def test_the_page_asks_for_nothing_and_complains_of_nothing(opened: Any) -> None:
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len([url for url in opened.requests if url.startswith("file:")]) == 1
    assert opened.complaints == []


def test_every_figure_has_drawn(opened: Any) -> None:
    figures = opened.locator("figure svg")
    assert figures.count() >= 5
    for figure in figures.all():
        box = figure.bounding_box()
        assert box["width"] > 100 and box["height"] > 50
        assert figure.locator("path, image, text").count() > 3
    plots = opened.locator("div.plot")
    assert plots.count() == 3
    for plot in plots.all():
        assert plot.locator("svg .trace").count() > 0


def test_the_filter_changes_the_table(opened: Any, sweep: Path) -> None:
    table = pd.read_csv(sweep / "tables" / "sentences.csv")
    said = opened.locator("#found")
    form = opened.locator("#filter")
    form.locator("[name=wrong]").select_option("any or none")
    assert said.inner_text() == f"{len(table)} of {len(table)} sentences"
    form.locator("[name=class]").select_option("positive")
    assert said.inner_text().startswith(f"{(table['label'] == 'positive').sum()} of ")
    form.locator("[name=wrong]").select_option("full")
    wrong = table[(table["label"] == "positive") & (table["full: right"] <= 0.5)]
    assert said.inner_text().startswith(f"{len(wrong)} of ")
    if len(wrong):  # the most confident mistake comes first
        first = opened.locator("#sentences tbody tr").first.locator("td").first.inner_text()
        assert table.set_index("text").loc[first, "full: probability"] == pytest.approx(
            wrong["full: probability"].min(), abs=0.006
        )
    form.locator("[name=text]").fill("no sentence has these words")
    assert said.inner_text().startswith("0 of ")
    assert opened.locator("#sentences tbody tr").count() == 0
    form.locator("[name=text]").fill("")
    form.locator("[name=class]").select_option("all")


def test_tables_sort_by_their_headers(opened: Any) -> None:
    table = opened.locator("table[data-table=results]")
    table.get_by_role("button", name="val/accuracy", exact=True).click()
    header = table.locator("th[aria-sort]")
    assert header.get_attribute("aria-sort") == "ascending"
    at = header.evaluate("header => header.cellIndex")
    values = [float(row.locator("th, td").nth(at).get_attribute("data-sort")) for row in table.locator("tbody tr").all()]
    assert values == sorted(values) and len(set(values)) > 1


def test_what_downloads_is_what_lies_on_the_disk(opened: Any, sweep: Path) -> None:
    for path in sorted((sweep / "tables").glob("*.csv")):
        assert downloaded(opened, path.name) == path.read_bytes(), path.name
    assert len(list((sweep / "tables").glob("*.csv"))) >= 7


def test_numbers_on_the_page_are_those_of_the_file(opened: Any) -> None:
    table = pd.read_csv(io.BytesIO(downloaded(opened, "comparison.csv")))
    shown = opened.locator("table[data-table=comparison]")
    at = [words.lower() for words in shown.locator("thead th").all_inner_texts()].index("test accuracy, % (95 % ci)")
    for row, of in zip(shown.locator("tbody tr").all(), table.to_dict("records"), strict=True):
        words = row.locator("th, td").nth(at).inner_text()
        expected = [f"{100 * of[key]:.1f}" for key in ("accuracy", "accuracy_low", "accuracy_high")]
        assert re.findall(r"[\d.]+\d", words) == expected


@pytest.mark.parametrize(
    ("name", "start"), [("accuracy_by_depth.svg", b"<svg"), ("accuracy_by_depth.png", b"\x89PNG"), ("plot-0.svg", b"<svg")]
)
def test_figures_download(browser: Any, sweep: Path, name: str, start: bytes) -> None:
    page = open_page(browser, sweep)  # anew: after ten downloads Chromium asks before the next
    content = downloaded(page, name)
    page.close()
    assert content.startswith(start) and len(content) > 3000


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Any, sweep: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.set_default_timeout(PATIENCE)
    page.goto(f"file://{sweep / 'report.html'}")
    page.wait_for_selector("#plot-0 .trace")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    page.close()
