"""What the runs of one process share: loaded by the first that needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Once:
    """Remembers, of every kind of thing, the one made last."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, Any]] = {}

    def __call__(self, kind: str, key: Any, make: Callable[[], T]) -> T:
        """Return the thing of this kind if it was made for an equal ``key``, else make it."""
        if kind not in self._made or self._made[kind][0] != key:
            self._made.pop(kind, None)  # gone before the next one needs its memory
            self._made[kind] = (key, make())
        made: T = self._made[kind][1]
        return made

    def forget(self) -> None:
        """Forget everything."""
        self._made.clear()
