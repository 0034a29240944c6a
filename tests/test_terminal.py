"""What is shown cannot command the terminal, and holds no secret."""

from __future__ import annotations

import logging

import pytest

from frostline.terminal import PlainFormatter, visible
from frostline.trust import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve café, 日本 \u00a0 🙂\n\tnext", "naïve café, 日本 \u00a0 🙂\n\tnext"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb\x08c\x00", "a\\rb\\x08c\\x00"),
        ("\u202edoog", "\\u202edoog"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_log_line_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    record = logging.LogRecord("a", logging.INFO, "a.py", 1, "%s of %s", ("\x1b[1m", "hf_0123456789"), None)
    assert PlainFormatter("%(message)s").format(record) == "\\x1b[1m of ****"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://me:pw@example.org/x", "see https://****@example.org/x"),
        ("see https://example.org/a@b", "see https://example.org/a@b"),
        ("git@example.org:a/b and ssh://git@example.org", "git@example.org:a/b and ssh://git@example.org"),
        ("https://ghp_0123456789abcdefghij@example.org", "https://****@example.org"),
    ],
)
def test_a_url_is_told_without_its_password(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_values_that_are_no_secrets_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("A_KEY", "short")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))  # a path is no secret
    monkeypatch.setenv("MONKEY_NAME", "orangutan")
    text = f"short {tmp_path} orangutan"
    assert without_secrets(text) == text
