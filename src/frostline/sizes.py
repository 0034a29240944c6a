"""Numbers of bytes, as people write and read them."""

from __future__ import annotations

import re

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(text: str | int) -> int:
    """Return a number of bytes from ``20GB``, ``500 MB``, ``1.5TB`` (decimal units) or a plain number.

    Raises:
        ValueError: it is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?B)?", str(text).strip(), re.IGNORECASE)
    if not found:
        raise ValueError(f"'{text}' is not a size such as 20GB or 500MB")
    unit = (found[2] or "B").upper().replace("KB", "kB")
    return round(float(found[1]) * UNITS[unit])


def readable_size(size: int) -> str:
    """Return a number of bytes for people: ``1.5 GB``, ``37.2 MB``."""
    unit = next((unit for unit in reversed(UNITS) if size >= UNITS[unit]), "B")
    return f"{size} B" if unit == "B" else f"{size / UNITS[unit]:.1f} {unit}"
