"""The person's side of a chat: lines in, the answer out, and everything else that is said beside it.

Only answers go to standard output. What the program says itself goes to standard error, dimmed where that
is a terminal, so that a chat whose output is redirected leaves nothing but answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TextIO

from inglenook.cli.slash import Draft

PROMPT, MORE = "> ", "… "
_DIM, _RED, _PLAIN, _ERASE = "\033[2m", "\033[31m", "\033[0m", "\r\033[K"

# What a model says may not drive the terminal: no control characters but line feed and tab.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """``text`` without the characters that a terminal would obey."""
    return text.translate(_CONTROLS)


class Terminal:
    """Owns the cursor: knows whether a notice or half a line stands there, and clears it first."""

    def __init__(self, source: TextIO, out: TextIO, err: TextIO, environ: Mapping[str, str]) -> None:
        self._source, self._out, self._err = source, out, err
        plain = environ.get("TERM") == "dumb"
        self._moves = err.isatty() and not plain
        self._colours = self._moves and not environ.get("NO_COLOR")
        self._edits = source.isatty() and out.isatty()
        self._notice = False
        self._thinking = False
        self._midline = False
        """Whether the answer's last character left the cursor in the middle of a line."""

    def message(self, *, quoted: bool = False) -> str:
        """What the person writes next, which may be several lines. Raises ``EOFError`` at Ctrl-D.

        Ctrl-D within a message of several lines sends what there is.
        """
        draft = Draft(quoted=quoted)
        prompt = MORE if quoted else PROMPT
        try:
            while not draft.add(self._line(prompt)):
                prompt = MORE
        except EOFError:
            if not draft.text:
                raise
        return draft.text

    def _line(self, prompt: str) -> str:
        if self._edits:
            return _clean(input(prompt))
        # `input` would write the prompt among the answers.
        print(prompt, end="", file=self._err, flush=True)
        line = self._source.readline()
        if not line:
            raise EOFError
        return _clean(line.removesuffix("\n"))

    def answer(self, text: str) -> None:
        """The next piece of the answer, at once."""
        self._clear()
        self._out.write(printable(text) if self._out.isatty() else text)
        self._out.flush()
        self._midline = not text.endswith("\n")

    def thought(self, text: str) -> None:
        """The next piece of what a model thinks before it answers: for the eye only."""
        if not self._moves:
            return
        if not self._thinking:
            self._clear()
            self._thinking = True
            self._style(_DIM)
        print(printable(text), end="", file=self._err, flush=True)

    def notice(self, text: str) -> None:
        """A line that stands only until something follows; terminals alone can have it."""
        if self._moves and not self._thinking and not self._midline:
            self._style(_DIM)
            print(f"{_ERASE}{text}", end="", file=self._err)
            self._style(_PLAIN)
            self._err.flush()
            self._notice = True

    def end_line(self) -> None:
        """Begin a new line, unless the cursor stands at the start of one. Idempotent."""
        self._clear()
        if self._midline:
            self._midline = False
            print(file=self._out, flush=True)

    def broken_line(self) -> None:
        """A new line after a key such as Ctrl-C, which left the cursor wherever it was."""
        print(file=self._err, flush=True)

    def note(self, text: str) -> None:
        """Something that the program says."""
        self._say(text, _DIM)

    def plain(self, text: str) -> None:
        """Something that the person asked the program for."""
        self._say(text, "")

    def error(self, text: str) -> None:
        self._say(text, _RED)

    def log(self, lines: Iterable[str]) -> None:
        """What an engine said before it failed."""
        for line in lines:
            self.note(f"  {line}")

    def _say(self, text: str, style: str) -> None:
        self.end_line()
        text = printable(text) if self._err.isatty() else text
        if style and self._colours:
            text = f"{style}{text}{_PLAIN}"
        print(text, file=self._err, flush=True)

    def _clear(self) -> None:
        if self._thinking:
            self._thinking = False
            self._style(_PLAIN)
            print(file=self._err, flush=True)
        if self._notice:
            self._notice = False
            print(_ERASE, end="", file=self._err, flush=True)

    def _style(self, code: str) -> None:
        if self._colours:
            print(code, end="", file=self._err, flush=True)


def _clean(text: str) -> str:
    """``text`` as it can be sent: bytes of the terminal that were no UTF-8 become a mark."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
