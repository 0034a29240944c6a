"""A sweep, collected: one table with a row a job, read from the run directories and nothing else.

Works while the sweep is still running and after any of its jobs failed or was killed; the contract of a run directory
is in the design notes ("The run directory"). Column names are configuration keys, then metric names.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from frostline.config import NOT_IDENTITY
from frostline.runs.files import write_csv
from frostline.runs.jobs import Job, jobs_in
from frostline.runs.measured import summary
from frostline.runs.reading import damage_told, read_manifest, read_metrics, read_yaml
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
        sweep_dir: a sweep's directory, or that of a single run (job 0).

    Returns:
        The columns of :data:`FIXED` (``strategy.frozen_depth``, ``strategy.layer`` and ``optimizer.C`` are those in
        effect, from the manifest), every other key that a job overrode, the metrics in their own units (accuracies
        0 … 1, ``fit_seconds`` s, ``peak_memory_mb`` MB), then what measures say of a run as a whole
        (``layers/best_layer``), then ``run``, the folder relative to ``sweep_dir``. Empty
        where a job has no value. ``status`` is what the manifest says, or ``missing`` if the job never wrote one.

    Raises:
        FrostlineError: ``sweep_dir`` holds no run, or a file of a run is damaged.
    """
    jobs = [(job, read_config(job.folder)) for job in jobs_in(sweep_dir)]
    overrides = {job.number: _by_key(job.overrides) for job, _ in jobs}
    keys = list(dict.fromkeys(key for of_job in overrides.values() for key in of_job))
    extra = [key for key in keys if key not in SHOWN and key.split(".")[0] not in WITHOUT_EFFECT]
    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    for job, config in jobs:
        told, folder = overrides[job.number], job.folder
        row = _fixed_columns(job, config, told)
        row |= {key: _setting(config, key, told.get(key)) for key in extra}
        of_job = read_metrics(folder) | summary(folder)
        metrics |= of_job
        _check_numbers(folder, row | of_job)
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


def read_config(run_dir: Path) -> DictConfig:
    """Return a run's configuration: ``config.yaml``, else Hydra's snapshot (for a job that failed early), else nothing.

    Raises:
        FrostlineError: the file is damaged.
    """
    found = [path for path in (run_dir / "config.yaml", run_dir / ".hydra" / "config.yaml") if path.is_file()]
    return read_yaml(found[0]) if found else OmegaConf.create({})


def value_of(config: DictConfig, key: str) -> Any:
    """Return a configuration's value at a dotted key, or None if it is absent or cannot be resolved."""
    try:
        return OmegaConf.select(config, key)
    except (OmegaConfBaseException, RecursionError):  # the latter: it refers to itself
        return None


# --- internals ------------------------------------------------------------------------------------------------------


def _by_key(overrides: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in overrides]
    return {key.lstrip("+~"): value for key, _, value in pairs}


def _fixed_columns(job: Job, config: DictConfig, told: dict[str, str]) -> dict[str, Any]:
    manifest = read_manifest(job.folder)
    if not config:  # it never started: what was asked for is all that there is
        words = {key: told.get(key) for key in ("strategy", "optimizer", "data", "model")}
        numbers = {key: _number(told.get(key)) for key in ("strategy.frozen_depth", "optimizer.lr", "seed")}
        return {"job": job.number, "status": manifest.get("status", "missing"), **words, **numbers}
    optimizer = value_of(config, "optimizer.name")
    depth, chosen_c = manifest.get("frozen_depth"), manifest.get("C")
    return {
        "job": job.number,
        "status": manifest.get("status", "missing"),
        "error": manifest.get("error") or _last_line(job.folder / "error.txt"),
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


def _number(word: str | None) -> float | None:
    try:
        return None if word is None else float(word)
    except ValueError:
        return None


def _check_numbers(folder: Path, row: dict[str, Any]) -> None:
    with damage_told(folder):
        for name in (*WHOLE_NUMBERS, "optimizer.lr", "optimizer.C"):
            value: Any = row.get(name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            is_fit = is_number and (name not in WHOLE_NUMBERS or (abs(value) < 2**63 and float(value).is_integer()))
            if value is not None and not is_fit:
                raise ValueError(f"its {name} is {value!r:.40}")


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
        return value_of(value, "name") or override
    return override if value is None else str(value) if OmegaConf.is_config(value) else value
