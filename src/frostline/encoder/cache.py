"""What the frozen part of an encoder says of every sentence: computed once, kept in the store, shared by all runs.

A sentence is encoded without padding, together with others of exactly its length, in eval mode and under
``torch.inference_mode()``. Its states then depend on nothing but itself: not on the sentences beside it, nor on what the
cache held before, so a run on an empty cache and one on a full cache read the same bytes. One pass serves every depth,
layer and pooling that is asked for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.data.tokens import Tokens
from frostline.encoder.families import Family, family_of
from frostline.encoder.load import Pretrained
from frostline.encoder.passes import encode, length_of
from frostline.encoder.pool import pool
from frostline.encoder.products import choose_products
from frostline.encoder.store import Entry, NoRoom, Store, Writer
from frostline.schema import CacheConfig
from frostline.sizes import parse_size

log = logging.getLogger(__name__)
FORMAT = 1  # part of the key: raise it when the same sentence would get other values


@dataclass(frozen=True)
class Wanted:
    """What is asked of the frozen part.

    Attributes:
        depths: the states that enter these blocks, each 1 … L-1.
        poolings: pooled states of all layers, by these poolings.
    """

    depths: frozenset[int] = field(default=frozenset())
    poolings: frozenset[str] = field(default=frozenset())

    def __or__(self, other: Wanted) -> Wanted:
        """Return what either asks for."""
        return Wanted(self.depths | other.depths, self.poolings | other.poolings)

    def as_kept(self, causal: bool) -> Wanted:
        """Return what is computed for it: one more pooling costs next to nothing in a pass, and another pass everything again."""
        usual = frozenset({"mean", "last" if causal else "cls"})
        return Wanted(self.depths, self.poolings | usual) if self.poolings else self


def wanted_by(depth: int | None, pooling: str, blocks: int) -> Wanted:
    """Return what one run asks for.

    Args:
        depth: its frozen depth, 0 … L; None for a probe.
        pooling: how it pools the last states.
        blocks: ``L``.
    """
    if depth is None or depth == blocks:
        return Wanted(poolings=frozenset({pooling}))
    return Wanted(depths=frozenset({depth} - {0}))


@dataclass(frozen=True)
class Part:
    """What one entry of the store keeps of an encoder: the states that enter a block, or pooled states of all layers.

    Attributes:
        depth: the block, 1 … L-1; None for pooled states.
        pooling: how they are pooled; None for states.
    """

    depth: int | None = None
    pooling: str | None = None

    @property
    def kind(self) -> str:
        """``states`` or ``pooled``."""
        return "pooled" if self.depth is None else "states"

    def tensors(self, blocks: int) -> list[str]:
        """Return the names of its tensors."""
        return ["states"] if self.depth is not None else [str(layer) for layer in range(blocks + 1)]

    def rows(self, length: int) -> int:
        """Return how many rows a sentence of ``length`` tokens has."""
        return 1 if self.depth is None else length

    def values(self, states: Sequence[Tensor], mask: Tensor) -> dict[str, NDArray[np.float32]]:
        """Return its tensors, ``[rows, width]``, of the sentences of a batch without padding.

        Args:
            states: of layers 0 …, each ``[batch, tokens, width]``.
            mask: all ones, ``[batch, tokens]``.
        """
        if self.depth is not None:
            return {"states": states[self.depth].flatten(0, 1).float().cpu().numpy()}
        assert self.pooling is not None
        return {str(i): pool(layer.float(), mask, self.pooling).cpu().numpy() for i, layer in enumerate(states)}


@dataclass(frozen=True)
class CachedStates:
    """The states that enter a block, of the sentences of one split.

    Attributes:
        entry: where they lie.
        keys: of the split's sentences.
        lengths: tokens of each, ``[sentences]``, int.
    """

    entry: Entry
    keys: list[bytes]
    lengths: NDArray[np.int64]

    def pad(self, rows: list[int]) -> dict[str, Tensor]:
        """Return ``states`` ``[batch, tokens, width]``, float32, zeros where padded, and ``attention_mask`` of ``rows``."""
        lengths = self.lengths[rows]
        of_rows = [self.entry.rows("states", self.keys[row]) for row in rows]
        states = np.zeros((len(rows), int(lengths.max()), of_rows[0].shape[1]), dtype=np.float32)
        for padded, own in zip(states, of_rows, strict=True):
            padded[: len(own)] = own
        mask = (np.arange(states.shape[1]) < lengths[:, None]).astype(np.int64)
        return {"states": torch.from_numpy(states), "attention_mask": torch.from_numpy(mask)}


class ActivationCache:
    """The frozen part of one encoder, at one precision.

    Args:
        config: of the cache; ``mode=off`` keeps nothing beyond this object.
        cache_dir: where it is on disk.
        pretrained: the encoder.
        precision: of the pass: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        device: where the pass runs.
        show_progress: show a bar.

    Attributes:
        computed: sentences that were encoded for this run; all others were there.
        used: whether this run reads what it keeps for others, too.
    """

    def __init__(
        self,
        config: CacheConfig,
        cache_dir: Path,
        pretrained: Pretrained,
        precision: str,
        device: torch.device,
        show_progress: bool = False,
    ):
        self.config, self.pretrained, self.precision, self.device = config, pretrained, precision, device
        self.show_progress = show_progress
        self.store = Store(
            cache_dir if config.mode == "disk" else None, None if config.mode == "off" else parse_size(config.max_size)
        )
        self.describes = {
            "weights_hash": pretrained.weights_hash,
            "architecture": pretrained.architecture,
            "precision": precision,
            "products": choose_products() if device.type == "cpu" else device.type,
            "attention": pretrained.model.config._attn_implementation,
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        }
        alone = id(self) if config.mode == "off" else None
        self.key = hashlib.sha256(json.dumps([FORMAT, self.describes, alone], sort_keys=True).encode()).hexdigest()[:32]
        self.computed, self.used = 0, False

    def without(self) -> ActivationCache:
        """Return the same without a store, for when there is no room in it."""
        config = dataclasses.replace(self.config, mode="off")
        return ActivationCache(config, Path(), self.pretrained, self.precision, self.device, self.show_progress)

    def states(self, splits: dict[str, Tokens], depth: int, ahead: Wanted | None = None) -> dict[str, CachedStates]:
        """Return the states that enter block ``depth`` (1 … L-1), per split.

        Raises:
            NoRoom: as :meth:`prepare`.
        """
        entries = self.prepare(splits.values(), Wanted(depths=frozenset({depth})), ahead)
        entry = entries[Part(depth=depth)]
        return {name: CachedStates(entry, tokens.keys, tokens.lengths) for name, tokens in splits.items()}

    def features(
        self, splits: dict[str, Tokens], pooling: str, layers: Sequence[int], ahead: Wanted | None = None
    ) -> dict[str, Tensor]:
        """Return the pooled states of ``layers``, per split ``[len(layers), sentences, width]``, float32.

        Raises:
            NoRoom: as :meth:`prepare`.
        """
        entry = self.prepare(splits.values(), Wanted(poolings=frozenset({pooling})), ahead)[Part(pooling=pooling)]
        features = {
            name: torch.from_numpy(np.stack([entry.table(str(layer), tokens.keys) for layer in layers]))
            for name, tokens in splits.items()
        }
        if self.config.mode == "off":
            self.store.forget(self.key)
        return features

    def prepare(self, splits: Iterable[Tokens], wanted: Wanted, ahead: Wanted | None = None) -> dict[Part, Entry]:
        """Make sure that the store has what is wanted of all sentences; return its entries.

        Args:
            splits: the sentences.
            wanted: what this run needs.
            ahead: what the other runs of its sweep will need: computed in the same pass if there is room.

        Raises:
            NoRoom: the disk or ``cache.max_size`` is too small.
            FrostlineError: the cache cannot be written to; a value does not fit into fp16.
        """
        sentences = {key: (tokens, row) for tokens in splits for row, key in enumerate(tokens.keys)}
        with self.store.lock(self.key):
            entries = self._open(wanted)
            if any(key not in entry for entry in entries.values() for key in sentences):
                more = (wanted | (ahead or Wanted())).as_kept(self._family.causal)
                try:
                    self._fill(sentences, more)
                except NoRoom:
                    if more == wanted:
                        raise
                    self._fill(sentences, wanted)
                entries = self._open(wanted)
            self.store.evict(keep={(self.key, self._folder(part)) for part in entries})
        self.used = self.config.mode != "off"
        return entries

    def lacking(self, sentences: Collection[bytes], wanted: Wanted) -> set[bytes]:
        """Return those of the sentences of which something wanted is not kept yet."""
        with self.store.lock(self.key):
            entries = self._open(wanted)
        return {key for key in sentences if any(key not in entry for entry in entries.values())}

    @property
    def _family(self) -> Family:
        return family_of(self.pretrained.architecture["model_type"])

    def _folder(self, part: Part) -> str:
        return f"{part.kind}-{part.pooling if part.depth is None else part.depth}-{self.config.dtype}"

    def _open(self, wanted: Wanted) -> dict[Part, Entry]:
        """Open what the store has; the caller holds the lock."""
        parts = [Part(depth=depth) for depth in sorted(wanted.depths)] + [Part(pooling=name) for name in sorted(wanted.poolings)]
        return {part: self.store.open(self.key, self._folder(part)) for part in parts}

    def _fill(self, sentences: dict[bytes, tuple[Tokens, int]], wanted: Wanted) -> None:
        """Encode what the store lacks; the caller holds the lock."""
        entries = self._open(wanted)
        lacking = {part: [key for key in sentences if key not in entry] for part, entry in entries.items()}
        lacking = {part: keys for part, keys in lacking.items() if keys}
        blocks, width = self.pretrained.blocks, self.pretrained.width
        deepest = max(blocks if part.depth is None else part.depth for part in lacking)
        missing = {key: sentences[key] for keys in lacking.values() for key in keys}
        needed_by = {part: set(keys) for part, keys in lacking.items()}
        keep = {(self.key, self._folder(part)) for part in entries}
        with ExitStack() as stack:
            writers = {}
            for part, keys in lacking.items():
                rows = sum(part.rows(length_of(sentences[key])) for key in keys)
                describes = {"model": self.pretrained.name, "kind": part.kind, "depth": part.depth, "pooling": part.pooling}
                widths = dict.fromkeys(part.tensors(blocks), width)
                size = (self.config.dtype, widths, len(keys), rows)
                writing = self.store.writing(self.key, self._folder(part), describes | self.describes, *size, keep=keep)
                writers[part] = stack.enter_context(writing)
            for keys, states in encode(self.pretrained, missing, deepest, self.precision, self.device, self.show_progress):
                for part, writer in writers.items():
                    own = [i for i, key in enumerate(keys) if key in needed_by[part]]
                    if len(own) == len(keys):
                        _write(writer, part, keys, states)
                    elif own:
                        _write(writer, part, [keys[i] for i in own], [layer[own] for layer in states])
        self.computed = len(missing)


def _write(writer: Writer, part: Part, keys: list[bytes], states: Sequence[Tensor]) -> None:
    mask = torch.ones(states[0].shape[:2], dtype=torch.int64, device=states[0].device)
    writer.add(keys, [part.rows(mask.shape[1])] * len(keys), part.values(states, mask))
