"""What the configuration cannot say: code, packages, hardware."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from frostline.processor import processor

PACKAGES = (
    *("frostline", "torch", "lightning", "transformers", "tokenizers", "datasets", "safetensors", "hydra-core", "omegaconf"),
    *("torchmetrics", "scikit-learn", "scipy", "numpy", "pandas", "pyarrow", "wandb"),
)


def surroundings(device: torch.device) -> dict[str, Any]:
    """Return code version, command, package versions, device and thread count: why two runs of one snapshot may differ."""
    return {
        "command": sys.argv,
        "code": code_version(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor().get("model name"),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }


def code_version() -> dict[str, Any]:
    """Return the git commit that Frostline runs from and whether files differ from it; nulls for an installed package."""
    here = Path(__file__).parent
    commit = _git(here, "rev-parse", "HEAD")
    return {"commit": commit, "dirty": None if commit is None else _git(here, "status", "--porcelain", "-uno") != ""}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return, as sentences, what in two runs' manifests may explain different results."""
    keys = (
        *("code", "python", "packages", "device", "device_type", "threads", "precision", "products"),
        *("weights_hash", "tokenizer_hash", "data_hashes", "frozen_depth", "layer", "C"),
    )
    found = []
    for key in keys:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += [
                f"{key}.{k}: {before.get(k)} then, {after.get(k)} now"
                for k in sorted(before.keys() | after.keys())
                if before.get(k) != after.get(k)
            ]
        elif before != after:
            found.append(f"{key}: {before} then, {after} now")
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *words: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
