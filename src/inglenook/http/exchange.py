"""One HTTP request over ASGI: the body in, the reply out, and whether anybody still listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from inglenook.errors import BodyTooLarge, InglenookError
from inglenook.gateway import reply
from inglenook.gateway.reply import DONE
from inglenook.http.asgi import Lines, Receive, Scope, Send
from inglenook.http.compress import ABOVE, compressed
from inglenook.telemetry.call import Call
from inglenook.wire import sse

WATCH_AFTER = 0.02
"""Seconds until we look whether the client left: most answers that are quick need no watcher."""


DIRECT = "inglenook.direct"
"""The ASGI extension under which our own server has a request's ``Direct``."""


class Direct(Protocol):
    """What ``receive`` and ``send`` do, in one step each. What cannot be done so now goes ASGI's way."""

    task: asyncio.Task[None]
    """What answers the request."""

    def taken(self) -> bytes | None:
        """The whole body of the request, once; ``None``: it is not there yet."""
        ...

    def watch(self, left: Callable[[], None] | None) -> None:
        """Have ``left`` called when the client has gone, until the answer is complete; ``None``: nobody."""
        ...

    def answer(self, headers: Lines, allowance: bytes, body: bytes) -> bool:
        """Send a complete answer with status 200, whose length it adds to the headers. Whether it did.

        ``allowance``: more of them, whole lines with their ends.
        """
        ...

    def begin(self, headers: Lines, allowance: bytes, events: bytes) -> bool:
        """Begin an answer with status 200 by its first events. Headers as in ``answer``. Whether it did."""
        ...

    def push(self, events: bytes) -> bool:
        """Send a further piece of a begun answer. Whether it did."""
        ...


class ErrorAnswer(NamedTuple):
    """An error as one API has it, beside the headers that are the error's own."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"


Present = Callable[[InglenookError, Call], ErrorAnswer]


def openai_error(error: InglenookError, call: Call) -> ErrorAnswer:
    """OpenAI's envelope."""
    return ErrorAnswer(error.status, msgspec.json.encode(error.body()))


# Keeps nginx and its like from gathering events into batches.
_STREAMED = (b"cache-control: no-cache", b"x-accel-buffering: no")


class Exchange:
    """Reads the request, sends the answer (it is the ``Reply`` of a ``Call``), notes the status."""

    compress_above = ABOVE
    """Bytes from which on the whole answer is compressed, if its client takes that."""

    def __init__(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send, call: Call
    ) -> None:
        self.scope, self.call = scope, call
        self.headers = headers
        """The request's headers by their names in lower case; the last where there are several of one."""
        self._receive, self._send = receive, send
        self._request_id = b"x-request-id: " + call.request_id.encode("latin-1")
        self.started = False
        # Taken out: with the scope in it, the two would keep each other until a garbage collection.
        self._direct: Direct | None = scope.get("extensions", {}).pop(DIRECT, None)
        self._kept: list[bytes] = []
        """Events of which ``push`` said that they wait for ``flush``."""
        self.present: Present = openai_error
        """An error as the called API has it. A handler of another API than OpenAI's puts its own here."""

    @property
    def query(self) -> bytes:
        return bytes(self.scope["query_string"])

    async def body(self, limit: int) -> bytes:
        """The whole request body. Raises ``BodyTooLarge`` past ``limit`` bytes, before reading on."""
        body = self.body_now(limit)
        return await self._pieces(limit) if body is None else body

    def body_now(self, limit: int) -> bytes | None:
        """The same, once, if it is there already; it mostly is, and nothing need be awaited."""
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        body = None if self._direct is None else self._direct.taken()
        if body is not None and len(body) > limit:
            raise _too_large(limit)
        return body

    async def _pieces(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece = message.get("body", b"")
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            pieces.append(piece)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def task(self) -> asyncio.Task[Any]:
        """What answers the request: the task that asks."""
        if self._direct is not None:
            return self._direct.task
        task = asyncio.current_task()
        assert task is not None
        return task

    def watch(self, left: Callable[[], None] | None) -> bool:
        """Have ``left`` called when the client leaves. ``False``: only ``until_client_leaves`` can tell."""
        if self._direct is None:
            return False
        self._direct.watch(left)
        return True

    async def until_client_leaves(self) -> None:
        """Returns when the client has gone. To be called once the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    # The Reply of a Call.

    def push(self, events: bytes) -> bool:
        if self.started and not self._kept and self._direct is not None and self._direct.push(events):
            return True
        self._kept.append(events)
        return False

    async def flush(self) -> None:
        if not self._kept:
            return
        events, self._kept = b"".join(self._kept), []
        if not self.started:
            headers = self._head(200, [b"content-type: " + self.call.stream_type, *_STREAMED])
            if self._direct is not None and self._direct.begin(headers, self.call.allowance, events):
                return
            await self._start(200, headers)
        await self._send({"type": "http.response.body", "body": events, "more_body": True})

    def whole(self, body: bytes, content_type: bytes = b"application/json") -> Awaitable[None]:
        headers = [b"content-type: " + content_type]
        if self._direct is None or len(body) >= self.compress_above or self.call.method == "HEAD":
            return self.answer(200, body, headers)
        if self._direct.answer(self._head(200, headers), self.call.allowance, body):
            return DONE
        return self.answer(200, body, headers)

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    # What routes and the edge use beside it.

    async def json(self, value: Any, status: int = 200) -> None:
        await self.answer(status, msgspec.json.encode(value), [b"content-type: application/json"])

    async def answer(self, status: int, body: bytes, headers: Lines) -> None:
        if len(body) >= self.compress_above:
            body, headers = await compressed(self.headers.get(b"accept-encoding", b""), body, headers)
        headers = self._head(status, headers)
        is_head = self.call.method == "HEAD"
        direct = self._direct if status == 200 and not is_head else None
        if direct is not None and direct.answer(headers, self.call.allowance, body):
            return
        headers.append(b"content-length: %d" % len(body))
        await self._start(status, headers)
        await self._send({"type": "http.response.body", "body": b"" if is_head else body})

    async def fail(self, error: InglenookError) -> None:
        """The error's own status and envelope; in a begun stream, a last event without ``[DONE]``."""
        self.call.outcome, self.call.code = "error", error.code
        answer = self.present(error, self.call)
        if self.started:
            await reply.send(self, sse.event(answer.body))
            await self.end()
            return
        headers = [b"content-type: " + answer.content_type, *error.headers()]
        if isinstance(error, BodyTooLarge):  # the rest of the body was not read
            headers.append(b"connection: close")
        await self.answer(answer.status, answer.body, headers)

    async def _start(self, status: int, headers: Lines) -> None:
        """Begin the answer ASGI's way, which has a header as a name and a value."""
        lines = [*headers, *self.call.allowance.splitlines()]
        pairs = [tuple(header.split(b": ", 1)) for header in lines]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    def _head(self, status: int, headers: Lines) -> Lines:
        """All headers of an answer that begins now."""
        self.started = True
        self.call.status = status
        return [*headers, *self.call.headers, self._request_id]


class ClientLeft(Exception):
    """The client closed its connection; nobody waits for an answer."""


class Departure:
    """Cancels the current task when the client leaves: its turn is free and its engine stops at once.

    Unless others wait for the same answer: then the task goes on for them, and only its own reply is lost.
    A context manager around the serving of a request whose body was read.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.noticed = False
        self._stays = False

    def __enter__(self) -> Departure:
        self._task = self._exchange.task
        if not self._exchange.watch(self._left):
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER, self._watch)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: object, trace: object) -> None:
        self._exchange.watch(None)
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self.noticed and kind is asyncio.CancelledError and self._task.uncancel() == 0:
            raise ClientLeft from None
        if self._stays and kind is not asyncio.CancelledError:
            raise ClientLeft from None

    def _watch(self) -> None:
        # Owned by this block: it is cancelled on every way out of it.
        self._watcher = asyncio.get_running_loop().create_task(self._exchange.until_client_leaves())
        self._watcher.add_done_callback(self._watched)

    def _watched(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled() and watcher.exception() is None:
            self._left()

    def _left(self) -> None:
        self.noticed = True
        departed = self._exchange.call.departed
        self._stays = departed is not None and departed(self._task.cancel)
        if not self._stays:
            self._task.cancel()


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is larger than {limit / 2**20:g} MiB. Send less, or raise server.max_body_mb."
    )
