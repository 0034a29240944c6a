"""A sweep, collected: one table with a row a job, read from the run directories and nothing else.

Works while the sweep is still running and after any of its jobs failed or was killed; the contract of a run directory
is in the design notes ("The run directory"). Column names are configuration keys, then metric names.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from frostline.config import NOT_IDENTITY
from frostline.errors import FrostlineError
from frostline.runs.files import write_csv
from frostline.runs.measured import summary
from frostline.schema import SCHEMAS

FIXED = [
    *("job", "status", "error", "strategy", "strategy.frozen_depth", "strategy.layer"),
    *("optimizer", "optimizer.lr", "optimizer.C", "seed", "data", "model"),
]
WHOLE_NUMBERS = ("strategy.frozen_depth", "strategy.layer", "seed", "trained_parameters", "total_parameters")
SHOWN = {*FIXED, *(f"{group}.name" for group in SCHEMAS)}  # keys whose value a fixed column already shows
WITHOUT_EFFECT = {*NOT_IDENTITY, "sweep", "hydra"}  # groups that cannot change a run's result


def collect(sweep_dir: Path) -> pd.DataFrame:
    """Return a sweep's results, a row a job, sorted by job number.

    Args:
        sweep_dir: a sweep's directory with job folders ``0``, ``1``, …, or the directory of a single run (job 0).

    Returns:
        The columns of :data:`FIXED` (``strategy.frozen_depth``, ``strategy.layer`` and ``optimizer.C`` are those in
        effect, from the manifest), every other key that a job overrode, the metrics in their own units (accuracies
        0 … 1, ``fit_seconds`` s, ``peak_memory_mb`` MB), then what measures say of a run as a whole
        (``layers/best_layer``), then ``run``, the folder relative to ``sweep_dir``. Empty
        where a job has no value. ``status`` is what the manifest says, or ``missing`` if the job never wrote one.

    Raises:
        FrostlineError: ``sweep_dir`` holds no run, or a file of a run is damaged.
    """
    jobs = [(number, folder, read_config(folder)) for number, folder in job_folders(sweep_dir)]
    overrides = {number: _overrides(folder) for number, folder, _ in jobs}
    keys = list(dict.fromkeys(key for of_job in overrides.values() for key in of_job))
    extra = [key for key in keys if key not in SHOWN and key.split(".")[0] not in WITHOUT_EFFECT]
    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    for number, folder, config in jobs:
        row = _fixed_columns(number, folder, config)
        row |= {key: _setting(config, key, overrides[number].get(key)) for key in extra}
        of_job = read_json(folder / "metrics.json") | summary(folder)
        metrics |= of_job
        rows.append(row | of_job | {"run": folder.relative_to(sweep_dir).as_posix()})
    table = pd.DataFrame(rows, columns=[*FIXED, *extra, *metrics, "run"])
    return table.astype({name: "Int64" for name in WHOLE_NUMBERS if name in table})


def write_results(sweep_dir: Path) -> pd.DataFrame:
    """Write ``results.csv`` into ``sweep_dir`` and return its table (see :func:`collect`).

    Raises:
        FrostlineError: as :func:`collect`.
    """
    table = collect(sweep_dir)
    write_csv(sweep_dir / "results.csv", table)
    return table


def job_folders(sweep_dir: Path) -> list[tuple[int, Path]]:
    """Return (job number, run directory) of every job that started, in the order of their numbers.

    Raises:
        FrostlineError: ``sweep_dir`` is neither a sweep's nor a run's directory.
    """
    if not sweep_dir.is_dir():
        raise FrostlineError(f"There is no directory {sweep_dir}.")
    numbered = [folder for folder in sweep_dir.iterdir() if folder.name.isdecimal() and _is_run(folder)]
    if numbered:
        return sorted((int(folder.name), folder) for folder in numbered)
    if _is_run(sweep_dir):
        return [(0, sweep_dir)]
    raise FrostlineError(f"{sweep_dir} holds neither job folders (0, 1, …) nor a run (manifest.json or .hydra).")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``, or an empty one if there is no such file.

    Raises:
        FrostlineError: the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # malformed JSON or UTF-8
        raise FrostlineError(f"{path} is damaged: {error}.") from None
    if not isinstance(content, dict):
        raise FrostlineError(f"{path} is damaged: it does not hold a JSON object.")
    return content


def read_config(run_dir: Path) -> DictConfig:
    """Return a run's configuration: ``config.yaml``, else Hydra's snapshot (for a job that failed early), else nothing.

    Raises:
        FrostlineError: the file is damaged.
    """
    found = [path for path in (run_dir / "config.yaml", run_dir / ".hydra" / "config.yaml") if path.is_file()]
    config = _read_yaml(found[0]) if found else OmegaConf.create({})
    if not isinstance(config, DictConfig):
        raise FrostlineError(f"{found[0]} is damaged: it does not hold a YAML mapping.")
    return config


def value_of(config: DictConfig, key: str) -> Any:
    """Return a configuration's value at a dotted key, or None if it is absent or cannot be resolved."""
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return None


# --- internals ------------------------------------------------------------------------------------------------------


def _is_run(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() or (folder / ".hydra").is_dir()


def _read_yaml(path: Path) -> Any:
    try:
        return OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise FrostlineError(f"{path} is damaged: {' '.join(str(error).split())}.") from None


def _overrides(run_dir: Path) -> dict[str, str]:
    path = run_dir / ".hydra" / "overrides.yaml"
    texts = OmegaConf.to_container(_read_yaml(path), resolve=False) if path.is_file() else []
    pairs = [str(text).partition("=") for text in texts or []]
    return {key.lstrip("+~"): value for key, _, value in pairs}


def _fixed_columns(number: int, folder: Path, config: DictConfig) -> dict[str, Any]:
    manifest = read_json(folder / "manifest.json")
    optimizer = value_of(config, "optimizer.name")
    depth, chosen_c = manifest.get("frozen_depth"), manifest.get("C")
    return {
        "job": number,
        "status": manifest.get("status", "missing"),
        "error": manifest.get("error") or _last_line(folder / "error.txt"),
        "strategy": value_of(config, "strategy.name"),
        "strategy.frozen_depth": value_of(config, "strategy.frozen_depth") if depth is None else depth,
        "strategy.layer": manifest.get("layer"),
        "optimizer": optimizer,
        "optimizer.lr": None if optimizer == "lbfgs" else value_of(config, "optimizer.lr"),
        "optimizer.C": value_of(config, "optimizer.C") if chosen_c is None else chosen_c,
        "seed": value_of(config, "seed"),
        "data": _data_label(config),
        "model": value_of(config, "model.name"),
    }


def _last_line(path: Path) -> str | None:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), None)


def _data_label(config: DictConfig) -> str | None:
    """The label that the schema gives this data set, without refusing a snapshot of another version."""
    schema = SCHEMAS["data"][1].get(value_of(config, "data.source"))
    if schema is None:
        return None
    try:
        return str(schema(**{f.name: value_of(config, f"data.{f.name}") for f in fields(schema)}).label)
    except TypeError:  # the key that names the data is absent
        return None


def _setting(config: DictConfig, key: str, override: str | None) -> Any:
    value = value_of(config, key)
    if isinstance(value, DictConfig):  # a group such as scheduler=cosine
        return value.get("name", override)
    return override if value is None else str(value) if OmegaConf.is_config(value) else value
