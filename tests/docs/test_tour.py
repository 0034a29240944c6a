"""The tour of one sentence: its sessions give what the page shows, and the code that it quotes is the code."""

from __future__ import annotations

import doctest
import re
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tour.md").read_text()
QUOTED = re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE, flags=re.DOTALL)
DECIMAL = re.compile(r"-?\d+\.\d+")


class Numbers(doctest.OutputChecker):
    """Decimal numbers may differ by one in their last place: processors round differently."""

    def check_output(self, want: str, got: str, flags: int) -> bool:
        if not super().check_output(DECIMAL.sub("#", want), DECIMAL.sub("#", got), flags):
            return False
        pairs = zip(DECIMAL.findall(want), DECIMAL.findall(got), strict=True)
        return all(abs(float(w) - float(g)) < 1.01 * 10 ** -len(w.split(".")[1]) for w, g in pairs)


def test_the_sessions_give_what_the_page_shows(own_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("FROSTLINE_CACHE", str(own_cache))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sessions = "\n".join(re.findall(r"```pycon\n(.*?)```", PAGE, flags=re.DOTALL))
    test = doctest.DocTestParser().get_doctest(sessions, {}, "tour.md", "docs/tour.md", 0)
    assert len(test.examples) > 40
    told: list[str] = []
    doctest.DocTestRunner(Numbers(), verbose=False).run(test, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize(("path", "lines"), QUOTED, ids=[path for path, _ in QUOTED])
def test_what_is_quoted_is_the_code(path, lines):
    def bare(text: str) -> str:
        return "\n".join(line.strip() for line in text.strip().splitlines())

    assert bare(lines) in bare((ROOT / path).read_text())


def test_a_number_that_is_off_is_found():
    check = Numbers().check_output
    assert check("[0.12, -0.50]\n", "[0.13, -0.50]\n", 0)
    assert not check("[0.12, -0.50]\n", "[0.14, -0.50]\n", 0)
    assert not check("[0.12, -0.50]\n", "[0.12]\n", 0)
    assert not check("bad 0.5\n", "good 0.5\n", 0)
