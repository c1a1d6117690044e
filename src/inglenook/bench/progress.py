"""One line on a terminal that says how far a run is."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

REDRAW_SECONDS = 0.1  # ten times a second is as much as a person sees
BAR_CELLS = 30


class Line:
    """A line that is drawn over itself, and gone when it is closed. What is no terminal gets nothing."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._is_shown = out.isatty()
        self._label, self._since, self._drawn = "", 0.0, float("-inf")

    def __call__(self, label: str, done: int, total: int) -> None:
        if not self._is_shown:
            return
        now = self._clock()
        if label != self._label:
            self._label, self._since, self._drawn = label, now, float("-inf")
        if now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            width = shutil.get_terminal_size().columns
            text = line(label, (done, total), now - self._since)
            self._out.write(f"\r\033[K{text[: width - 1]}")
            self._out.flush()

    def close(self) -> None:
        """Clear the line."""
        if self._is_shown and self._label:
            self._out.write("\r\033[K")
            self._out.flush()
        self._label = ""


def line(label: str, how_far: tuple[int, int], seconds: float) -> str:
    """What the line says; a time still to go only when there is something to judge by."""
    done, total = how_far
    share = min(1.0, done / max(1, total))
    filled = round(share * BAR_CELLS)
    text = f"{label} [{'#' * filled}{'.' * (BAR_CELLS - filled)}] {done:,} of {total:,}"
    if done and seconds > 0.5:
        speed = done / seconds
        text += f"  {speed:,.0f}/s  {(total - done) / speed:,.0f} s left"
    return text
