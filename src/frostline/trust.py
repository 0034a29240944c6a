"""What a configuration may do. It may come from a stranger, and it names code, environment variables and files.

Hydra makes objects of what a configuration names, before Frostline's schema has seen it. :func:`check_trust` looks at everything
that Hydra composes first (:mod:`frostline.commands.launch`), and refuses what is not named here or in the environment variable
``FROSTLINE_ALLOW``, which no file can set. The resolvers that are registered here do the same for interpolations.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from frostline.errors import FrostlineError

ALLOW = "FROSTLINE_ALLOW"  # comma-separated names of what configurations may also use: packages, classes, variables, keys
PACKAGES = ("frostline", "hydra", "hydra_plugins", "lightning", "optuna", "torch", "torchmetrics", "transformers")
# What a configuration has a use for. These packages also have functions and classes that run commands or read pickles.
KINDS = {
    *("hydra.experimental.callback.Callback", "hydra.plugins.plugin.Plugin"),
    *("optuna.samplers._base.BaseSampler", "optuna.pruners._base.BasePruner"),
    *("lightning.pytorch.callbacks.callback.Callback", "lightning.pytorch.loggers.logger.Logger"),
    *("torch.nn.modules.module.Module", "torch.optim.optimizer.Optimizer", "torch.optim.lr_scheduler.LRScheduler"),
}
LOGGING = {
    *("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter"),
    *("frostline.terminal.PlainFormatter", "colorlog.ColoredFormatter", "rich.logging.RichHandler"),
}
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"
COMMANDS = ("setup", "additional_parameters", "srun_args", "python", "runtime_env", "file_mounts")  # and ray's `…_commands`
MAY_READ = {
    *("HOME", "USER", "LOGNAME", "HOSTNAME", "TMPDIR", "SCRATCH", "WORK", "LOCAL_RANK", "NODE_RANK", "CUDA_VISIBLE_DEVICES"),
    *(f"SLURM_{name}" for name in ("JOB_ID", "JOB_NAME", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "SUBMIT_DIR", "TMPDIR")),
}
MAY_SET = {
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"),
    *("WANDB_MODE", "HF_HUB_OFFLINE", "NCCL_DEBUG"),
}
SECRET = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASS|PASSWD|PASSWORD|PAT|JWT|CREDENTIALS?)(_|$)", re.IGNORECASE)
IN_URL = re.compile(r"(?<=://)(?:[^/\s@:]*:[^/\s@]+|[^/\s@:]{20,})(?=@)")  # user:password or a token of a URL
SHORTEST = 8  # characters; a shorter value is a word that could stand anywhere


def check_trust(config: DictConfig, typed: Collection[str] = ()) -> None:
    """Refuse a composed configuration that would run foreign code, set the environment, log elsewhere or keep a secret.

    Args:
        config: with its ``hydra`` node; nothing of it is resolved.
        typed: the keys that stand on the command line: what would run commands is taken from there, not from a file.

    Raises:
        FrostlineError: naming the key, its value, and how to allow it.
    """
    secrets = secret_values()
    found = leaves(OmegaConf.to_container(config, resolve=False))
    for path, value in sorted(found, key=lambda leaf: leaf[0][0] == "hydra"):  # Hydra repeats what the command line says
        key, name = ".".join(path), path[-1]
        if name == "_target_":
            check_target(key, str(value))
        elif "job_logging" in path or "hydra_logging" in path:
            _check_logging(key, name, value)
        elif path[:3] == ("hydra", "job", "env_set"):
            if value and not (len(path) == 4 and (name in MAY_SET or is_allowed(name))):
                raise FrostlineError(f"{key} would set an environment variable for the run; {_allow(name)}")
        elif runs_commands(key):
            if value and not is_allowed(key) and not any(f"{key}.".startswith(f"{word}.") for word in typed):
                raise FrostlineError(f"{key} would run {value!r:.80}; give it on the command line, or {_allow(key, '')}")
        elif key == "hydra.job.name" and "/" in str(value):
            raise FrostlineError(f"hydra.job.name is {value!r}, but names a log file and must have no slash.")
        if isinstance(value, str) and (IN_URL.search(value) or any(secret in value for secret in secrets)):
            raise FrostlineError(
                f"{key} holds a password or a token, and would be written to config.yaml; leave it in the environment."
            )


def runs_commands(key: str) -> bool:
    """Whether a key holds shell commands of a launcher."""
    path = key.split(".")
    return path[:2] == ["hydra", "launcher"] and any(word in COMMANDS or word.endswith("_commands") for word in path)


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield path and value of every leaf of nested dicts and lists, whose items have their number in the path."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, (*path, str(key)))
    elif path:
        yield path, tree


def check_target(key: str, target: str) -> None:
    """Refuse a ``_target_`` that is no class of an allowed package, of a kind that a configuration has a use for.

    What is looked at is the class itself: ``frostline.commands.sweep.subprocess.Popen`` is a name in an allowed package, too.

    Raises:
        FrostlineError: naming the key, the target, and how to allow it.
    """
    package = target.partition(".")[0]
    if package not in PACKAGES and not is_allowed(target):
        raise FrostlineError(f"{key} is '{target}', which is code that Frostline does not know; {_allow(package)}")
    from hydra._internal.utils import _locate

    try:
        found = _locate(target)
    except Exception as error:  # of the import, whatever it is
        raise FrostlineError(f"{key} is '{target}', which cannot be imported ({type(error).__name__}).") from None
    home = str(getattr(found, "__module__", "")).partition(".")[0]
    if is_allowed(target) and home == package:
        return
    kinds = {f"{cls.__module__}.{cls.__qualname__}" for cls in found.__mro__} if isinstance(found, type) else set()
    if home not in PACKAGES or not kinds & KINDS:
        raise FrostlineError(
            f"{key} is '{target}', which is no callback, launcher, sweeper, sampler, pruner, module or optimizer of {package}; "
            f"{_allow(target)}"
        )


def is_allowed(name: str) -> bool:
    """Whether the user has allowed a dotted name, or what it is in, by ``FROSTLINE_ALLOW``."""
    allowed = [word.strip() for word in os.environ.get(ALLOW, "").split(",") if word.strip()]
    return any(name == word or name.startswith(f"{word}.") for word in allowed)


def secret_values() -> list[str]:
    """Return the values of all environment variables that hold a secret, as their names or the form of a URL tell."""
    found = [value for name, value in os.environ.items() if SECRET.search(name) and not os.path.exists(value)]
    found += [secret for value in os.environ.values() for secret in IN_URL.findall(value)]
    return [value for value in found if len(value) >= SHORTEST]


def without_secrets(text: str) -> str:
    """Return a message, log line or traceback without the secrets of the environment and the passwords of URLs."""
    for secret in secret_values():
        text = text.replace(secret, "****")
    return IN_URL.sub("****", text)


def _check_logging(key: str, name: str, value: Any) -> None:
    if not isinstance(value, str):
        return
    if name in ("class", "()"):
        if value not in LOGGING and not is_allowed(value):
            raise FrostlineError(f"{key} is '{value}', which is no handler or formatter that Frostline knows; {_allow(value)}")
    elif name == "filename":
        if value not in (LOG_FILE, os.devnull) and not is_allowed(key):
            raise FrostlineError(f"{key} is '{value}', but a run logs into its own directory; {_allow(key)}")
    elif "${" in value or (value.startswith("ext://") and value not in STREAMS) or (name == "style" and value != "%"):
        raise FrostlineError(
            f"{key} is '{value}', which could stand for anything; write plain values and {' or '.join(STREAMS)}."
        )


def _allow(name: str, wish: str = "if you trust it, ") -> str:
    return f"{wish}allow it with the environment variable {ALLOW}={name}."


def _read_environment(name: str, *default: Any) -> str | None:
    if not (name in MAY_READ or name.startswith("FROSTLINE_") or is_allowed(name)):
        raise FrostlineError(f"it reads the environment variable '{name}'; {_allow(name)}")
    return oc.env(name, *default)


def _refuse(*_: Any) -> None:
    raise FrostlineError("oc.create and oc.decode make configuration of text, which is not supported; write it out")


OmegaConf.register_new_resolver("oc.env", _read_environment, replace=True)
OmegaConf.register_new_resolver("oc.create", _refuse, replace=True)
OmegaConf.register_new_resolver("oc.decode", _refuse, replace=True)
