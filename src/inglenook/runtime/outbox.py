"""What is written in one round of the event loop leaves together, at the beginning of the next.

A write wakes whoever reads at the other end, and takes the processor's caches with it. Done together, apart
from all else, writes spare a busy server a tenth to a sixth of its time (docs/performance.md); a lone one is
later by some microseconds. The pieces of one answer become one packet.
"""

from __future__ import annotations

import asyncio


class Outbox:
    """The transports that have something to write. One for each that writes much: a server, a channel."""

    def __init__(self) -> None:
        self._waiting: list[Outgoing] = []
        # Made before there is a loop. To ask for it costs a system call each time (``getpid``).
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, outgoing: Outgoing) -> None:
        if not self._waiting:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._flush)
        self._waiting.append(outgoing)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for outgoing in waiting:
            outgoing.flush()


class Outgoing:
    """A transport whose writes wait in an outbox. Closing it sends them, aborting it does not."""

    def __init__(self, transport: asyncio.Transport, outbox: Outbox) -> None:
        self._transport, self._outbox = transport, outbox
        self._pieces: list[bytes] = []
        self.get_extra_info = transport.get_extra_info
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading
        self.is_closing, self.abort = transport.is_closing, transport.abort

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._outbox.add(self)
        self._pieces.append(data)

    def flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def close(self) -> None:
        self.flush()
        self._transport.close()
