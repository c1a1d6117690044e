"""The HTTP server: uvicorn, with the deadlines that it lacks and an end that is an end.

uvicorn arms a timer only between requests, so a client that sends half a header, or half a body, keeps
its connection for ever. Here one sweep a second looks at every connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from inglenook.config.settings import ServerSettings
from inglenook.http.asgi import App
from inglenook.http.exchange import PUSH

HEADER_SECONDS = 10.0
"""From a connection's first moment, or the first byte of a later request, to the end of its header."""
BODY_SECONDS = 20.0
"""Silence in the middle of a body."""
SEND_SECONDS = 60.0
"""A client that reads nothing for so long is cut off."""
KEEP_ALIVE_SECONDS = 75
SWEEP_SECONDS = 1.0
MAX_HEADER_BYTES = 32 * 1024
GC_ALLOCATIONS = 20_000
"""New objects between two collections. Python's own 700 costs a twelfth of a busy server's time."""


class OneWrite:
    """A transport that sends an answer's head with what follows it: one system call, one packet."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""
        self.get_extra_info = transport.get_extra_info
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading
        self.is_closing, self.abort = transport.is_closing, transport.abort
        self.get_write_buffer_size = transport.get_write_buffer_size

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self.flush)
            return
        self._transport.write(data)

    def flush(self) -> None:
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which knows since when it has been waiting for its client."""

    reading: str = "header"
    """What we wait for: "header", "body", or "" for nothing."""
    since: float = 0.0
    stuck_since: float = 0.0
    header_bytes: int = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, OneWrite(transport, self.loop)))
        self.since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self.reading == "body":
            self.since = self.loop.time()
        elif not self.reading:
            self.reading, self.since = "header", self.loop.time()
        super().data_received(data)
        if self.reading == "header":
            self.header_bytes += len(data)
            if self.header_bytes > MAX_HEADER_BYTES:
                self.send_400_response("The request's header is too large.")

    def on_headers_complete(self) -> None:
        self.reading, self.header_bytes = "body", 0
        super().on_headers_complete()
        extensions = {PUSH: partial(_push, self.cycle)}
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item]

    def on_message_complete(self) -> None:
        self.reading = ""
        super().on_message_complete()

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
        if self.reading == "header":
            return waited > HEADER_SECONDS
        return self.reading == "body" and waited > BODY_SECONDS

    def cut(self) -> None:
        self.transport.abort()


def _push(cycle: RequestResponseCycle, events: bytes) -> bool:
    """What ``cycle.send`` does with a piece of a streamed body, without coroutine, message and wait."""
    if cycle.flow.write_paused or cycle.disconnected or not cycle.chunked_encoding:
        return False
    cycle.transport.write(b"%x\r\n%b\r\n" % (len(events), events))
    return True


class Server(uvicorn.Server):
    """uvicorn's server: signals end it in good order with exit status 0, and slow clients are cut."""

    def __init__(
        self, config: uvicorn.Config, on_end: Callable[[], None], is_over: Callable[[], bool] | None = None
    ) -> None:
        """``is_over`` is asked once a second whether to end by itself."""
        super().__init__(config)
        self._on_end, self._is_over = on_end, is_over

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again at the end, so that SIGTERM would not be exit status 0.
        loop = asyncio.get_running_loop()
        for which in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(which, self._told_to_end)
        try:
            yield
        finally:
            for which in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(which)

    async def on_tick(self, counter: int) -> bool:
        if counter % int(SWEEP_SECONDS * 10) == 0:
            self._sweep()
            if self._is_over is not None and not self.should_exit and self._is_over():
                self._told_to_end()
        return await super().on_tick(counter)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection) and connection.overdue(now):
                connection.cut()

    def _told_to_end(self) -> None:
        if self.should_exit:
            self.force_exit = True  # told twice: do not wait for streams
        self.should_exit = True
        self._on_end()


def listen(server: ServerSettings) -> socket.socket:
    """A bound socket, before anything is loaded. Raises ``OSError`` when the port is taken."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((server.host, server.port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def serve(
    app: App,
    server: ServerSettings,
    listener: socket.socket,
    on_end: Callable[[], None],
    tls: ssl.SSLContext | None = None,
    is_over: Callable[[], bool] | None = None,
) -> None:
    """Serve ``app`` until SIGTERM or SIGINT, over HTTPS with ``tls``; returns when everything has ended.

    ``on_end`` is called at the signal, before connections are drained. ``is_over``, asked once a second,
    ends it in the same way.
    """
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        loop="uvloop",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        # A float does as well as the int that its signature has.
        timeout_graceful_shutdown=server.drain_seconds,  # type: ignore[arg-type]
        backlog=2048,
        ssl_context_factory=None if tls is None else lambda *_: tls,
    )
    # What lives as long as the server is looked at by no collection, and new garbage less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    Server(config, on_end, is_over).run(sockets=[listener])
