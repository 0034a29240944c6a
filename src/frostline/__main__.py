"""``frostline <command> [Hydra overrides]``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

COMMANDS = {
    "train": "fine-tune or probe an encoder at a frozen depth; with -m a sweep",
    "plan": "what a run or a sweep would do, and how long it would take, before it does anything",
    "evaluate": "score a finished run, on its own test split or on another data set",
    "predict": "classify a sentence or a file with a finished run, with calibrated probabilities",
    "export": "write a finished run as a plain Hugging Face model folder with the same logits",
    "reproduce": "run a finished run's snapshot again and compare every number",
    "measure": "what finished runs' encoders know, and what training changed: layers, geometry",
    "claims": "list the lecture's claims, each with the experiment that decides on it and its last verdict",
    "report": "write the table and the page of a sweep anew",
    "status": "how far a sweep is: which jobs are finished, running, failed, killed or missing",
    "compare": "two finished runs side by side: how sure the difference is, and on which sentences they part",
    "cache": "list, verify or clear the activations that runs keep on disk",
}

USAGE = """\
frostline <command> [group=choice …] [key=value …]

How much of a pretrained text encoder should you thaw, and what does thawing cost?

{commands}

frostline <command> --help says more of each. Shell completion: eval "$(frostline -sc install=bash)" (or zsh, fish).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the command and Hydra's overrides; ``sys.argv`` by default.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE.format(commands="\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())))
        return 0 if words else 2
    if words[0] == "--version":
        from frostline import __version__

        print(f"frostline {__version__}")
        return 0
    if words[0] in ("-sc", "--shell-completion"):
        return complete(words)
    command, overrides = words[0], words[1:]
    if command not in COMMANDS:
        from frostline.errors import nearest

        print(f"frostline: there is no command '{command}'{nearest(command, COMMANDS) or '.'}", file=sys.stderr)
        print(f"Commands are: {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    from frostline.interruption import Interrupted, interruptible
    from frostline.runs.processes import end_with_parent

    end_with_parent()
    try:
        with interruptible():
            return run_train(overrides) if command == "train" else run_on_directory(command, overrides)
    except Interrupted as end:
        print(f"frostline {command}: {end}", file=sys.stderr)
        return end.code
    except KeyboardInterrupt:  # a second Ctrl-C
        return 130


def run_train(overrides: list[str]) -> int:
    """Run ``frostline train``: one run, or a sweep."""
    from omegaconf import DictConfig

    from frostline.commands.launch import launch, quoted, tell
    from frostline.commands.resume import with_resumed
    from frostline.errors import FrostlineError
    from frostline.runs.processes import GROUP, check_launch, is_child, is_main, launched

    no_log = f"hydra.job_logging.handlers.file.filename={os.devnull}"  # of the processes of a run, one writes

    def before(composed: DictConfig) -> list[str]:
        from frostline.commands.preflight import check_surroundings
        from frostline.config import validate
        from frostline.runs.directory import find_unfinished, refuse_foreign

        config = validate(composed)
        if is_child():  # its parent has checked, and gives the directory
            return [no_log]
        check_launch(config.trainer.devices, config.trainer.num_nodes)
        refuse_foreign(Path(composed.hydra.run.dir), config)
        check_surroundings(config)
        if any(word.startswith("hydra.run.dir=") for word in overrides):
            return [] if is_main() else [no_log, "hydra.output_subdir=null"]
        if launched() is not None or config.trainer.num_nodes > 1:
            raise FrostlineError(
                "Several processes were started for this run, and each would choose a directory of its own; name one with "
                "hydra.run.dir=…."
            )
        unfinished = find_unfinished(Path(config.paths.output_dir) / "runs", config)
        if unfinished is None:
            return []
        print(f"Resuming the unfinished run in {unfinished}", file=sys.stderr)
        return [f"hydra.run.dir={quoted(unfinished)}"]

    def task(composed: DictConfig) -> int:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from frostline.commands.sweep import is_finished, run_job
        from frostline.config import validate

        config = validate(composed)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return run_job(config)
        run_dir = Path(HydraConfig.get().runtime.output_dir)
        if not is_child() and is_finished(run_dir, config):
            return 0
        from frostline.commands.train import train

        show_metrics(train(config, run_dir, os.environ.get(GROUP)), run_dir)
        return 0

    try:
        overrides = with_resumed(overrides)
    except FrostlineError as error:
        return tell(error, "train", overrides)
    return launch("train", overrides, task, before)


def run_on_directory(command: str, overrides: list[str]) -> int:
    """Run a command that needs no Hydra run of its own: all but ``train``."""
    from frostline.commands.launch import CONF, compose_alone, tell

    if any(word in ("-h", "--help") for word in overrides):
        print((CONF / f"{command}.yaml").read_text())
        return 0
    if command == "compare":
        overrides = with_all_runs(overrides)
    try:
        if command == "plan":
            from frostline.commands.plan import plan

            plan(overrides)
            return 0
        overrides, free_texts = take_texts(overrides) if command == "predict" else (overrides, {})
        composed: Any = compose_alone(command, overrides)
        from frostline.config import read_measures, read_options, read_paths
        from frostline.schema import CompareOptions, ExportOptions, PredictOptions, ReportOptions, StatusOptions

        if command == "compare":
            from frostline.commands.compare import compare

            pair = read_options(composed, CompareOptions)
            return compare([Path(run) for run in pair.run], pair.sentences)
        if command == "report":
            from frostline.commands.report import report

            asked = read_options(composed, ReportOptions)
            return min(report(Path(asked.run), asked.table), 1)

        if command == "status":
            from frostline.commands.status import status

            return status(Path(read_options(composed, StatusOptions).run))

        paths = read_paths(composed)
        if command == "claims":
            from frostline.commands.claims import claims

            return claims(Path(paths.output_dir))
        if command == "cache":
            from frostline.commands.cache import cache

            return cache(Path(paths.cache_dir), composed.do, composed.older_than)
        if command == "predict":
            from frostline.commands.predict import predict

            predict(replace(read_options(composed, PredictOptions), **free_texts), paths)
            return 0
        if command == "export":
            from frostline.commands.export import export

            options = read_options(composed, ExportOptions)
            export(Path(options.run), Path(options.to), paths)
            return 0
        run_dir = Path(composed.run)
        if command == "measure":
            from frostline.commands.measure import measure

            return min(measure(run_dir, read_measures(composed), paths), 1)
        if command == "reproduce":
            from frostline.commands.reproduce import reproduce

            return reproduce(run_dir, paths)
        from frostline.commands.evaluate import evaluate

        show_metrics(evaluate(run_dir, composed.split, paths, composed.get("data")), run_dir)
        return 0
    except Exception as error:
        return tell(error, command, overrides)


def take_texts(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Take ``text=…`` and ``text_pair=…`` out of the overrides: Hydra would read their commas, quotes and braces."""
    texts = {key: value for key, sign, value in (word.partition("=") for word in words) if sign and key in ("text", "text_pair")}
    return [word for word in words if word.partition("=")[0] not in texts], texts


def with_all_runs(overrides: list[str]) -> list[str]:
    """Return overrides in which ``run=<a> run=<b>`` is one list of directories."""
    from frostline.commands.launch import quoted

    runs = [word.removeprefix("run=") for word in overrides if word.startswith("run=")]
    others = [word for word in overrides if not word.startswith("run=")]
    return [*others, f"run=[{','.join(quoted(Path(run)) for run in runs)}]"] if runs else others


def show_metrics(metrics: dict[str, float], run_dir: Path) -> None:
    """Print the final metrics and where the run is."""
    for name, value in metrics.items():
        print(f"{name:<20} {value:,}" if isinstance(value, int) else f"{name:<20} {value:,.4f}")
    if metrics:
        print(f"Run directory: {run_dir}")


def complete(words: list[str]) -> int:
    """Serve the shell's completion: the commands first, then what Hydra completes for the one that was typed."""
    line = os.environ.get("COMP_LINE", "").split(" ")
    if words[-1].startswith("query=") and (len(line) < 3 or line[1] not in COMMANDS):
        print(" ".join(COMMANDS))
        return 0
    command = "train"
    if words[-1].startswith("query="):
        command = line.pop(1)
        os.environ["COMP_LINE"] = " ".join(line)
    from frostline.commands.launch import launch

    return launch(command, words, lambda config: 0)


if __name__ == "__main__":
    sys.exit(main())
