"""The checkpoint of a finished run: only what was trained, with a pointer to the pretrained base."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from frostline.encoder.adapters import merge_updates
from frostline.encoder.load import Pretrained
from frostline.errors import FrostlineError
from frostline.runs.files import replace_atomically, sha256_of, write_json
from frostline.runs.reading import read_json
from frostline.strategies.classifier import Classifier

WEIGHTS, POINTER = "trained.safetensors", "checkpoint.json"
ENTRIES: dict[str, tuple[type, ...]] = {  # of a pointer, and what they may be
    **dict.fromkeys(("model", "weights_hash", "tokenizer_hash"), (str,)),
    **{"class_names": (list,), "layer": (int, type(None)), "C": (int, float, type(None))},
}


def save_checkpoint(module: Classifier, folder: Path, pointer: dict[str, Any]) -> None:
    """Write the trained tensors and ``pointer`` (base, its hashes, how to rebuild the module) into ``folder``, with checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.trained_state().items()}
    with replace_atomically(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
        pointer = pointer | {"weights_sha256": sha256_of(temporary)}
    write_json(folder / POINTER, pointer | {"sha256": _own_checksum(pointer)})


def read_pointer(run_dir: Path) -> dict[str, Any]:
    """Return the checkpoint's pointer.

    Raises:
        FrostlineError: the run has no checkpoint, or a damaged one.
    """
    path = run_dir / "checkpoint" / POINTER
    if not path.is_file():
        raise FrostlineError(f"'{run_dir}' has no checkpoint: is it the directory of a finished run?")
    pointer = read_json(path)
    checksum = pointer.pop("sha256", None)  # checkpoints of earlier versions have none
    if checksum not in (None, _own_checksum(pointer)):
        raise FrostlineError(f"'{path}' is damaged: its content is not what was written.")
    for name, kinds in ENTRIES.items():
        value = pointer.get(name, ...)
        if not isinstance(value, kinds) or isinstance(value, bool) or value == []:
            raise FrostlineError(f"'{path}' is damaged: it has no usable '{name}'.")
    if not all(isinstance(name, str) for name in pointer["class_names"]):
        raise FrostlineError(f"'{path}' is damaged: its 'class_names' are not all texts.")
    return pointer


def read_checkpoint(run_dir: Path, pretrained: Pretrained) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a run's pointer and its trained tensors: ``head.…``, ``encoder.<name in the pretrained model>``, a probe's scaling.

    Raises:
        FrostlineError: the pretrained base is not the one that the run started from; the weights are missing or damaged.
    """
    pointer = read_pointer(run_dir)
    for key, now in (("weights_hash", pretrained.weights_hash), ("tokenizer_hash", pretrained.tokenizer_hash)):
        if pointer[key] != now:
            raise FrostlineError(
                f"'{run_dir}' was trained on another pretrained base: its {key.replace('_', ' ')} is {pointer[key][:12]}…, but "
                f"that of '{pointer['model']}' is now {now[:12]}…."
            )
    path = run_dir / "checkpoint" / WEIGHTS
    try:
        if pointer.get("weights_sha256") not in (None, sha256_of(path)):
            raise _damaged(path, "its content is not what was written")
        return pointer, load_file(path)
    except FileNotFoundError:
        raise FrostlineError(f"'{path}' is missing.") from None
    except SafetensorError as error:
        raise _damaged(path, error) from None


def adapted_weights(pretrained: Pretrained, pointer: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's trained weights by their name in the pretrained model, low-rank updates merged."""
    trained = {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}
    return merge_updates(pretrained.model, trained, pointer.get("update_scale") or 1.0)


def load_checkpoint(module: Classifier, run_dir: Path, pretrained: Pretrained) -> None:
    """Put a run's trained tensors into its freshly built module.

    Raises:
        FrostlineError: as :func:`read_checkpoint`; the tensors are not those that the module trains.
    """
    _, state = read_checkpoint(run_dir, pretrained)
    try:
        module.load_trained_state(state)
    except ValueError as error:
        raise _damaged(run_dir / "checkpoint" / WEIGHTS, error) from None


def _own_checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, error: Exception | str) -> FrostlineError:
    return FrostlineError(f"The checkpoint '{path}' is damaged or of another run: {error}.")
