"""One client's connection: uvicorn's, with the deadlines that it lacks and requests that cost less.

uvicorn arms a timer only between requests, so a client that sends half a header, or half a body, keeps its
connection for ever. Here every connection knows since when it has been waiting, and ``http.server`` looks.
What a request is from its header to its answer is ``http.cycle``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application, HTTPScope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from inglenook.http.asgi import App
from inglenook.http.cycle import Cycle
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
_OFFER = frozenset((b"upgrade", b"http2-settings"))
"""Headers of an offer to go on in another protocol, and options of ``connection`` that name them."""


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
    cycle: Cycle
    """The newest request. One that was pipelined may still wait behind another."""

    def __init__(self, outbox: Outbox, answer: App, *args: Any, **named: Any) -> None:
        """``answer``: what is asked in place of the app that ``named`` configures, which lives beside it."""
        super().__init__(*args, **named)
        self._outbox = outbox
        self.app = cast(ASGI3Application, answer)
        self._own_headers: list[tuple[bytes, bytes]] | None = None
        self._ok = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, Outgoing(transport, self._outbox)))
        self.since = self.loop.time()
        self._common: HTTPScope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
        }  # type: ignore[typeddict-item]

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
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as offer:
                    data = self._declined(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.logger.warning("a client sent what is no HTTP request")
            self.send_400_response("This is no HTTP request.")
        if self.header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("")

    def _declined(self, rest: bytes) -> bytes:
        """The request without its offer to go on in another protocol (RFC 9110, 7.8). Java's client makes one
        with each. ``rest`` is what came behind the header.

        The parser takes that for the other protocol, and the request's body with it. So a new one is to be
        given what this returns. Raises ``httptools.HttpParserError`` for what cannot be declined.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            raise httptools.HttpParserError("there is no proxy here")
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        for name, value in self.headers:
            if name == b"connection":
                options = [each.strip() for each in value.split(b",")]
                value = b", ".join(each for each in options if each.lower() not in _OFFER)
            if name not in _OFFER:
                lines.append(b"%b: %b" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join((*lines, b"", rest))

    def send_400_response(self, msg: str) -> None:
        too_large = "The request's header is too large."
        super().send_400_response(too_large if self.header_bytes > MAX_HEADER_BYTES else msg)

    def ok(self) -> bytes:
        """How a good answer begins: its status and the server's own headers, which change once a second."""
        headers = self.server_state.default_headers
        if headers is not self._own_headers:
            self._own_headers = headers
            self._ok = b"\r\n".join((b"HTTP/1.1 200 OK", *map(b": ".join, headers), b""))
        return self._ok

    # What the parser calls.

    def on_message_begin(self) -> None:
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        if self.header_bytes > MAX_HEADER_BYTES and self._is_header_too_large():
            raise ValueError("a header that is too large")  # which ends the parser
        if self.parser.should_upgrade():
            return  # ``_declined`` follows
        self.reading, self.header_bytes = "body", 0
        parser, before = self.parser, self.cycle
        version = parser.get_http_version()
        self.scope = self._scoped(version)
        self.cycle = cycle = Cycle(self, keep_alive=version != "1.0" and parser.should_keep_alive())
        self.scope["extensions"] = {DIRECT: cast(Any, cycle)}
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:  # pipelined: it has to wait for its turn
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.tell()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self.reading, cycle = "", self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.tell()

    def _scoped(self, version: str) -> HTTPScope:
        """The request's ASGI scope. Raises ``httptools.HttpParserError`` for a target that is none."""
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        scope = self._common.copy()
        scope["http_version"] = version
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"], scope["query_string"] = target.path, target.query or b""
        scope["headers"] = self.headers
        return scope

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        assert isinstance(cycle, Cycle)
        cycle.task = task = self.loop.create_task(cycle.run(cast(App, app)))
        self.tasks.add(task)

    def _is_header_too_large(self) -> bool:
        """Of the header itself: what came with it may be the body."""
        lines = sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)
        return len(self.url) + lines > MAX_HEADER_BYTES

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
