"""Server-sent events as they pass through: whole events only, watched but not rewritten.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

DONE = b"data: [DONE]\n\n"
MAX_EVENT = 8 << 20
"""Bytes that one event may have; an engine that sends more is out of order."""


class EventTooLarge(Exception):
    """One event passed ``MAX_EVENT``."""


class Events:
    """Cut arbitrary pieces of a stream into runs of whole events.

    A half event at the end of a broken stream is never let through, so that whatever follows it
    (an error event, say) is still readable.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The whole events that ``data`` completes, exactly as they came; ``b""`` when none.

        Raises ``EventTooLarge``.
        """
        if self._rest:
            data = self._rest + data
        if data.endswith(b"\n\n"):
            self._rest = b""
            return data
        cut = max(data.rfind(b"\n\n") + 2, data.rfind(b"\r\n\r\n") + 4)
        if cut < 4:  # neither was found: rfind's -1 leaves 1 and 3
            cut = 2 if data.startswith(b"\n\n") else 0
        self._rest = data[cut:]
        if len(self._rest) > MAX_EVENT:
            raise EventTooLarge
        return data[:cut]

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return self._rest


def payloads(run: bytes) -> Iterable[bytes]:
    """The ``data`` of each event in a run of whole events; a comment gives nothing."""
    if run.startswith(b"data: ") and run.find(b"\n", 6) == len(run) - 2:
        return (run[6:-2],)  # one event of one line, which is nearly every run
    return _payloads(run)


def _payloads(run: bytes) -> Iterator[bytes]:
    for lines in run.replace(b"\r\n", b"\n").split(b"\n\n"):
        if lines.startswith(b"data: ") and b"\n" not in lines:
            yield lines[6:]
            continue
        data = [line[5:].removeprefix(b" ") for line in lines.split(b"\n") if line.startswith(b"data:")]
        if data:
            yield b"\n".join(data)


def event(payload: bytes) -> bytes:
    """``payload`` (without newlines, as JSON is) as one event."""
    return b"data: " + payload + b"\n\n"


def comment(text: str) -> bytes:
    """A line that clients skip, so that a silent stream is known to be alive."""
    return b": " + text.encode() + b"\n\n"
