"""Pass one engine's answer on: bytes as they come, watched for the end, the usage and the failure."""

from __future__ import annotations

import time

from inglenook.engines.base import Engine
from inglenook.errors import EngineError, EngineLost, InglenookError
from inglenook.gateway.reply import Reply
from inglenook.runtime.channel import Response
from inglenook.telemetry.call import Call
from inglenook.wire import sse
from inglenook.wire.openai import Tail, read_tail, usage_apart


async def relay_whole(call: Call, engine: Engine, response: Response, reply: Reply) -> None:
    """A complete answer. Raises ``EngineLost`` if it is not, and the engine's error as ours."""
    body = await response.body()
    if response.status != 200:
        raise engine.failure(response.status, body)
    tail = read_tail(body)
    if tail is None or tail.error is not None:
        raise EngineError("The engine's answer is not valid JSON.")
    call.usage = tail.tokens
    _note_first_byte(call)
    await reply.whole(body)


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
    if response.status != 200:
        raise engine.failure(response.status, await response.body())
    if not response.headers.get(b"content-type", b"").startswith(b"text/event-stream"):
        raise EngineError("The engine's answer is not a stream of events.")
    events = sse.Events()
    watch = _Watch(call, engine, include_usage)

    def take(data: bytes) -> bool:
        run = _whole_events(events, data)
        if run:
            run = watch.inspect(run)
        room = True
        if run:
            if not call.answered:
                _note_first_byte(call)
            room = reply.push(run)
        return room and watch.failure is None

    while await response.flow(take):
        await reply.flush()
        if watch.failure is not None:
            raise watch.failure
    if not watch.done:
        raise EngineLost("The engine ended before the answer was complete.")
    await reply.end()


def _whole_events(events: sse.Events, data: bytes) -> bytes:
    try:
        return events.feed(data)
    except sse.EventTooLarge:
        raise EngineError("One event of the engine's answer is too large.") from None


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
            if tail.tokens is not None:
                self._call.usage = tail.tokens
            if tail.usage is not None and tail.choices:
                # llama.cpp's completions put the usage beside the last choice; OpenAI gives it its own chunk.
                passed += usage_apart(payload, wanted=self._include_usage)
                changed = True
            else:
                passed.append(payload)
        return b"".join(map(sse.event, passed)) if changed else run

    def _failure(self, tail: Tail | None, payload: bytes) -> InglenookError:
        if tail is None:
            return EngineError("An event of the engine's answer is not valid JSON.")
        return self._engine.failure(500, payload)


def _note_first_byte(call: Call) -> None:
    call.answered = True
    call.first_at = time.monotonic()
