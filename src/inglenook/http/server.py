"""The HTTP server: uvicorn, with one sweep a second over its connections, and an end that is an end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, cast

import uvicorn

from inglenook.config.settings import ServerSettings
from inglenook.http.asgi import App, Receive, Scope, Send
from inglenook.http.connection import Connection
from inglenook.runtime.outbox import Outbox

SWEEP_SECONDS = 1.0
ENDING = (signal.SIGINT, signal.SIGTERM)
"""What tells the server to end."""
GC_ALLOCATIONS = 20_000
"""New objects between two collections. Python's own 700 costs a twelfth of a busy server's time."""


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
        before = {which: signal.getsignal(which) for which in ENDING}
        for which in ENDING:
            loop.add_signal_handler(which, self._told_to_end)
        try:
            yield
        finally:
            for which, handler in before.items():
                loop.remove_signal_handler(which)
                signal.signal(which, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn would leave the lifespan to be cancelled, which it logs as a failure.
            await self.lifespan.shutdown()

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


class Served(Protocol):
    """An app, whose ``edge`` alone is asked once its lifespan has begun: nothing else is left to do then."""

    @property
    def edge(self) -> App: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


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
    app: Served,
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
        http=cast(type[asyncio.Protocol], partial(Connection, Outbox(), app.edge)),
        ws="none",
        lifespan="on",
        loop="inglenook.http.tls:Loop",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
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
