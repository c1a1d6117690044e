"""HTTP/1.1 on one connection: requests in, answers out, and the moment the client is gone.

It knows nothing of models. A client that closes, or half-closes, cancels the request it waited for,
as llama-server does. Bodies need a Content-Length.
"""

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

HEADER_LIMIT = 64 << 10
BODY_LIMIT = 256 << 20
JSON_TYPE = "Content-Type: application/json; charset=utf-8\r\n"
STREAM_TYPE = "Content-Type: text/event-stream\r\n"
STREAM_HEADERS = f"X-Accel-Buffering: no\r\n{STREAM_TYPE}Transfer-Encoding: chunked\r\n"


@dataclass(frozen=True)
class Request:
    """One request, read whole."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def keeps_alive(self) -> bool:
        """Return whether the client means to send more on this connection."""
        return self.headers.get("connection", "").lower() != "close"


@dataclass(frozen=True)
class Wire:
    """How bytes go out and connections end."""

    bytes_per_write: int = 0
    line_end: bytes = b"\n"
    """Ends the lines of streams; the lines of HTTP always end with CR LF."""
    close_idle_seconds: float = 0.0


class Malformed(Exception):
    """What arrived is not a request this program reads."""


class Connection(asyncio.Protocol):
    """One connection. ``handle`` answers requests one after another, in a task of ``group``."""

    def __init__(
        self,
        handle: Callable[[Request, "Reply"], Awaitable[None]],
        group: asyncio.TaskGroup,
        wire: Wire,
    ) -> None:
        self._handle = handle
        self._group = group
        self.wire = wire
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()  # Set while nothing waits to be sent.
        self._empty.set()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        assert isinstance(transport, asyncio.Transport)
        # High water 0: a write is known to have left before the next is made.
        transport.set_write_buffer_limits(high=0)
        self._transport = transport
        self._task = self._group.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Keep ``data`` for the request that is being read, or the next."""
        self._buffer += data
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what the client waited for. A half-close leads here too: asyncio closes then."""
        self._task.cancel()
        self._empty.set()

    def pause_writing(self) -> None:
        """Make `send` wait for the client to read."""
        self._empty.clear()

    def resume_writing(self) -> None:
        """Let `send` go on."""
        self._empty.set()

    # Called by `Reply`.

    async def send(self, data: bytes) -> None:
        """Hand ``data`` to the system, in pieces if so wished, and wait until it has taken all."""
        size = self.wire.bytes_per_write or len(data)
        for start in range(0, len(data), size):
            self._transport.write(data[start : start + size])
            await self._empty.wait()
            if size < len(data):
                await asyncio.sleep(0)

    def close(self) -> None:
        """Close when everything handed over has been sent."""
        self._transport.close()

    async def _serve(self) -> None:
        try:
            while await self._serve_one():
                pass
        except Malformed as wrong:
            await Reply(self, keep_alive=False).json(400, {"error": {"code": 400, "message": str(wrong)}})
        except Exception:
            # The edge: a bug of this program must end the connection, and no other.
            sys.stderr.write(traceback.format_exc())
        finally:
            self.close()

    async def _serve_one(self) -> bool:
        try:
            async with asyncio.timeout(self.wire.close_idle_seconds or None):
                head = await self._read_until(b"\r\n\r\n")
        except TimeoutError:
            return False
        request = _parse_head(head)
        length = _body_length(request)
        await self._fill(length)
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        reply = Reply(self, keep_alive=request.keeps_alive)
        await self._handle(Request(request.method, request.path, request.headers, body), reply)
        return reply.keep_alive

    async def _read_until(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > HEADER_LIMIT:
                raise Malformed("headers too large")
            await self._more()
        head = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return head

    async def _fill(self, length: int) -> None:
        while len(self._buffer) < length:
            await self._more()

    async def _more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()


class Reply:
    """The answer to one request: `json` or `whole`, or a stream of chunks up to `end_stream`."""

    def __init__(self, connection: Connection, *, keep_alive: bool) -> None:
        self._connection = connection
        self.keep_alive = keep_alive
        """Whether the connection serves another request after this answer."""
        self.began = False
        """Whether the status line has been sent."""

    async def json(self, status: int, value: Any) -> None:
        """Answer with JSON; like llama-server, close the connection after an error."""
        self.keep_alive = self.keep_alive and status < 400
        await self.whole(status, encode(value))

    async def whole(self, status: int, body: bytes, *, headers: str = JSON_TYPE, missing: int = 0) -> None:
        """Answer with ``body``, and promise ``missing`` bytes that never come."""
        await self.head_and(status, f"{headers}Content-Length: {len(body) + missing}\r\n", body)

    async def head_and(self, status: int, headers: str, data: bytes) -> None:
        """Send the head of an answer with exactly these headers, and ``data`` after it."""
        self.began = True
        line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
        head = f"{line}\r\nServer: inglenook-echo\r\n{headers}{self._life()}\r\n\r\n"
        await self._connection.send(head.encode() + data)

    async def begin_stream(self) -> None:
        """Send the head of a stream, once."""
        if not self.began:
            await self.send(b"")

    async def send(self, data: bytes) -> None:
        """Send ``data`` as one chunk of a stream, after the head if that has not been sent."""
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        await self.raw(chunk)

    async def raw(self, data: bytes) -> None:
        """Send ``data`` as it is, after the head of a stream if that has not been sent."""
        if self.began:
            await self._connection.send(data)
        else:
            await self.head_and(200, STREAM_HEADERS, data)

    async def end_stream(self) -> None:
        """Send the last chunk."""
        await self.raw(b"0\r\n\r\n")

    def event(self, data: bytes) -> bytes:
        """Return ``data`` as one event."""
        return b"data: " + data + 2 * self._connection.wire.line_end

    def comment(self, text: bytes) -> bytes:
        """Return ``text`` as one comment."""
        return b": " + text + 2 * self._connection.wire.line_end

    def _life(self) -> str:
        if not self.keep_alive:
            return "Connection: close"
        seconds = self._connection.wire.close_idle_seconds
        return f"Keep-Alive: timeout={seconds:g}" if seconds else "Connection: keep-alive"


def encode(value: Any) -> bytes:
    """Return ``value`` as compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _parse_head(head: bytes) -> Request:
    try:
        line, *fields = head.decode("latin-1").split("\r\n")
        method, target, version = line.split(" ")
        pairs = [field.split(":", 1) for field in fields]
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
    except ValueError as wrong:
        raise Malformed("not an HTTP request") from wrong
    if version == "HTTP/1.0":
        headers["connection"] = "close"
    return Request(method, target.partition("?")[0], headers, b"")


def _body_length(request: Request) -> int:
    if "transfer-encoding" in request.headers:
        raise Malformed("bodies need a Content-Length")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > BODY_LIMIT:
        raise Malformed("no usable Content-Length")
    return int(length)
