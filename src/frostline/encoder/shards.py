"""The files of the activation cache: safetensors files of many sentences' rows, written batch by batch and read in place.

A shard holds ``keys`` ``[sentences, 16]``, uint8, ``offsets`` ``[sentences + 1]``, int64, and value tensors ``[rows, width]``,
float32 or float16, of which sentence ``i`` owns the rows ``offsets[i]:offsets[i + 1]``.
"""

from __future__ import annotations

import json
import math
import mmap
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from frostline.errors import FrostlineError

DTYPES = {kind: np.dtype(code) for kind, code in (("U8", "u1"), ("I64", "<i8"), ("F32", "<f4"), ("F16", "<f2"))}
KINDS = {"fp32": "F32", "fp16": "F16"}  # our names, and those of safetensors


class Shard:
    """Some sentences: ``keys``, ``offsets`` and ``values`` as views into the bytes of a file, ``[nbytes]``, uint8."""

    def __init__(self, content: NDArray[np.uint8]):
        begin = 8 + int.from_bytes(content[:8].tobytes(), "little")
        tensors = {}
        for name, tensor in json.loads(content[8:begin].tobytes()).items():
            first, end = tensor["data_offsets"]
            tensors[name] = content[begin + first : begin + end].view(DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        self.keys: NDArray[np.uint8] = tensors.pop("keys")
        self.offsets: NDArray[np.int64] = tensors.pop("offsets")
        self.values: dict[str, NDArray[Any]] = tensors
        self.nbytes = content.size


class Entry:
    """Some shards with the same value tensors: which sentences they have, and where their rows lie.

    Attributes:
        shards: all of them.
        sentences: how many they have.
        row_count: rows of all sentences together.
        nbytes: of all shards.
    """

    def __init__(self, shards: Sequence[Shard] = ()):
        self.shards = shards
        self._starts = list(accumulate((len(shard.keys) for shard in shards), initial=0))
        keys = [key for shard in shards for key in shard.keys.view("V16").ravel().tolist()]
        self._numbers = dict(zip(keys, range(len(keys)), strict=True))
        self.sentences = len(self._numbers)
        self.row_count = sum(int(shard.offsets[-1]) for shard in shards)
        self.nbytes = sum(shard.nbytes for shard in shards)

    def __contains__(self, key: bytes) -> bool:
        """Whether it has the sentence with this key, 16 bytes."""
        return key in self._numbers

    def __getitem__(self, key: bytes) -> tuple[Shard, int, int]:
        """Return where a sentence's rows lie: the shard, the first row there and the one after the last.

        Raises:
            KeyError: there is no such sentence.
        """
        number = self._numbers[key]
        at = bisect_right(self._starts, number) - 1
        shard, i = self.shards[at], number - self._starts[at]
        return shard, int(shard.offsets[i]), int(shard.offsets[i + 1])

    def rows(self, tensor: str, key: bytes) -> NDArray[Any]:
        """Return a sentence's rows, ``[rows, width]``, in the dtype they are kept in; a read-only view, no copy."""
        shard, first, end = self[key]
        return shard.values[tensor][first:end]

    def table(self, tensor: str, keys: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the rows of sentences that have one row each, ``[len(keys), width]``, float32."""
        numbers = np.fromiter((self._numbers[key] for key in keys), np.int64, len(keys))
        owners = np.searchsorted(self._starts, numbers, side="right") - 1
        rows = np.empty((len(keys), self.shards[0].values[tensor].shape[1] if self.shards else 0), np.float32)
        for at in np.unique(owners):
            mine = np.flatnonzero(owners == at)
            rows[mine] = self.shards[at].values[tensor][numbers[mine] - self._starts[at]]
        return rows


class Writer:
    """Fills one shard batch by batch; where everything lies in its file is known before.

    Args:
        dtype: of the value tensors, ``fp32`` or ``fp16``.
        widths: of each value tensor.
        sentences: how many will be added, at least 1.
        rows: of all of them together.

    Attributes:
        nbytes: of the whole file.
    """

    def __init__(self, dtype: str, widths: dict[str, int], sentences: int, rows: int):
        shapes = {"offsets": ("I64", [sentences + 1])}
        shapes |= {name: (KINDS[dtype], [rows, width]) for name, width in widths.items()}
        shapes["keys"] = ("U8", [sentences, 16])
        sizes = [DTYPES[kind].itemsize * math.prod(shape) for kind, shape in shapes.values()]
        ends = list(accumulate(sizes, initial=0))
        header = {
            name: {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
            for (name, (kind, shape)), begin, end in zip(shapes.items(), ends, ends[1:], strict=False)
        }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)  # so that tensors are aligned
        self._header = len(text).to_bytes(8, "little") + text
        self._begins = {name: len(self._header) + begin for name, begin in zip(shapes, ends, strict=False)}
        self.nbytes = len(self._header) + ends[-1]
        self._dtype, self._widths, self._announced = DTYPES[KINDS[dtype]], widths, (sentences, rows)
        self._sentences = self._rows = 0

    def begin(self, file: BinaryIO | mmap.mmap) -> None:
        """Write the header to an empty file, to which :meth:`add` will write the rest."""
        self._file = file
        file.write(self._header)

    def add(self, keys: Sequence[bytes], lengths: Sequence[int], values: dict[str, NDArray[Any]]) -> None:
        """Write some sentences.

        Args:
            keys: 16 bytes a sentence.
            lengths: rows of each sentence.
            values: of each value tensor the rows of these sentences, ``[sum(lengths), width]``, any float dtype.

        Raises:
            FrostlineError: a value is too large for fp16.
            ValueError: the arguments do not fit together.
        """
        rows, all_keys = int(sum(lengths)), b"".join(keys)
        shapes = {name: (rows, width) for name, width in self._widths.items()}
        if {n: v.shape for n, v in values.items()} != shapes or not len(keys) == len(lengths) == len(all_keys) / 16:
            raise ValueError(f"{len(keys)} keys, {len(lengths)} lengths and the values do not fit {shapes}.")
        for name, array in values.items():
            with np.errstate(over="ignore"):
                stored = np.ascontiguousarray(array, self._dtype)
            if self._dtype == np.float16 and (np.isinf(stored) & np.isfinite(array)).any():
                largest = np.abs(array[np.isfinite(array)]).max()
                raise FrostlineError(f"An activation of '{name}' ({largest:.3g}) is too large for fp16; use cache.dtype=fp32.")
            self._put(name, self._rows * self._widths[name], stored)
        self._put("offsets", self._sentences, self._rows + np.cumsum([0, *lengths], dtype=np.int64))
        self._put("keys", self._sentences * 16, np.frombuffer(all_keys, np.uint8))
        self._sentences, self._rows = self._sentences + len(keys), self._rows + rows

    def end(self) -> None:
        """Raise a ValueError unless what was announced is what was added."""
        if (self._sentences, self._rows) != self._announced:
            raise ValueError(f"{(self._sentences, self._rows)} sentences and rows were added, {self._announced} announced.")

    def _put(self, tensor: str, index: int, values: NDArray[Any]) -> None:
        self._file.seek(self._begins[tensor] + index * values.itemsize)
        self._file.write(values.data)
