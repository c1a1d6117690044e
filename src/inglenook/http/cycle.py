"""One request on our own server and its answer: uvicorn's, with a short way around ASGI for what is common.

uvicorn prepares each request for all that may happen to it. Here what few requests come to need stands in
the class, or is made when it is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from inglenook.http.asgi import App, Lines, Receive, Scope, Send

if TYPE_CHECKING:
    from inglenook.http.connection import Connection

_CONTROLS = bytes({*range(32), 127} - {9})
"""What no header's value may have (RFC 9110, 5.5): a line's end would begin another header."""


class Cycle(RequestResponseCycle):
    """As ``http.exchange.Direct`` has it; by ``receive`` and ``send`` too, which are uvicorn's own."""

    logger = access_logger = logging.getLogger("uvicorn.error")
    access_log = False
    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    task: asyncio.Task[None]
    _event: asyncio.Event | None = None

    def __init__(self, connection: Connection, *, keep_alive: bool) -> None:
        self._connection = connection
        self.scope, self.transport, self.flow = connection.scope, connection.transport, connection.flow
        self.on_response = connection.on_response_complete
        self.default_headers = connection.server_state.default_headers
        self.keep_alive, self.waiting_for_100_continue = keep_alive, connection.expect_100_continue
        self.body = bytearray()

    @property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]
        """Set when there is something to ``receive``. Made for the first who waits: few ever do."""
        if self._event is None:
            self._event = asyncio.Event()
            if self.body or not self.more_body:
                self._event.set()
        return self._event

    def tell(self) -> None:
        """There is something to ``receive``."""
        if self._event is not None:
            self._event.set()

    async def run(self, app: App) -> None:
        """Have the request answered, whatever happens."""
        connection = self._connection
        try:
            await app(cast(Scope, self.scope), cast(Receive, self.receive), cast(Send, self.send))
        except Exception:
            self.logger.exception("a request failed in a way that we did not foresee")
            if not self.response_started:
                await self.send_500_response()
        finally:
            if not (self.response_complete or self.disconnected):
                self.transport.close()
            connection.tasks.discard(self.task)
            # Both know of the connection, which knows of us: no circle is left for a garbage collection.
            self.on_response = _nothing
            del self._connection

    # The short way.

    def taken(self) -> bytes | None:
        if self.more_body or self.disconnected or self.waiting_for_100_continue:
            return None
        body, self.body = bytes(self.body), bytearray()
        return body

    def watch(self, left: Callable[[], None] | None) -> None:
        connection = self._connection
        connection.left = left
        if left is not None and (self.disconnected or self.transport.is_closing()):
            connection.loop.call_soon(left)
        # Behind a pipelined request nothing is read, and so nothing heard, before its turn.
        self.flow.resume_reading()

    def answer(self, headers: Lines, allowance: bytes, body: bytes) -> bool:
        if not self._may_begin():
            return False
        head = self._head(headers, b"content-length: %d" % len(body))
        self.transport.write(b"".join((self._connection.ok(), allowance, head, body)))
        self.response_complete = True
        self.tell()
        self.on_response()
        return True

    def begin(self, headers: Lines, allowance: bytes, events: bytes) -> bool:
        if not self._may_begin():
            return False
        head = self._head(headers, b"transfer-encoding: chunked")
        self.chunked_encoding = True
        begun = self._connection.ok()
        self.transport.write(b"%b%b%b%x\r\n%b\r\n" % (begun, allowance, head, len(events), events))
        return True

    def push(self, events: bytes) -> bool:
        if self.flow.write_paused or self.disconnected or not self.chunked_encoding:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(events), events))
        return True

    def _may_begin(self) -> bool:
        return self.keep_alive and not (self.response_started or self.disconnected or self.flow.write_paused)

    def _head(self, headers: Lines, last: bytes) -> bytes:
        lines = [*headers, last, b"", b""]
        head = b"\r\n".join(lines)
        if len(head.translate(None, _CONTROLS)) != len(head) - 2 * (len(lines) - 1):
            raise RuntimeError("a header of the answer has a control character in it")
        self.response_started, self.waiting_for_100_continue = True, False
        return head


def _nothing() -> None:
    """Nobody is to be told any more."""
