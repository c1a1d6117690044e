"""Pass one engine's answer on: bytes as they come, watched for the end, the usage and the failure."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Mapping
from typing import Any

from inglenook.engines.base import Engine
from inglenook.errors import EngineError, EngineLost, InglenookError, Said, Unavailable, UpstreamRefused
from inglenook.gateway.reply import Reply
from inglenook.policy.retry import retry_after
from inglenook.runtime.channel import Response
from inglenook.telemetry.call import Call
from inglenook.wire import sse
from inglenook.wire.openai import Tail, read_tail, usage_apart

JSON = b"application/json"
EVENTS = b"text/event-stream"
LARGEST_ERROR = 1 << 20


async def relay_whole(call: Call, engine: Engine, response: Response, reply: Reply) -> None:
    """A complete answer. Raises ``EngineLost`` if it is not, and the engine's error as ours."""
    body = response.body_now()
    if body is None:
        body = await body_of(response)
    if response.status != 200:
        raise refused(engine, response.status, response.headers, body)
    check_encoding(response.headers)
    tail = read_tail(body)
    if tail is None:
        raise EngineError("The engine's answer is not valid JSON.")
    if tail.error is not None:
        raise failed(call, engine, tail.error, body)
    call.usage = tail.tokens
    _note_first_byte(call)
    await reply.whole(body, json_type(response.headers) if call.upstream else JSON)


async def relay_stream(
    call: Call,
    engine: Engine,
    response: Response,
    reply: Reply,
    *,
    include_usage: bool,
) -> None:
    """A stream of events, until ``[DONE]``. Raises ``EngineLost`` when it breaks off before.

    Only whole events go out, so an ``error`` event can always follow.
    """
    await _check_head(call, engine, response)
    events = sse.Events()
    watch = _Watch(call, engine, include_usage)

    def take(data: bytes) -> bool:
        try:
            run = events.feed(data)
        except sse.EventTooLarge:
            raise EngineError("One event of the engine's answer is too large.") from None
        if run:
            run = watch.inspect(run)
        room = True
        if run:
            if not call.answered:
                _note_first_byte(call)
            room = reply.push(run)
        return room and watch.failure is None and not watch.done

    while not watch.done and await response.flow(take):
        await reply.flush()
        if watch.failure is not None:
            raise watch.failure
    if not watch.done:
        raise EngineLost("The engine ended before the answer was complete.")
    response.said_all()
    await reply.end()


def body_of(response: Response) -> Awaitable[bytes]:
    """The whole body; of an error, which is never long, no more than ``LARGEST_ERROR``."""
    return response.body() if response.status == 200 else response.body(LARGEST_ERROR)


async def _check_head(call: Call, engine: Engine, response: Response) -> None:
    if response.status != 200:
        raise refused(engine, response.status, response.headers, await body_of(response))
    check_encoding(response.headers)
    content_type = response.headers.get(b"content-type", b"")
    if not content_type.startswith(EVENTS):
        body = await response.body() if content_type.startswith(JSON) else b""
        tail = read_tail(body)
        if tail is not None and tail.error is not None:
            raise failed(call, engine, tail.error, body)
        raise EngineError("The engine's answer is not a stream of events.")
    if call.upstream:
        call.stream_type = content_type


def refused(engine: Engine, status: int, headers: Mapping[bytes, bytes], body: bytes) -> InglenookError:
    """An engine's answer that is an error, as ours, with what it said about another try."""
    after = retry_after(str(headers.get(b"retry-after", b""), "latin-1"), time.time())
    return _noted(engine.failure(status, body), Said(status, after))


def _noted(error: InglenookError, said: Said) -> InglenookError:
    error.said = said
    if said.retry_after is not None and isinstance(error, Unavailable | UpstreamRefused):
        error.retry_after = max(1, math.ceil(said.retry_after))
    return error


def check_encoding(headers: Mapping[bytes, bytes]) -> None:
    """Raise ``EngineError`` for a compressed answer: we never ask for one, so nobody could read it."""
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise EngineError("The engine's answer has an encoding that nobody asked for.")


def json_type(headers: Mapping[bytes, bytes]) -> bytes:
    """The content type as the answer has it; corrected where not of JSON, lest a browser show a page."""
    content_type = headers.get(b"content-type", b"")
    return content_type if content_type.startswith(JSON) else JSON


class _Watch:
    """Reads along: every event is looked at, few are changed.

    Decoding an event's outline costs less than searching it for the words that would make it interesting.
    """

    def __init__(self, call: Call, engine: Engine, include_usage: bool) -> None:
        self._call, self._engine, self._include_usage = call, engine, include_usage
        self.done = False
        self.failure: InglenookError | None = None

    def inspect(self, run: bytes) -> bytes:
        """What of ``run`` the client gets: its own bytes, unless an event in it fails or has to change."""
        passed: list[bytes] = []
        changed = False
        for payload in sse.payloads(run):
            if payload == b"[DONE]":
                self.done = True
                passed.append(payload)
                break
            tail = read_tail(payload)
            if tail is None or tail.error is not None:
                # With nothing sent yet it still becomes a status of its own.
                self.failure = self._failure(tail, payload)
                changed = True
                break
            if tail.usage is not None or tail.timings is not None:
                self._call.usage = tail.tokens
            if tail.usage is not None and tail.choices and not self._call.upstream:
                # llama.cpp's completions put the usage beside the last choice; OpenAI gives it its own chunk.
                passed += usage_apart(payload, wanted=self._include_usage)
                changed = True
            else:
                passed.append(payload)
        return b"".join(map(sse.event, passed)) if changed else run

    def _failure(self, tail: Tail | None, payload: bytes) -> InglenookError:
        if tail is None:
            return EngineError("An event of the engine's answer is not valid JSON.")
        return failed(self._call, self._engine, tail.error, payload)


def failed(call: Call, engine: Engine, error: Any, payload: bytes) -> InglenookError:
    """An error that came behind status 200. Some servers say in its code what the status would have been."""
    code = error.get("code") if call.upstream and isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return _noted(engine.failure(status, payload), Said(status))


def _note_first_byte(call: Call) -> None:
    call.answered = True
    call.first_at = time.monotonic()
