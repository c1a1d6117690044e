"""Ctrl-C in a chat: it interrupts what may be interrupted, once, and never the chat itself."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Interrupts:
    """While this context lasts, Ctrl-C is a ``KeyboardInterrupt`` in ``may_come`` alone, and one at most.

    Python's own handler would also raise it where the last one is being dealt with: keys repeat.
    """

    def __init__(self) -> None:
        self._may_come = False

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextlib.contextmanager
    def may_come(self) -> Iterator[None]:
        """The first Ctrl-C in this block raises; further ones do nothing until the next block."""
        self._may_come = True
        try:
            yield
        finally:
            self._may_come = False

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self._may_come:
            self._may_come = False
            raise KeyboardInterrupt
