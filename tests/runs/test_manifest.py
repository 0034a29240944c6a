"""What may explain that a run does not come out the same again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from frostline.runs.manifest import code_version, differences, surroundings

MANIFEST: dict[str, Any] = {
    "code": {"commit": "abc", "dirty": False},
    "python": "3.11.1",
    "packages": {"torch": "2.13.0", "wandb": None},
    "device": "Some CPU",
    "device_type": "cpu",
    "threads": 2,
    "precision": "32-true",
    "weights_hash": "w",
    "tokenizer_hash": "t",
    "data_hashes": {"train": "1", "test": "2"},
    "frozen_depth": 3,
    "layer": None,
    "C": 0.1,
}


def test_equal_manifests_do_not_differ() -> None:
    assert differences(MANIFEST, json.loads(json.dumps(MANIFEST))) == []


@pytest.mark.parametrize("key", MANIFEST)
def test_every_entry_that_differs_is_named_once_with_both_values(key: str) -> None:
    value = MANIFEST[key]
    changed = value | {next(iter(value)): "new"} if isinstance(value, dict) else "new"
    found = differences(MANIFEST, MANIFEST | {key: changed})
    assert len(found) == 1
    old = next(iter(value.values())) if isinstance(value, dict) else value
    name = f"{key}.{next(iter(value))}" if isinstance(value, dict) else key
    assert found == [f"{name}: {old} then, new now"]


def test_packages_and_splits_that_came_or_went_are_named() -> None:
    without = MANIFEST | {"packages": {"torch": "2.13.0", "scipy": "1"}}
    assert differences(MANIFEST, without) == ["packages.scipy: None then, 1 now"]
    assert differences(MANIFEST | {"packages": {"torch": "2.13.0", "wandb": "1"}}, MANIFEST) == [
        "packages.wandb: 1 then, None now"
    ]


def test_times_and_places_do_not_count() -> None:
    extra = {"seconds": 9, "started": "now", "command": ["x"], "wandb_id": "y", "platform": "z"}
    assert differences(MANIFEST, MANIFEST | extra) == []


def test_entries_missing_from_an_old_manifest_are_named() -> None:
    old = {k: v for k, v in MANIFEST.items() if k not in ("threads", "packages")}
    assert [line.split(":")[0] for line in differences(old, MANIFEST)] == ["packages", "threads"]


def test_surroundings_can_be_stored_and_do_not_differ_from_themselves() -> None:
    here = surroundings(torch.device("cpu"))
    assert json.loads(json.dumps(here)) == here
    assert here["packages"]["torch"] == torch.__version__
    assert here["device_type"] == "cpu"
    assert here["device"]
    assert differences(here, surroundings(torch.device("cpu"))) == []


def test_the_code_is_known_by_its_commit() -> None:
    root = Path(__file__).parents[2]
    result = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    found = code_version()
    if result.returncode:
        assert found == {"commit": None, "dirty": None}
    else:
        assert found["commit"] == result.stdout.strip()
        assert isinstance(found["dirty"], bool)
