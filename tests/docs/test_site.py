"""The documentation site: it builds without a warning, its links lead somewhere, and it asks no other host for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
FETCHED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "use": "href", "object": "data"}


class Page(HTMLParser):
    """What an HTML page names: its anchors, where its links lead, and what a browser fetches for it."""

    def __init__(self, html: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        self.anchors |= {of[name] for name in ("id", "name") if name in of}
        if tag == "a" and "href" in of:
            self.links.append(of["href"])
        if FETCHED.get(tag) in of and of.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(of[FETCHED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs", reason="comes with the dev extra")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as during:
        during.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))  # Abort on any warning
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_page_of_docs_is_there(site):
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {path.stem for path in site.glob("*.html")}


def test_internal_links_lead_somewhere(pages):
    dead = []
    for path, page in pages.items():
        for link in [*page.links, *page.fetched]:
            to = urlsplit(link)
            if to.scheme or to.netloc:
                continue
            target = (path.parent / unquote(to.path)).resolve() if to.path else path
            if not target.is_file() or (to.fragment and target in pages and unquote(to.fragment) not in pages[target].anchors):
                dead.append(f"{path.name}: {link}")
    assert len(pages) > 10
    assert not dead


def test_nothing_is_fetched_from_another_host(site, pages):
    fetched = [f"{path.name}: {link}" for path, page in pages.items() for link in page.fetched if urlsplit(link).netloc]
    for path in site.rglob("*.css"):
        fetched += [
            f"{path.name}: {url}" for url in re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^)\"']+)", path.read_text())
        ]
    assert not fetched
    assert any(page.fetched for page in pages.values())
    # Material fetches a drawing library from elsewhere as soon as a page has a diagram of this kind.
    assert not [path.name for path in pages if 'class="mermaid"' in path.read_text()]


def test_figures_of_claims_are_shown_and_described():
    shown = dict(re.findall(r"!\[([^\]]{20,})\]\(claims/(\w+)\.svg\)", (ROOT / "docs" / "claims.md").read_text()))
    drawn = {path.stem for path in (ROOT / "docs" / "claims").glob("*.svg")}
    assert set(shown.values()) == drawn
    assert drawn <= {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path):
    mkdocs = pytest.importorskip("mkdocs", reason="comes with the dev extra")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    docs = tmp_path / "docs"
    docs.mkdir()
    for path in (ROOT / "docs").glob("*.*"):
        (docs / path.name).write_bytes(path.read_bytes())
    (docs / "start.md").write_text("[gone](nowhere.md)")
    config = load_config(str(ROOT / "mkdocs.yml"), docs_dir=str(docs), site_dir=str(tmp_path / "site"), strict=True)
    with pytest.raises(mkdocs.exceptions.Abort):
        build(config)
