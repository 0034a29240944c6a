"""``frostline train resume=<directory>``: go on with a sweep or a run, in its own directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frostline.commands.launch import quoted
from frostline.errors import FrostlineError
from frostline.runs.jobs import JOBS, SWEEP, has_begun, read_overrides
from frostline.runs.reading import read_json
from frostline.trust import runs_commands

PLACES = ("hydra.sweep.dir=", "hydra.run.dir=", "resume=")


def with_resumed(words: Sequence[str]) -> list[str]:
    """Return ``frostline train``'s words with those of Hydra in place of ``resume=<directory>``.

    Words given besides must be those that began it; where there are none (but for options, and what concerns Hydra alone), they
    are read from the directory.

    Raises:
        FrostlineError: the directory holds neither a sweep nor a run, does not say which words began it, or with words that
            run commands.
    """
    asked = [word.removeprefix("resume=") for word in words if word.startswith("resume=")]
    if not asked:
        return list(words)
    given = [word for word in words if not word.startswith(PLACES)]
    directory = Path(asked[-1]).expanduser()
    is_sweep = (directory / JOBS).is_file() or (directory / SWEEP).is_file()
    if not (is_sweep or has_begun(directory)):
        raise FrostlineError(f"resume: '{directory}' is the directory of no sweep and of no run that was begun.")
    if all(word.startswith(("-", "hydra.", "hydra/")) for word in given):
        began = read_json(directory / JOBS).get("command", []) if is_sweep else read_overrides(directory)
        if not isinstance(began, list) or not all(isinstance(word, str) for word in began):
            raise FrostlineError(f"'{directory / JOBS}' is damaged: its 'command' is no list of words.")
        if is_sweep and not began:
            raise FrostlineError(f"resume: '{directory}' does not say which command began it; repeat that command's words, too.")
        anew = {word.partition("=")[0] for word in given}
        recorded = [word for word in began if word.partition("=")[0] not in anew and not word.startswith(PLACES)]
        for key in (word.partition("=")[0].lstrip("+") for word in recorded):
            if key == "hydra.launcher" or runs_commands(key):  # the record may be a stranger's
                raise FrostlineError(f"resume: '{directory}' was begun with {key}=…, which can run commands; give it again.")
        given += recorded
    if not is_sweep:  # perhaps a sweep's job, alone
        return [*given, f"hydra.run.dir={quoted(directory)}", "hydra.mode=RUN"]
    return [*([] if {"-m", "--multirun"} & set(given) else ["-m"]), *given, f"hydra.sweep.dir={quoted(directory)}"]
