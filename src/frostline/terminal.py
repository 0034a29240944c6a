"""Texts on a terminal: a sentence or a class name from a stranger's file must not move the cursor or paint over other lines."""

from __future__ import annotations

import logging
import unicodedata
import warnings

from frostline.trust import without_secrets


def visible(text: str) -> str:
    """Return a text in which what a terminal would obey (escape sequences, reversed writing) is spelled, as ``\\x1b``.

    Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _is_obeyed(c) else c.encode("unicode_escape").decode() for c in text)


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in (
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
    )


def told(text: str) -> str:
    """Return a message as it may be shown: visible, and without secrets."""
    return visible(without_secrets(text))


class PlainFormatter(logging.Formatter):
    """Formats a log record as usual, visibly and without secrets (``conf/hydra/default.yaml``)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return told(super().format(record))


def quieten() -> None:
    """Keep Lightning's hints, which do not apply here, off the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*in eval mode.*",
        ".*Checkpoint directory .* exists.*",
        ".*LeafSpec.*",
        ".*dirpath has changed.*",
    ):
        warnings.filterwarnings("ignore", message=message)
