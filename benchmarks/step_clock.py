"""What is timed of a fit in Lightning: fetching batches and the optimizer steps on them, without validation."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch.callbacks import Callback


class StepClock(Callback):
    """Counts from the start of every training epoch to its last step, before validation begins.

    Attributes:
        seconds: counted so far, over all epochs.
        steps: optimizer steps so far (batches).
        after_first: seconds from the end of the first step to the end of the last, of one epoch.
        began: when the first epoch did, on :func:`time.perf_counter`'s clock.
    """

    def __init__(self) -> None:
        self.seconds, self.steps, self.after_first, self.began = 0.0, 0, 0.0, 0.0
        self._since: float | None = None
        self._first = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start."""
        self._since = time.perf_counter()
        self.began = self.began or self._since

    def on_train_batch_end(self, *_: Any) -> None:
        """Count a step."""
        self.steps += 1
        self._first = self._first or time.perf_counter()
        self.after_first = time.perf_counter() - self._first

    def on_validation_start(self, *_: Any) -> None:
        """Stop, in a Trainer that validates."""
        self._stop()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Stop, in a Trainer that does not."""
        self._stop()

    def _stop(self) -> None:
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None
