"""One client's connection: uvicorn's, with the deadlines that it lacks and a short way for answers.

uvicorn arms a timer only between requests, so a client that sends half a header, or half a body, keeps its
connection for ever. Here every connection knows since when it has been waiting, and ``http.server`` looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from inglenook.http.asgi import Lines
from inglenook.http.exchange import DIRECT
from inglenook.runtime.outbox import Outbox, Outgoing

HEADER_SECONDS = 10.0
"""From a connection's first moment, or the first byte of a later request, to the end of its header."""
BODY_SECONDS = 20.0
"""Silence in the middle of a body."""
SEND_SECONDS = 60.0
"""A client that reads nothing for so long is cut off."""
KEEP_ALIVE_SECONDS = 75.0
MAX_HEADER_BYTES = 32 * 1024
_OK = b"HTTP/1.1 200 OK"
_CONTROLS = bytes({*range(32), 127} - {9})
"""What no header's value may have (RFC 9110, 5.5): a line's end would begin another header."""


class Direct:
    """One request's short way, as ``http.exchange.Direct`` has it: around uvicorn's ASGI, not beside it."""

    __slots__ = ("_connection", "_cycle")

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection, self._cycle = connection, cycle

    def body(self) -> bytes | None:
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected or cycle.waiting_for_100_continue:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def watch(self, left: Callable[[], None] | None) -> None:
        connection, cycle = self._connection, self._cycle
        connection.left = left
        if left is not None and (cycle.disconnected or cycle.transport.is_closing()):
            connection.loop.call_soon(left)
        # Behind a pipelined request nothing is read, and so nothing heard, before its turn.
        cycle.flow.resume_reading()

    def answer(self, headers: Lines, body: bytes) -> bool:
        cycle = self._cycle
        if not self._may_begin():
            return False
        cycle.transport.write(self._head(headers, b"content-length: %d" % len(body)) + body)
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def begin(self, headers: Lines, events: bytes) -> bool:
        cycle = self._cycle
        if not self._may_begin():
            return False
        head = self._head(headers, b"transfer-encoding: chunked")
        cycle.chunked_encoding = True
        cycle.transport.write(b"%b%x\r\n%b\r\n" % (head, len(events), events))
        return True

    def push(self, events: bytes) -> bool:
        cycle = self._cycle
        if cycle.flow.write_paused or cycle.disconnected or not cycle.chunked_encoding:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(events), events))
        return True

    def _may_begin(self) -> bool:
        cycle = self._cycle
        return cycle.keep_alive and not (
            cycle.response_started or cycle.disconnected or cycle.flow.write_paused
        )

    def _head(self, headers: Lines, last: bytes) -> bytes:
        cycle = self._cycle
        lines = [_OK, *map(b": ".join, cycle.default_headers), *headers, last, b"", b""]
        head = b"\r\n".join(lines)
        if len(head.translate(None, _CONTROLS)) != len(head) - 2 * (len(lines) - 1):
            raise RuntimeError("a header of the answer has a control character in it")
        cycle.response_started, cycle.waiting_for_100_continue = True, False
        return head


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which knows since when it has been waiting for its client."""

    reading: str = "header"
    """What we wait for: "header", "body", or "" for nothing."""
    since: float = 0.0
    """When its client was last heard of or answered, on the loop's clock."""
    stuck_since: float = 0.0
    header_bytes: int = 0
    left: Callable[[], None] | None = None
    """Who wants to be told when its client leaves."""

    def __init__(self, outbox: Outbox, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._outbox = outbox

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, Outgoing(transport, self._outbox)))
        self.since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.left is not None:
            self.left()

    def data_received(self, data: bytes) -> None:
        if self.reading == "body":
            self.since = self.loop.time()
        elif not self.reading:
            self.reading, self.since = "header", self.loop.time()
        if self.reading == "header":
            self.header_bytes += len(data)
        super().data_received(data)
        if self.header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        too_large = "The request's header is too large."
        super().send_400_response(too_large if self.header_bytes > MAX_HEADER_BYTES else msg)

    def on_headers_complete(self) -> None:
        if self.header_bytes > MAX_HEADER_BYTES and self._is_header_too_large():
            raise ValueError("a header that is too large")  # which ends the parser
        self.reading, self.header_bytes = "body", 0
        super().on_headers_complete()
        extensions = {DIRECT: Direct(self, self.cycle)}
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item]

    def _is_header_too_large(self) -> bool:
        """Of the header itself: what came with it may be the body."""
        lines = sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)
        return len(self.url) + lines > MAX_HEADER_BYTES

    def on_message_complete(self) -> None:
        self.reading = ""
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's own, but the sweep of ``http.server`` stands in for a timer after each answer."""
        self.server_state.total_requests += 1
        self.left = None
        self.since = self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def pause_writing(self) -> None:
        self.stuck_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stuck_since = 0.0
        super().resume_writing()

    def overdue(self, now: float) -> bool:
        """Whether the client has kept us waiting for too long."""
        if self.stuck_since and now - self.stuck_since > SEND_SECONDS:
            return True
        waited = now - self.since
        if self.reading:
            return waited > (HEADER_SECONDS if self.reading == "header" else BODY_SECONDS)
        return self.cycle.response_complete and waited > KEEP_ALIVE_SECONDS

    def cut(self) -> None:
        self.transport.abort()
