"""From the command line to a task: Hydra composes, we check before anything is written, and errors become sentences."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal import hydra as hydra_core
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from frostline.errors import FrostlineError, choices, nearest
from frostline.terminal import told
from frostline.trust import check_trust

CONF = next(
    path for path in (Path(__file__).parents[1] / "conf", Path(__file__).parents[3] / "conf") if (path / "train.yaml").is_file()
)
ASKS_HYDRA_ONLY = ("help", "hydra_help", "cfg", "info", "shell_completion")


class CheckedLoader(ConfigLoaderImpl):  # type: ignore[misc]
    """Hydra's composition, with a check of everything that Hydra will act on: runs, sweeps, and each of a sweep's jobs."""

    def load_configuration(self, config_name: str | None, overrides: list[str], *args: Any, **kwargs: Any) -> DictConfig:
        """Compose a configuration.

        Raises:
            FrostlineError: it would run foreign code (:func:`frostline.trust.check_trust`).
        """
        config: DictConfig = super().load_configuration(config_name, overrides, *args, **kwargs)
        check_trust(config, typed=[word.partition("=")[0].lstrip("+~") for word in overrides])
        return config


hydra_core.ConfigLoaderImpl = CheckedLoader  # what Hydra makes itself, for runs and for its compose()


def launch(
    command: str,
    argv: Sequence[str],
    task: Callable[[DictConfig], int],
    before: Callable[[DictConfig], list[str]] | None = None,
) -> int:
    """Run one command under Hydra.

    Args:
        command: its name, which is that of its file in ``conf/``.
        argv: Hydra's overrides and options.
        task: gets the composed configuration and returns the exit status.
        before: called with the composed configuration (``hydra`` node included) of a single run before Hydra makes any
            directory; returns further overrides.

    Returns:
        The exit status: what ``task`` returned; 1 after an error, told in one sentence.
    """
    status: list[int] = []
    folders: list[Path] = []  # where is written, as far as known
    whole_argv = [sys.argv[0], command, *argv]

    def run(config: DictConfig) -> None:
        sys.argv = whole_argv  # what a distributed run's child processes are started with
        try:
            status.append(task(config))
        except Exception as error:  # told here, because Hydra would add words of its own
            status.append(tell(error, command, argv, folders))

    try:
        overrides = options_first(argv)
        arguments = get_args_parser().parse_args(overrides)
        if before and not arguments.multirun and not any(getattr(arguments, name) for name in ASKS_HYDRA_ONLY):
            composed = compose_alone(arguments.config_name or command, arguments.overrides, arguments.config_dir)
            if composed is not None:
                folders = [Path(composed.paths.output_dir), Path(composed.paths.cache_dir)]
                overrides += before(composed)
        os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors come through to us
        sys.argv = [sys.argv[0], *overrides]
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)(run)()
    except Exception as error:
        return tell(error, command, argv, folders)
    finally:
        sys.argv = whole_argv
    return max(status, default=0)


def compose_alone(config_name: str, overrides: list[str], config_dir: str | None = None) -> DictConfig | None:
    """Return the configuration of a single run, without making any directory; None if it turns out to be a sweep."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        try:
            composed = compose(config_name, [*overrides, *further_configurations(config_dir)], return_hydra_config=True)
        except HydraException as error:
            if "--multirun" in str(error) and any(o.startswith(("sweep=", "experiment=")) for o in overrides):
                return None
            raise
    return None if str(composed.hydra.mode).endswith("MULTIRUN") else composed


def compose_jobs(config_name: str, words: Sequence[str]) -> tuple[list[tuple[Path, DictConfig]], bool]:
    """Return the directory and the composed configuration of every job that a command line stands for; nothing is written.

    Args:
        config_name: the command's file in ``conf/``.
        words: Hydra's overrides and options, such as ``-m``.

    Returns:
        the jobs, ``hydra`` node included, and whether they are those of a sweep.

    Raises:
        FrostlineError: the sweep chooses its jobs while it is running.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext, RunMode

    arguments = get_args_parser().parse_args(options_first(words))
    if not arguments.multirun:
        single = compose_alone(arguments.config_name or config_name, arguments.overrides, arguments.config_dir)
        if single is not None:
            return [(Path(single.hydra.run.dir), single)], False
    GlobalHydra.instance().clear()
    overrides = [*arguments.overrides, *further_configurations(arguments.config_dir), "hydra.mode=MULTIRUN"]
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composer: Any = GlobalHydra.instance().hydra
        name = arguments.config_name or config_name
        options = {"from_shell": False, "with_log_configuration": False}
        sweep = composer.compose_config(config_name=name, overrides=overrides, run_mode=RunMode.MULTIRUN, **options)
        HydraConfig.instance().set_config(sweep)
        context = HydraContext(config_loader=composer.config_loader, callbacks=Callbacks())
        sweeper = Plugins.instance().instantiate_sweeper(config=sweep, hydra_context=context, task_function=lambda _: None)
        from hydra_plugins.frostline_grids import GridsSweeper  # not before: Hydra, looking for plugins, makes the class anew

        if not isinstance(sweeper, GridsSweeper):
            raise FrostlineError(
                "The jobs of this sweep are chosen while it is running, so there is nothing to list; leave hydra/sweeper out."
            )
        composed = sweeper.jobs([str(word) for word in sweep.hydra.overrides.task])[1]
        return [(Path(sweep.hydra.sweep.dir) / str(job.hydra.sweep.subdir), job) for job in composed], True


def options_first(words: Sequence[str]) -> list[str]:
    """Return a command line in the order that Hydra wants: ``-m`` before the overrides.

    Raises:
        FrostlineError: an override has no key, or Hydra would read a pickle.
    """
    if any(word.startswith("--exp") for word in words):  # argparse takes it in short, too
        raise FrostlineError("--experimental-rerun reads a pickle, which could run anything; use frostline reproduce run=….")
    if nameless := [word for word in words if word.startswith("=")]:
        raise FrostlineError(f"'{nameless[0]}' has no key; write key=value, without spaces around the sign.")
    return sorted(words, key=lambda word: word not in ("-m", "--multirun"))


def further_configurations(config_dir: str | None) -> list[str]:
    """Return the override that adds a directory of the user's own configurations."""
    return [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"] if config_dir else []


def tell(error: Exception, command: str, argv: Sequence[str], folders: Sequence[Path] = ()) -> int:
    """Print what went wrong, one sentence for a user's mistake or a full disk of ``folders``, and return the exit status 1."""
    if isinstance(error, OSError) and not isinstance(error, HydraException):  # Hydra's missing choices are OSErrors, too
        from frostline.runs.files import disk_trouble

        error = disk_trouble(error, list(folders)) or error
    if isinstance(error, FrostlineError):
        print(f"frostline {command}: {told(str(error))}", file=sys.stderr)
    elif isinstance(error, HydraException | OmegaConfBaseException) or str(error).startswith("Config group override must be"):
        print(f"frostline {command}: {told(hydra_sentence(error, command, argv))}", file=sys.stderr)
    else:
        print(told("".join(traceback.format_exception(error))), file=sys.stderr)
        print(f"frostline {command}: unexpected error; this is a fault of Frostline's, please report it.", file=sys.stderr)
    return 1


def hydra_sentence(error: Exception, command: str, argv: Sequence[str]) -> str:
    """Turn an error of Hydra's composition into one sentence that names the nearest valid key or choice."""
    text = " ".join(str(error).split())
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        if "No match in the defaults list" in text:
            return f"There is no configuration group '{key}'{nearest(key, groups())}"
        return unknown_key(key, command, argv)
    if found := re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text):
        group, choice = found.groups()
        if (group, choice) == ("hydra/launcher", "ray"):
            return "hydra/launcher=ray needs the package hydra-ray-launcher, which docs/cluster.md says how to install."
        valid = choices_of(group)
        return f"'{choice}' is not a choice of {group}{nearest(choice, valid) or '.'} Choices are: {', '.join(valid)}."
    if found := re.search(r"In '[^']*': Could not find '([^']+)'|Cannot find primary config '([^']+)'", text):
        return f"There is no configuration '{found.group(1) or found.group(2)}'."
    if found := re.search(r"Could not append '\+?([\w/@.]+)=([^']*)'", text):
        return f"'{found.group(1)}' exists already: write {found.group(1)}={found.group(2)} without the plus sign."
    if found := re.search(r"Key '([^']+)' is not in struct.*full_key: (\S+)", text):
        return unknown_key(found.group(2), command, argv)
    if found := re.search(r"Multiple values for (\S+)\. To override a value use 'override [^:]+: ([^']+)'", text):
        return f"'{found.group(1)}' exists already: write {found.group(1)}={found.group(2)} without the plus sign."
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"'{found.group(1)}' has no value; give it as {found.group(1)}=…."
    if text.startswith("Config group override must be"):
        return "null is no choice of a group; leave the group out, or give [] for none where several may be chosen."
    if text.startswith("mismatched input '=' expecting <EOF>"):
        return "A value with an equals sign in it needs quotation marks of its own, as in 'key=\"a=b\"'."
    return text


def unknown_key(key: str, command: str, argv: Sequence[str]) -> str:
    """Return the sentence for a key that the composed configuration does not have."""
    keys = valid_keys(command, argv)
    group, choice, *_ = [*key.split("."), ""]
    if (
        group in ("measure", "remedy")
        and choice in choices_of(group)
        and not any(k.startswith(f"{group}.{choice}.") for k in keys)
    ):
        return f"'{key}' is a key of {group}={choice}, which is not chosen; add {group}={choice}."
    if "." not in key:
        return f"Unknown configuration key or group '{key}'{nearest(key, [*groups(), *(k for k in keys if '.' not in k)]) or '.'}"
    siblings = [k for k in keys if k.rpartition(".")[0] == key.rpartition(".")[0]]
    return f"Unknown configuration key '{key}'{nearest(key, keys) or f'; valid keys are {choices(siblings or groups())}.'}"


def choices_of(group: str) -> list[str]:
    """Return the choices of a configuration group."""
    from hydra.core.config_store import ConfigStore  # Hydra's own choices and those of its plugins

    node = ConfigStore.instance().repo
    for part in group.split("/"):
        node = node.get(part, {})
    files = {path.stem for path in (CONF / group).glob("*.yaml")}
    return sorted(files | {name.removesuffix(".yaml") for name in node if name.endswith(".yaml")})


def groups() -> list[str]:
    """Return the configuration groups."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir())


def valid_keys(command: str, argv: Sequence[str]) -> list[str]:
    """Return all keys of the configuration that the command line's valid group choices compose."""
    chosen = [word for word in argv if "=" in word and "." not in word.split("=")[0] and "," not in word]
    for overrides in (chosen, []):
        try:
            composed = compose_alone(command, [word for word in overrides if word.split("=")[0] in groups()])
        except (HydraException, FrostlineError):
            continue
        if composed is not None:
            tree = OmegaConf.to_container(OmegaConf.masked_copy(composed, [str(k) for k in composed if k != "hydra"]))
            return _leaves(tree)
    return []


def _leaves(tree: Any, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict):
        return [prefix]
    return [leaf for key, value in tree.items() for leaf in _leaves(value, f"{prefix}.{key}" if prefix else str(key))]


def quoted(path: Path) -> str:
    """Return a path as an override's value, whatever characters it has."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


logging.getLogger("hydra").setLevel(logging.WARNING)
