"""One answer made of several: ``n`` choices, a list of prompts, an echo.

An engine answers one prompt with one choice; llama-server's own ``n`` counts the tokens of the first
choice only. So every choice is a request of its own, takes a turn of its own, and the usage is the true sum.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from inglenook.engines.base import Shape
from inglenook.gateway.reply import Reply, send
from inglenook.telemetry.call import Call
from inglenook.wire import sse
from inglenook.wire.openai import PromptTokensDetails, Usage

Json = dict[str, Any]
Serve = Callable[[Call, Reply], Awaitable[None]]
"""Serves one choice: fills the call's usage, gives the answer to the reply."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """One choice to be made: where it stands in the answer, for which prompt, and how to get it."""

    index: int
    prompt: int
    serve: Serve
    shape: Shape | None = None
    """Rewrites the choice's answer, or each of its events, before it takes its place."""


async def compose(call: Call, choices: Sequence[Choice], reply: Reply, *, include_usage: bool) -> None:
    """Serve all ``choices`` at the same time as one answer. The first failure ends them all."""
    calls = [dataclasses.replace(call) for _ in choices]
    if call.stream:
        await _compose_stream(call, choices, calls, reply, include_usage)
    else:
        await _compose_whole(call, choices, calls, reply)


async def _compose_whole(call: Call, choices: Sequence[Choice], calls: list[Call], reply: Reply) -> None:
    gathered = [_Gathered() for _ in choices]
    await _together(
        [choice.serve(its, got) for choice, its, got in zip(choices, calls, gathered, strict=True)]
    )
    answers = [_read(got.body, choice) for choice, got in zip(choices, gathered, strict=True)]
    whole = answers[0]
    whole["choices"] = [
        answer["choices"][0] | {"index": choice.index}
        for choice, answer in zip(choices, answers, strict=True)
    ]
    whole.pop("timings", None)
    call.usage = _sum(choices, calls)
    whole["usage"] = msgspec.to_builtins(call.usage)
    _note(call, calls)
    await reply.whole(msgspec.json.encode(whole))


async def _compose_stream(
    call: Call, choices: Sequence[Choice], calls: list[Call], reply: Reply, include_usage: bool
) -> None:
    merged = _Merged(call, reply)
    await _together(
        [choice.serve(its, _Woven(merged, choice)) for choice, its in zip(choices, calls, strict=True)]
    )
    call.usage = _sum(choices, calls)
    _note(call, calls)
    if include_usage:
        last = merged.head | {"choices": [], "usage": msgspec.to_builtins(call.usage)}
        await send(reply, sse.event(msgspec.json.encode(last)))
    await send(reply, sse.DONE)
    await reply.end()


async def _together(jobs: Sequence[Awaitable[None]]) -> None:
    async def run(job: Awaitable[None]) -> None:
        await job

    try:
        async with asyncio.TaskGroup() as tasks:
            for job in jobs:
                tasks.create_task(run(job))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _read(payload: bytes, choice: Choice) -> Json:
    answer: Json = msgspec.json.decode(choice.shape(payload) if choice.shape else payload)
    return answer


def _sum(choices: Sequence[Choice], calls: Sequence[Call]) -> Usage:
    """A prompt counts once however many choices it has; every choice's tokens count."""
    prompts: dict[int, Usage] = {}
    completion = 0
    for choice, call in zip(choices, calls, strict=True):
        usage = call.usage or Usage()
        prompts.setdefault(choice.prompt, usage)
        completion += usage.completion_tokens
    prompt = sum(usage.prompt_tokens for usage in prompts.values())
    cached = sum(usage.cached_tokens for usage in prompts.values())
    return Usage(prompt, completion, prompt + completion, PromptTokensDetails(cached))


def _note(call: Call, calls: Sequence[Call]) -> None:
    call.attempts = max(its.attempts for its in calls)
    call.first_at = min(its.first_at for its in calls)
    call.turn_at = min(its.turn_at for its in calls)
    call.place, call.waited = max((its.place, its.waited) for its in calls)
    call.answered = True


class _Gathered:
    """A reply that keeps the answer."""

    def __init__(self) -> None:
        self.body = b""

    def push(self, events: bytes) -> bool:
        return True

    async def flush(self) -> None: ...

    async def whole(self, body: bytes, content_type: bytes = b"application/json") -> None:
        self.body = body

    async def end(self) -> None: ...


class _Merged:
    """What the choices of one stream share: the client, and the answer's id, time and model."""

    def __init__(self, call: Call, reply: Reply) -> None:
        self.reply = reply
        self.head: Json = {}
        self._call = call

    def push(self, events: bytes) -> bool:
        self._call.answered = True  # by one choice, and so for all: nothing may be repeated any more
        return self.reply.push(events)


class _Woven:
    """A reply that puts one choice's events into the common stream."""

    def __init__(self, merged: _Merged, choice: Choice) -> None:
        self._merged, self._choice = merged, choice

    def push(self, events: bytes) -> bool:
        out = [self._woven(payload) for payload in sse.payloads(events) if payload != b"[DONE]"]
        if out:
            return self._merged.push(b"".join(out))
        return not events.startswith(b":") or self._merged.reply.push(events)

    async def flush(self) -> None:
        await self._merged.reply.flush()

    async def whole(self, body: bytes, content_type: bytes = b"application/json") -> None: ...

    async def end(self) -> None: ...

    def _woven(self, payload: bytes) -> bytes:
        chunk = _read(payload, self._choice)
        chunk.pop("usage", None)
        chunk.pop("timings", None)
        if not self._merged.head:
            self._merged.head = {key: chunk[key] for key in chunk if key != "choices"}
        chunk |= self._merged.head
        if not chunk["choices"]:
            return b""
        for choice in chunk["choices"]:
            choice["index"] = self._choice.index
        return sse.event(msgspec.json.encode(chunk))
