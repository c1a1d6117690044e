"""Pass one engine's answer on: bytes as they come, watched for the end, the usage and the failure."""

from __future__ import annotations

import time

from inglenook.engines.base import Engine
from inglenook.errors import EngineError, EngineLost
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
    while (data := await response.read()) is not None:
        try:
            run = events.feed(data)
        except sse.EventTooLarge:
            raise EngineError("One event of the engine's answer is too large.") from None
        if not run:
            continue
        if not call.answered:
            _note_first_byte(call)
            await reply.start()
        if b'"usage"' in run or b'"error"' in run or b"[DONE]" in run or b'"timings"' in run:
            run = watch.inspect(run)
        await reply.write(run)
        if watch.failure is not None:
            raise watch.failure
    if not watch.done:
        raise EngineLost("The engine ended before the answer was complete.")
    await reply.end()


class _Watch:
    """Looks into the few events that carry more than text."""

    def __init__(self, call: Call, engine: Engine, include_usage: bool) -> None:
        self._call, self._engine, self._include_usage = call, engine, include_usage
        self.done = False
        self.failure: EngineError | None = None

    def inspect(self, run: bytes) -> bytes:
        """What of ``run`` the client gets: everything before a failure, the usage where it belongs."""
        out: list[bytes] = []
        for payload in sse.payloads(run):
            if payload == b"[DONE]":
                self.done = True
                out.append(sse.DONE)
                break
            tail = read_tail(payload)
            if tail is None:
                self.failure = EngineError("An event of the engine's answer is not valid JSON.")
                break
            if tail.error is not None:
                self.failure = self._failed(payload)
                break
            out.extend(sse.event(part) for part in self._parts(payload, tail))
        return b"".join(out)

    def _failed(self, payload: bytes) -> EngineError:
        error = self._engine.failure(500, payload)
        return error if isinstance(error, EngineError) else EngineError(str(error), code=error.code)

    def _parts(self, payload: bytes, tail: Tail) -> list[bytes]:
        if tail.tokens is not None:
            self._call.usage = tail.tokens
        if tail.usage is None or not tail.choices:
            return [payload]
        # llama.cpp's completions put the usage beside the last choice; OpenAI gives it a chunk of its own.
        return usage_apart(payload, wanted=self._include_usage)


def _note_first_byte(call: Call) -> None:
    call.answered = True
    call.first_at = time.monotonic()
