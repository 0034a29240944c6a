"""Read a run's ``config.yaml`` back."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import OmegaConf

from frostline.config import validate
from frostline.errors import FrostlineError
from frostline.processor import computes_in_bf16
from frostline.runs.directory import CONFIG
from frostline.runs.reading import damage_told, read_yaml
from frostline.schema import Config
from frostline.trust import leaves

log = logging.getLogger(__name__)


def read_snapshot(run_dir: Path) -> Config:
    """Return the valid configuration that a run directory was made with; in float32 where this machine has no bf16.

    A snapshot is fully resolved, so nothing in it is looked up: not in the environment, and not in itself.

    Raises:
        FrostlineError: no such directory or snapshot, or one that is not valid.
    """
    path = run_dir / CONFIG
    if not run_dir.is_dir():
        raise FrostlineError(f"There is no run directory '{run_dir}'.")
    if not path.is_file():
        raise FrostlineError(f"'{run_dir}' is not a run directory: it has no {CONFIG}.")
    tree = read_yaml(path)
    with damage_told(path):
        content = OmegaConf.to_container(tree, resolve=False)
    for key, value in leaves(content):
        if isinstance(value, str) and "${" in value:
            raise FrostlineError(
                f"'{path}': {'.'.join(key)} is {value!r:.80}, but a snapshot is fully resolved; nothing in it is looked up."
            )
    precision, accelerator = (OmegaConf.select(tree, f"trainer.{key}", default=None) for key in ("precision", "accelerator"))
    if precision == "bf16-mixed" and not computes_in_bf16(str(accelerator)):
        log.warning("'%s' was computed in bf16, which this machine does not have: it is float32 now.", run_dir)
        tree.trainer.precision = "32-true"
    return validate(tree)
