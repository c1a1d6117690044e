"""HTTP/1.1 to one engine or upstream: a pool of kept connections and nothing more.

The relay's inner loop. It hands over body bytes as they came, never parses them, stops reading when its
reader is slow, and repeats a request on a fresh connection when a kept one turned out to be dead before
one byte was answered (llama.cpp closes idle connections without a word).
Foreign exceptions end here: callers see ``EngineLost`` and ``EngineError``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, cast
from urllib.parse import quote, urlsplit

import httptools

from inglenook.errors import ConnectTimeout, EngineError, EngineLost, EngineTimeout
from inglenook.runtime.outbox import Outbox, Outgoing

HIGH_WATER = 256 * 1024
"""Bytes held for a slow reader before the engine is made to wait."""
MAX_HEADER_BYTES = 64 * 1024
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 60.0
LAST_SECONDS = 1.0
"""For how long an answer that has said all may come to its end, for its connection to be kept."""
TICK_SECONDS = 1.0
MAX_IDLE = 1024
_PATH = "/%:@!$&'()*+,;=~"
"""What a URL's path may have as it is (RFC 3986, 3.3), and escapes that are there already."""


class Idle(NamedTuple):
    """What to do each time that nothing came for a while, so that nobody behind us times out."""

    seconds: float
    tell: Callable[[], Awaitable[None]]


class _StaleConnection(Exception):
    """A kept connection ended before it answered anything: the request was not taken."""


@dataclass(frozen=True)
class Address:
    """Where an engine or upstream listens, and what every request to it says."""

    host: str
    port: int = 0
    socket: str = ""
    tls: bool = False
    base: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """``http://h:p/base``, ``https://h`` or ``unix:/path``. Raises ``ValueError``."""
        if url.startswith("unix:"):
            return cls(host="localhost", socket=url.removeprefix("unix:"))
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must start with http://, https:// or unix:/")
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        return cls(host=parts.hostname, port=port, tls=tls, base=quote(parts.path.rstrip("/"), safe=_PATH))


class Response:
    """One answer: its status and headers, then its body piece by piece."""

    __slots__ = ("_connection", "headers", "status")

    def __init__(self, connection: _Connection, status: int, headers: dict[bytes, bytes]) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers
        """Names in lower case; of a repeated header, the last."""

    async def read(self) -> bytes | None:
        """All body bytes that have come since the last call, together; ``None`` at the end.

        Raises ``EngineLost`` when the connection breaks first.
        """
        return await self._connection.read()

    async def flow(self, take: Callable[[bytes], bool]) -> bool:
        """Hand body bytes to ``take`` in the very moment that they come, with no task woken for it.

        Returns ``True`` when ``take`` was given bytes and answered ``False``: call again once it can take
        more. Returns ``False`` at the end. Raises ``EngineLost``, and whatever ``take`` raises.
        """
        return await self._connection.flow(take)

    def body_now(self) -> bytes | None:
        """The whole body if it has come already: it mostly comes with the head."""
        return self._connection.read_now()

    async def body(self, limit: int = 256 << 20) -> bytes:
        """The whole body. Raises ``EngineLost``, and ``EngineError`` past ``limit`` bytes."""
        pieces: list[bytes] = []
        size = 0
        while (piece := await self._connection.read()) is not None:
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise EngineError("The engine's answer is too large.")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def said_all(self) -> None:
        """What it still has to say is its end, for which ``close`` need not wait."""
        self._connection.lingers = True

    def close(self) -> None:
        """Give the connection back if the answer was read whole, else cut it, which cancels the work."""
        self._connection.release()


class Channel:
    """Requests to one address. Owns its connections; ``close`` ends them all."""

    def __init__(
        self,
        address: Address,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        connect_seconds: float = CONNECT_SECONDS,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        """``tick_seconds``: how often silence is looked for, and so how exactly it is measured."""
        self._address = address
        self._connect_seconds, self._tick_seconds = connect_seconds, tick_seconds
        default_port = address.port in (0, 443 if address.tls else 80)
        name = f"[{address.host}]" if ":" in address.host else address.host
        host = name if default_port else f"{name}:{address.port}"
        lines = [f"host: {host}", *(f"{name}: {value}" for name, value in headers)]
        self._head = "\r\n".join(["", *lines, ""])
        self._tls = ssl.create_default_context() if address.tls else None
        self.outbox = Outbox()
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._closed = False

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        idle: Idle | None = None,
        silence: float = 0.0,
    ) -> Response:
        """Send one request and wait for the head of its answer. The caller closes the response.

        ``idle`` is told of silence before the head and between pieces of the body. After ``silence``
        seconds of it (0: none is too long) this, or reading the response, raises ``EngineTimeout``.
        Raises ``EngineLost`` when nobody is there or the connection breaks, ``ConnectTimeout``, and
        ``EngineError`` when it is there but no TLS server that we trust. Cancelling it cuts the
        connection, which is how an engine learns that nobody waits for its answer.
        """
        data = self._encode(method, path, body, headers)
        stale = False
        while True:
            connection, fresh = await self._connection(fresh=stale)
            try:
                return await connection.exchange(data, idle, silence)
            except _StaleConnection:
                if fresh:
                    raise EngineLost("The engine closed the connection without an answer.") from None
                # Once, and never down the whole row of kept connections: should each of them have
                # taken the request before it broke, the engine would do one client's work many times.
                stale = True
            except BaseException:
                connection.release()
                raise

    def close(self) -> None:
        """End every connection; answers under way fail with ``EngineLost``."""
        self._closed = True
        if self._ticker is not None:
            self._ticker.cancel()
        for connection in list(self._open):
            connection.abort()

    def _encode(self, method: str, path: str, body: bytes, headers: tuple[tuple[str, str], ...]) -> bytes:
        head = f"{method} {self._address.base}{path} HTTP/1.1{self._head}"
        for name, value in headers:
            head += f"{name}: {value}\r\n"
        if body or method == "POST":
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        return f"{head}\r\n".encode("latin-1") + body

    async def _connection(self, *, fresh: bool) -> tuple[_Connection, bool]:
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.alive:
                return connection, False
        if self._closed:
            raise EngineLost("The engine has ended.")
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await self._connect(), True
        except ssl.SSLCertVerificationError as problem:
            raise EngineError("The model's server has a certificate that we do not trust.") from problem
        except ssl.SSLError as problem:
            raise EngineError("The model's server does not speak TLS as we do.") from problem
        except TimeoutError as problem:
            if self._address.socket:
                raise EngineLost("The engine cannot be reached.") from problem
            raise ConnectTimeout(
                f"The model's server did not take a connection in {self._connect_seconds:g} seconds."
            ) from problem
        except OSError as problem:
            raise EngineLost("The engine cannot be reached.") from problem

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if self._ticker is None:
            self._ticker = loop.call_later(self._tick_seconds, self._tick)
        address = self._address

        def protocol() -> _Connection:
            return _Connection(self, loop)

        if address.socket:
            _, connection = await loop.create_unix_connection(protocol, address.socket)
        else:
            _, connection = await loop.create_connection(protocol, address.host, address.port, ssl=self._tls)
        self._open.add(connection)
        return connection

    def _tick(self) -> None:
        # One timer for all connections: a timer per read would cost more than the read.
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._open):
            connection.tick(now)
        self._ticker = None if not self._open else loop.call_later(self._tick_seconds, self._tick)

    def _kept(self, connection: _Connection) -> None:
        if self._closed or len(self._idle) >= MAX_IDLE:
            connection.abort()
        else:
            self._idle.append(connection)

    def _gone(self, connection: _Connection) -> None:
        self._open.discard(connection)


class _Connection(asyncio.Protocol):
    """One kept connection, serving one request at a time. Only the event loop touches it."""

    def __init__(self, channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        self._channel, self._loop = channel, loop
        self._parser = httptools.HttpResponseParser(self)
        self._transport: Outgoing | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._since = loop.time()
        self._idle: Idle | None = None
        self._idled = False
        self._silence = self._heard = 0.0
        self._spoke = False
        """Something came since the last tick."""
        self._busy = False
        self._take: Callable[[bytes], bool] | None = None
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._pieces: list[bytes] = []
        self._held = 0
        self._answered = self._has_head = self._complete = self.lingers = False
        self._keep = True
        self._paused = self._full = False

    # What the channel and the response ask for.

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, data: bytes, idle: Idle | None, silence: float) -> Response:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise _StaleConnection
        self._begin()
        self._busy, self._idle, self._silence = True, idle, silence
        self._spoke = True
        transport.write(data)
        while not self._has_head:
            if self._transport is None:
                if not self._answered:
                    raise _StaleConnection
                raise EngineLost("The engine ended in the middle of its answer.")
            await self._wait()
        return Response(self, self._parser.get_status_code(), self._headers)

    async def read(self) -> bytes | None:
        while True:
            if self._pieces:
                return self._taken()
            if self._complete:
                return None
            if self._transport is None:
                raise EngineLost("The engine ended in the middle of its answer.")
            await self._wait()

    def read_now(self) -> bytes | None:
        return self._taken() if self._complete and self._pieces else None

    async def flow(self, take: Callable[[bytes], bool]) -> bool:
        # What is there already, then nothing but waiting: ``data_received`` calls ``take`` meanwhile.
        while (data := await self.read()) is not None:
            if not take(data):
                return True
            self._take = take
            try:
                while not self._news():
                    await self._wait()
                    if self._full:
                        self._full = False
                        return True
            finally:
                self._take = None
        return False

    def _taken(self) -> bytes:
        pieces, self._pieces, self._held = self._pieces, [], 0
        if self._paused:
            self._resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def release(self) -> None:
        if not self._busy:
            return
        self._busy = False
        self._since = self._loop.time()
        if self._complete or not self.lingers:
            self._settle()

    def _settle(self) -> None:
        self.lingers = False
        if self._complete and self._keep and self.alive:
            self._channel._kept(self)
        else:
            self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def tick(self, now: float) -> None:
        quiet = now - self._since
        if not self._busy:
            if quiet > (LAST_SECONDS if self.lingers else IDLE_SECONDS):
                self.abort()
            return
        if self._silence:
            # Only while somebody waits for it: a slow reader of ours is not the engine's silence.
            if self._spoke or not self._is_waiting:
                self._spoke, self._heard = False, now
            elif now - self._heard >= self._silence:
                self._fail(EngineTimeout(f"The model's server sent nothing for {self._silence:g} seconds."))
                return
        if self._idle is not None and quiet >= self._idle.seconds and self._is_waiting:
            self._idled = True
            self._wake()

    def _fail(self, error: EngineError) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _wait(self) -> Awaitable[None]:
        """Until something came; silence is told, not returned."""
        if self._idle is not None:
            return self._wait_and_tell(self._idle)
        self._since = self._loop.time()
        self._waiter = self._loop.create_future()
        return self._waiter

    async def _wait_and_tell(self, idle: Idle) -> None:
        while True:
            self._since = self._loop.time()
            self._waiter = self._loop.create_future()
            await self._waiter
            if not self._idled:
                return
            self._idled = False
            await idle.tell()
            if self._news():
                return

    def _news(self) -> bool:
        return bool(self._pieces) or self._complete or self._transport is None

    @property
    def _is_waiting(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by inheritance
        self._transport = Outgoing(cast(asyncio.Transport, transport), self._channel.outbox)

    def data_received(self, data: bytes) -> None:
        self._answered = self._spoke = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keep = False
            self.abort()
            return
        if not self._busy:
            self._unasked()
        elif self._take is not None and self._pieces and self._is_waiting:
            self._hand_over(self._take)
            return
        elif self._held > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _unasked(self) -> None:
        """Bytes that nobody waits for: an answer's late end, or what we never want to hear from again."""
        self._pieces.clear()
        if self._complete or not self.lingers:
            self._keep = self._keep and self.lingers
            self._settle()

    def _hand_over(self, take: Callable[[bytes], bool]) -> None:
        self._since = self._loop.time()
        try:
            self._full = not take(self._taken())
        except Exception as failure:
            assert self._waiter is not None
            self._waiter.set_exception(failure)
            return
        if self._full or self._complete:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._has_head and not self._complete and self._ends_at_close():
            self._complete = exc is None
        self._channel._gone(self)
        self._wake()

    def _ends_at_close(self) -> bool:
        # RFC 9112, 6.3: without a length or chunks, the body ends with the connection.
        framed = b"content-length" in self._headers or b"transfer-encoding" in self._headers
        return not framed

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("header too large")
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        self._keep = self._parser.should_keep_alive()
        self._complete = True
