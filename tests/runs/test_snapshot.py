"""A snapshot is read back as what this machine can do."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from frostline import processor
from frostline.commands.launch import compose_alone
from frostline.config import to_yaml, validate
from frostline.runs import snapshot
from frostline.runs.snapshot import read_snapshot


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_run_in_bf16_is_read_in_float32_where_there_is_no_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_bf16: bool
) -> None:
    for module in (processor, snapshot):
        monkeypatch.setattr(module, "computes_in_bf16", lambda accelerator: has_bf16)
    composed = compose_alone("train", ["model=tiny"])
    assert composed is not None
    tree = OmegaConf.create(to_yaml(validate(composed)))
    tree.trainer.precision = "bf16-mixed"
    OmegaConf.save(tree, tmp_path / "config.yaml")
    with caplog.at_level(logging.WARNING):
        assert read_snapshot(tmp_path).trainer.precision == ("bf16-mixed" if has_bf16 else "32-true")
    assert ("it is float32 now" in caplog.text) != has_bf16
