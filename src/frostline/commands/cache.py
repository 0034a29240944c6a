"""``frostline cache``: list, verify or clear the activation cache."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from frostline.encoder.entries import EntryInfo, clear, entries, verify
from frostline.errors import FrostlineError, choices, nearest
from frostline.sizes import readable_size

ACTIONS = ("list", "verify", "clear")


def cache(cache_dir: Path, do: Any, older_than: Any) -> int:
    """Do one of :data:`ACTIONS`; ``older_than`` (days, or None for all) says what is cleared.

    Returns:
        The exit status: 1 if something is damaged.

    Raises:
        FrostlineError: ``do`` or ``older_than`` is not valid.
    """
    if do not in ACTIONS:
        raise FrostlineError(f"do is '{do}', but must be {choices(ACTIONS)}{nearest(str(do), ACTIONS) or '.'}")
    if older_than is not None and (
        isinstance(older_than, bool) or not isinstance(older_than, int | float) or not 0 <= older_than < math.inf
    ):
        raise FrostlineError(f"older_than is '{older_than}', but must be a number of days, 0 or more.")
    if older_than is not None and do != "clear":
        raise FrostlineError("older_than says what is cleared; use it with do=clear.")
    logging.basicConfig(format="%(message)s", level=logging.INFO)  # so that waiting for another process is told
    found = entries(cache_dir)
    size, folder = readable_size(sum(entry.bytes for entry in found)), cache_dir / "activations"
    console = Console(soft_wrap=True, highlight=False)
    if not found:
        console.print(Text(f"The activation cache '{folder}' is empty."))
    elif do == "list":
        console.width = max(console.width, 110)  # so that a log file gets whole lines
        console.print(table(found))
        console.print(Text(f"\nTotal: {size} in {folder}"))
    elif do == "clear":
        console.print(Text(f"Freed {readable_size(clear(cache_dir, unused_days=older_than))} of {size} in {folder}"))
    else:
        damaged = verify(cache_dir)
        for sentence in damaged:
            print(sentence, file=sys.stderr)
        if damaged:
            print("What is damaged is computed again by the next run that needs it.", file=sys.stderr)
            return 1
        console.print(Text(f"All {size} in {folder} are whole."))
    return 0


def table(found: list[EntryInfo]) -> Table:
    """Return the entries as a table, those used last first."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("model", "what", "dtype", "sentences", "size", "last used"):
        shown.add_column(title, justify="right" if title in ("sentences", "size") else "left")
    for entry in sorted(found, key=lambda entry: entry.used, reverse=True):
        sentences = f"{entry.sentences:,}" if entry.state == "whole" else ""
        used = f"{entry.used.astimezone():%Y-%m-%d %H:%M}"
        cells = (str(entry.describes.get("model", "")), content(entry), entry.dtype, sentences, readable_size(entry.bytes), used)
        shown.add_row(*map(Text, cells))  # Text: brackets in a name are not markup
    return shown


def content(entry: EntryInfo) -> str:
    """Return what an entry holds, in words."""
    if entry.state != "whole":
        return f"{entry.state}: {entry.encoder_key}/{entry.name}"
    if entry.describes.get("kind") == "states":
        return f"states entering block {entry.describes.get('depth')}"
    pooling = entry.describes.get("pooling")
    return f"pooled states of all layers{f' ({pooling})' if pooling else ''}"
