"""Words, names and sentence templates that measures of bias use: data, kept as YAML beside this file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from frostline.errors import FrostlineError


@cache
def read_words(name: str) -> dict[str, Any]:
    """Return a packaged file of words; only to be read.

    Args:
        name: of the file, without suffix.
    """
    return read_words_file(Path(__file__).with_name(f"{name}.yaml"))


def read_words_file(path: Path) -> dict[str, Any]:
    """Return a YAML file of words, each set by its name.

    Raises:
        FrostlineError: no such file, or it is not a YAML mapping.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise FrostlineError(f"There is no file of words '{path}'.") from None
    except Exception as error:  # of YAML, or of what it makes of dates, keys and brackets
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = "" if line is None else f" (line {line + 1})"
        raise FrostlineError(f"'{path}' is not a YAML file{at}.") from None
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise FrostlineError(f"'{path}' must hold sets of words by name.")
    return found
