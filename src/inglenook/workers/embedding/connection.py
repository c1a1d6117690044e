"""HTTP/1.1 on one connection: requests in, answers out, and the moment the client is gone.

It knows nothing of models. A client that closes, or half-closes, cancels the request it waited for.
"""

import asyncio
import sys
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias, cast

import httptools

BODY_LIMIT = 256 << 20
HEADER_LIMIT = 64 << 10
JSON_TYPE = "application/json; charset=utf-8"


@dataclass(slots=True)
class Request:
    """One request, read whole."""

    method: str = ""
    path: str = ""
    body: bytes = b""
    keep_alive: bool = True


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int
    content_type: str
    parts: Sequence[bytes | memoryview]
    size: int


Handle: TypeAlias = Callable[[Request], Awaitable[Response]]


class TooLarge(Exception):
    """A head or a body over the limit."""


@dataclass
class _Reader:
    """Receives what the parser sees, and keeps the requests that are whole."""

    whole: deque[Request] = field(default_factory=deque)
    _url: bytes = b""
    _body: list[bytes] = field(default_factory=list)
    _size: int = 0
    _in_head: bool = True
    _head: int = 0

    def __post_init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """Read on; raise `TooLarge`, or `HttpParserError` for what is no HTTP."""
        # The parser keeps a header to itself until its end, so that it is here that heads are bounded.
        self._head += len(data) if self._in_head else 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as wrong:
            raise TooLarge if isinstance(wrong.__context__, TooLarge) else wrong from wrong
        if self._in_head and self._head > HEADER_LIMIT:
            raise TooLarge

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._url, self._body, self._size = b"", [], 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-length" and int(value) > BODY_LIMIT:
            raise TooLarge

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._size += len(data)
        if self._size > BODY_LIMIT:
            raise TooLarge

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0].decode("latin-1")
        method = self._parser.get_method().decode()
        body, self._body = b"".join(self._body), []
        self.whole.append(Request(method, path, body, self._parser.should_keep_alive()))
        self._in_head, self._head = True, 0


class Connection(asyncio.Protocol):
    """One connection. ``handle`` answers its requests one after another, in a task of ``group``."""

    def __init__(self, handle: Handle, group: asyncio.TaskGroup) -> None:
        self._handle = handle
        self._group = group
        self._reader = _Reader()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        # A cast, not an assertion: the transports of uvloop only quack like those of asyncio.
        self._transport = cast(asyncio.Transport, transport)
        self._task = self._group.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Read on; answer what is no HTTP, or too large, at once."""
        if self._transport.is_closing():
            return
        try:
            self._reader.feed(data)
        except TooLarge:
            self._refuse(413)
        except httptools.HttpParserError:
            self._refuse(400)
        if self._reader.whole:
            self._arrived.set()

    def eof_received(self) -> bool:
        """Take a half-close for a close."""
        self._task.cancel()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what the client waited for."""
        self._task.cancel()
        self._writable.set()

    def pause_writing(self) -> None:
        """Keep the next answer until this one has left."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let the next answer go."""
        self._writable.set()

    def _refuse(self, status: int) -> None:
        self._transport.write(_head(Response(status, JSON_TYPE, (), 0), keep_alive=False))
        self._transport.close()

    async def _serve(self) -> None:
        try:
            while await self._serve_one():
                pass
        except Exception:
            # The edge: a bug of this program must end the connection, and no other.
            sys.stderr.write(traceback.format_exc())
        finally:
            self._transport.close()

    async def _serve_one(self) -> bool:
        while not self._reader.whole:
            self._arrived.clear()
            await self._arrived.wait()
        request = self._reader.whole.popleft()
        response = await self._handle(request)
        self._transport.writelines([_head(response, keep_alive=request.keep_alive), *response.parts])
        await self._writable.wait()
        return request.keep_alive


def _head(response: Response, *, keep_alive: bool) -> bytes:
    status = f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
    life = "" if keep_alive else "Connection: close\r\n"
    kind = f"Content-Type: {response.content_type}\r\n"
    return f"{status}{kind}Content-Length: {response.size}\r\n{life}\r\n".encode()
