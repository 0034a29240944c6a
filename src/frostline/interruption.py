"""SIGTERM and Ctrl-C end a command at once but in order: what is half done can be resumed, and the exit status says so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# SIGTERM: EX_TEMPFAIL of sysexits.h, "try again". Unlike 143 it is given by nothing but Frostline, after it has tidied up.
# SIGINT: what shells give for Ctrl-C; nobody wants that started again by itself.
STATUS = {signal.SIGTERM: 75, signal.SIGINT: 130}
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class Interrupted(SystemExit):
    """The process was told to end. Passes through whatever handles errors, as it is none.

    Attributes:
        code: the exit status, 75 or 130.
        directory: of the run or sweep that can be resumed; None before there is one.
    """

    code: int

    def __init__(self, number: int):
        super().__init__(number)  # so that it can be pickled: a worker process hands it on
        self.code, self.name = STATUS[signal.Signals(number)], NAMES[signal.Signals(number)]
        self.directory: Path | None = None

    def __str__(self) -> str:
        """Say what stopped it, and how it goes on."""
        go_on = "" if self.directory is None else f"; go on with frostline train resume='{self.directory}'"
        return f"Stopped by {self.name}{go_on}."


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` at a SIGTERM or a Ctrl-C within the block; in the main thread, which alone gets signals.

    While that ends the block in order, further SIGTERMs change nothing, and a second Ctrl-C ends it at once. A signal that
    somebody else handles is left to them: on a cluster, submitit waits for the one that lets it put the job back into the queue.
    """
    global _ending
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is _interrupt:
        yield
        return
    free = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
    before = {number: signal.signal(number, _interrupt) for number in STATUS if signal.getsignal(number) in free}
    try:
        yield
    finally:
        _ending = False
        for number, handler in before.items():
            signal.signal(number, handler)


def take_signals(ignore_sigterm: bool = False) -> None:
    """Take back, within :func:`interruptible`, the signals that a library has taken meanwhile."""
    if threading.current_thread() is threading.main_thread():
        for number in STATUS:
            signal.signal(number, signal.SIG_IGN if ignore_sigterm and number == signal.SIGTERM else _interrupt)


_ending = False


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _ending
    if not _ending:
        _ending = True
        raise Interrupted(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
