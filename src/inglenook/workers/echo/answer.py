"""One answer being generated: limits, stop strings and whole characters.

It decides as llama-server does. No I/O and no clock: the caller asks for one token after another.
"""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from inglenook.workers.echo.tokens import piece_bytes

StopType = Literal["none", "eos", "limit", "word"]


@dataclass(frozen=True)
class Piece:
    """One token: its id, and the text that may be shown now.

    ``text`` is None while a character is incomplete: llama-server sends nothing for such a token,
    and its id is never seen in a stream. It is empty while the text could still become a stop
    string.
    """

    number: int
    text: str | None


@dataclass
class Answer:
    """One answer. Only `step` changes it; ``stop_type`` leaves "none" when it is over."""

    source: Iterator[int]
    limit: int
    """How many tokens the request allows; negative for no limit."""
    room: int
    """How many tokens the context has left after the prompt."""
    stops: Sequence[str] = ()
    ids: list[int] = field(default_factory=list)
    text: str = ""
    """All text that may be shown so far, without the stop string."""
    stop_type: StopType = "none"
    stopping_word: str = ""
    truncated: bool = False
    _held: str = ""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    @property
    def finish_reason(self) -> str:
        """Return OpenAI's word for the way the answer ended."""
        return "length" if self.stop_type == "limit" else "stop"

    def step(self) -> Piece | None:
        """Generate one token, or return None and be over. Called while ``stop_type`` is "none"."""
        number = next(self.source, None)
        if number is None:
            self.stop_type = "eos"
            return None
        self.ids.append(number)
        text = self._decoder.decode(piece_bytes(number))
        incomplete = bool(self._decoder.getstate()[0])
        shown = None if incomplete else self._show(text)
        self._check_limits()
        return Piece(number, shown)

    def flush(self) -> str:
        """Return the text held back for a stop string that did not come. For when all is over."""
        rest, self._held = self._held, ""
        self.text += rest
        return rest

    def _show(self, text: str) -> str:
        """Return what of the held text and ``text`` can be shown, and stop at a stop string."""
        self._held += text
        found = [(at, word) for word in self.stops if (at := self._held.find(word)) >= 0]
        if found:
            at, self.stopping_word = min(found)
            self._held = self._held[:at]
            self.stop_type = "word"
        elif any(_may_become(self._held, word) for word in self.stops):
            return ""
        return self.flush()

    def _check_limits(self) -> None:
        if self.stop_type != "none":
            return
        if len(self.ids) >= self.room:
            self.stop_type, self.truncated = "limit", True
        elif 0 <= self.limit <= len(self.ids):
            # A limit of 0 still gives one token: llama-server looks after it has generated.
            self.stop_type = "limit"


def _may_become(text: str, word: str) -> bool:
    """Return whether some end of ``text`` is the beginning of ``word``."""
    return any(text.endswith(word[:size]) for size in range(1, len(word)))
