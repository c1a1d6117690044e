"""Pass one request to an upstream, and its answer to the client, as they are: errors and statuses too.

Where ``attempts`` and ``relay`` look at what an upstream says, and put its failures into our words, nothing
of an answer is changed here. Tries follow a plain rule: a timeout, a broken connection, or a status that may
pass is tried again ``retries`` times, after ``backoff_seconds`` that double. The last answer is the answer.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from inglenook.errors import EngineError, EngineTimeout
from inglenook.gateway.relay import EVENTS
from inglenook.gateway.reply import Reply, send
from inglenook.gateway.retelling import Kept
from inglenook.policy.catalog import Listed, read_listing
from inglenook.policy.retry import AGAIN_STATUSES
from inglenook.runtime.channel import Response
from inglenook.runtime.lane import Route
from inglenook.runtime.upstream import Upstream
from inglenook.telemetry.call import Call
from inglenook.wire import sse
from inglenook.wire.openai import read_tail

MODELS = "/v1/models"
JSON = b"application/json"


class Answering(Reply, Protocol):
    """A reply that can have any status."""

    async def answer(self, status: int, body: bytes, headers: list[bytes]) -> None:
        """Send a complete answer."""
        ...


class Watcher(Protocol):
    """Told of every try."""

    def tried(self, path: str, seconds: float) -> None:
        """The upstream answered, whatever it was."""
        ...

    def failed(self, path: str) -> None:
        """It did not: a timeout, or no connection."""
        ...

    def again(self, path: str) -> None:
        """A further try follows."""
        ...


def passed_to(route: Route) -> Upstream | None:
    """The upstream to which all requests on a route go, if there is nothing to decide about them."""
    alone = len(route.stops) == 1 and len(route.stops[0].lanes) == 1
    return route.first.upstream if alone else None


class Passing:
    """Keeps nothing of a request."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    async def post(self, call: Call, upstream: Upstream, path: str, body: bytes, reply: Answering) -> None:
        """One ``POST``. Raises ``EngineTimeout`` and ``EngineError`` when the last try had no answer."""
        await self._run(call, upstream, _Request("POST", path, body), reply)

    async def models(self, call: Call, upstream: Upstream, reply: Answering) -> None:
        """``GET /v1/models`` of one upstream. Raises as ``post``."""
        await self._run(call, upstream, _Request("GET", MODELS), reply)

    async def listed(self, call: Call, upstream: Upstream) -> list[Listed] | None:
        """An upstream's list of models, tried for like any other answer; ``None``: it gave none."""
        kept = _Listing()
        own = Call(call.request_id, "GET", MODELS, call.began, trace=call.trace)
        try:
            await self._run(own, upstream, _Request("GET", MODELS), kept)
            return read_listing(kept.body) if kept.status == 200 else None
        except (EngineError, ValueError):
            return None

    async def _run(self, call: Call, upstream: Upstream, request: _Request, reply: Answering) -> None:
        settings = upstream.settings
        call.upstream, call.turn_at = upstream.name, time.monotonic()
        upstream.in_flight += 1
        try:
            for failed in range(settings.retries + 1):
                is_last = failed == settings.retries
                try:
                    if await self._try(call, upstream, request, reply, is_last):
                        return
                except EngineError as error:
                    upstream.failures += 1
                    self._watcher.failed(request.path)
                    if call.answered:
                        raise
                    if is_last:
                        raise _in_its_words(error, request.path) from error
                upstream.retries += 1
                self._watcher.again(request.path)
                await asyncio.sleep(settings.backoff_seconds * 2.0**failed)
        finally:
            upstream.in_flight -= 1

    async def _try(
        self, call: Call, upstream: Upstream, request: _Request, reply: Answering, is_last: bool
    ) -> bool:
        """Whether the client has its answer."""
        call.attempts += 1
        upstream.requests += 1
        began, path = time.monotonic(), request.path
        response = await upstream.channel.request(
            request.method, path, request.body, call.onward, silence=upstream.silence.get(path, 0.0)
        )
        try:
            if response.status in AGAIN_STATUSES and not is_last:
                await response.body()
                upstream.failures += 1
                self._watcher.tried(path, time.monotonic() - began)
                return False
            await _answer(call, response, reply)
            self._watcher.tried(path, time.monotonic() - began)
            return True
        finally:
            response.close()


class _Listing(Kept):
    """An answer that is kept, whatever its status."""

    status = 0

    async def answer(self, status: int, body: bytes, headers: list[bytes]) -> None:
        self.status, self.body = status, body


class _Request:
    __slots__ = ("body", "method", "path")

    def __init__(self, method: str, path: str, body: bytes = b"") -> None:
        self.method, self.path, self.body = method, path, body


def _in_its_words(error: EngineError, path: str) -> EngineError:
    if isinstance(error, EngineTimeout):
        return EngineTimeout(f"Upstream timeout on {path}")
    return EngineError(f"Upstream request failed on {path}")


async def _answer(call: Call, response: Response, reply: Answering) -> None:
    content_type = response.headers.get(b"content-type", b"")
    if call.stream and response.status == 200 and content_type.startswith(EVENTS):
        await _stream(call, response, reply, content_type)
        return
    body = await response.body()
    _note_first_byte(call)
    if response.status >= 400:
        call.outcome, call.code = "error", _code(response.status)
    elif content_type.startswith(JSON):
        _note_usage(call, body)
    headers = [b"%b: %b" % (name, response.headers[name]) for name in _KEPT if name in response.headers]
    await reply.answer(response.status, body, headers)


_KEPT = (b"content-type", b"content-encoding")


async def _stream(call: Call, response: Response, reply: Answering, content_type: bytes) -> None:
    """A stream, until it ends. Whole events only, so that an ``error`` event can follow a break."""
    events = sse.Events()
    call.stream_type = content_type if b"charset" in content_type else content_type + b"; charset=utf-8"

    def take(data: bytes) -> bool:
        try:
            run = events.feed(data)
        except sse.EventTooLarge:
            raise EngineError("One event of the upstream's answer is too large.") from None
        if not run:
            return True
        if not call.answered:
            _note_first_byte(call)
        if b'"usage"' in run or b'"timings"' in run:
            for payload in sse.payloads(run):
                _note_usage(call, payload)
        return reply.push(run)

    while await response.flow(take):
        await reply.flush()
    if events.rest:
        _note_first_byte(call)
        await send(reply, events.rest)
    if not call.answered:
        await reply.answer(200, b"", [b"content-type: " + call.stream_type])
        return
    await reply.end()


def _note_usage(call: Call, payload: bytes) -> None:
    tail = read_tail(payload)
    if tail is not None and tail.tokens is not None:
        call.usage = tail.tokens


def _note_first_byte(call: Call) -> None:
    call.answered = True
    call.first_at = call.first_at or time.monotonic()


def _code(status: int) -> str:
    return "upstream_refused" if status < 500 else "engine_error"
