"""One request's journey: resolve, wait for a turn and a ready engine, relay, account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from inglenook.config.settings import ServerSettings, Task
from inglenook.engines.base import EngineRequest
from inglenook.errors import (
    BadRequest,
    ContextLengthExceeded,
    EngineLost,
    EngineTimeout,
    ModelLoading,
    ShuttingDown,
    Unavailable,
)
from inglenook.gateway.compose import Choice, Serve, compose
from inglenook.gateway.hold import hold
from inglenook.gateway.relay import relay_stream, relay_whole
from inglenook.gateway.reply import Reply, send
from inglenook.policy.catalog import Catalog, model_object
from inglenook.runtime.channel import Channel, Idle
from inglenook.runtime.lane import Lane
from inglenook.telemetry.call import Call
from inglenook.wire import sse
from inglenook.wire.openai import ChatRequest, CompletionRequest

MAX_ATTEMPTS = 2
"""An engine that dies before its first byte is replaced and asked once more."""


class Gateway:
    """What the HTTP surface asks for. Holds no state of a request: that is the ``Call``'s."""

    def __init__(self, catalog: Catalog, lanes: Mapping[str, Lane], server: ServerSettings) -> None:
        self.catalog, self.lanes = catalog, lanes
        self._load_timeout = server.load_timeout_seconds
        self._ping = server.ping_seconds
        self._created = int(time.time())
        self.draining = False
        """Set once, by the lifespan, when the server was told to end."""

    def models(self) -> list[Mapping[str, object]]:
        """OpenAI's list of models."""
        return [model_object(entry, self._created) for entry in self.catalog.entries if entry.listed]

    def model(self, name: str) -> Mapping[str, object]:
        """One of them, by id or alias. Raises ``ModelNotFound``."""
        return model_object(self.catalog.resolve(name), self._created)

    async def chat(self, call: Call, request: ChatRequest, body: bytes, reply: Reply) -> None:
        """``POST /v1/chat/completions``. Raises ``InglenookError``; the edge tells the client."""
        lane = self.lane(call, request.model, "chat")
        call.stream = bool(request.stream)
        if (request.n or 1) == 1 or not lane.engine.one_choice:
            prepared = lane.engine.chat(lane.model, request, body)
            await self._serve(call, lane, prepared, reply, request.include_usage)
            return
        choices = []
        for index in range(request.n or 1):
            alone = _alone(body, index, request.seed)
            single = replace(request, n=None)
            prepared = lane.engine.chat(lane.model, single, alone)
            choices.append(Choice(index, 0, self._server(lane, prepared)))
        await compose(call, choices, reply, include_usage=request.include_usage)

    async def complete(self, call: Call, request: CompletionRequest, body: bytes, reply: Reply) -> None:
        """``POST /v1/completions``. Raises ``InglenookError``."""
        lane = self.lane(call, request.model, "chat")
        call.stream = bool(request.stream)
        try:
            await self._complete(call, lane, request, body, reply)
        except ContextLengthExceeded as long:
            raise ContextLengthExceeded(given=long.given, limit=long.limit, param="prompt") from None

    async def _complete(
        self, call: Call, lane: Lane, request: CompletionRequest, body: bytes, reply: Reply
    ) -> None:
        if not (lane.engine.one_choice and _needs_composing(request)):
            prepared = lane.engine.completion(lane.model, request, body)
            await self._serve(call, lane, prepared, reply, request.include_usage)
            return
        await compose(
            call,
            await self._choices(call, lane, request, body, reply),
            reply,
            include_usage=request.include_usage,
        )

    async def _choices(
        self, call: Call, lane: Lane, request: CompletionRequest, body: bytes, reply: Reply
    ) -> list[Choice]:
        choices: list[Choice] = []
        for at, prompt in enumerate(request.prompts):
            echo = await self._text(call, lane, prompt, reply) if request.echo else ""
            for _ in range(request.n or 1):
                index = len(choices)
                alone = _with(_alone(body, index, request.seed), prompt=prompt, echo=None)
                single = replace(request, n=None, prompt=prompt, echo=None)
                prepared = lane.engine.completion(lane.model, single, alone)
                shape = lane.engine.completion_shape(request, echo)
                choices.append(Choice(index, at, self._server(lane, prepared), shape))
        return choices

    async def _text(self, call: Call, lane: Lane, prompt: str | list[int], reply: Reply) -> str:
        """A prompt as text; token ids are put into words by the engine."""
        if isinstance(prompt, str):
            return prompt
        request = lane.engine.detokenize(prompt)
        if request is None:
            raise BadRequest("echo needs the prompt as text for this model", param="echo")
        channel = lane.channel or await self._ready(call, lane, reply)
        response = await channel.request("POST", request.path, request.body)
        try:
            answer = await response.body()
        finally:
            response.close()
        if response.status != 200:
            raise lane.engine.failure(response.status, answer)
        return str(msgspec.json.decode(answer)["content"])

    def lane(self, call: Call, name: str, *tasks: Task) -> Lane:
        """The way to the model called ``name``, which must be for one of ``tasks``.

        Raises ``ModelNotFound``, ``BadRequest`` and ``ShuttingDown``.
        """
        if self.draining:
            raise ShuttingDown("The server is shutting down.")
        entry = self.catalog.resolve(name)
        call.model = entry.id
        lane = self.lanes[entry.id]
        if lane.model.tasks and not set(tasks) & set(lane.model.tasks):
            is_for = " and ".join(lane.model.tasks)
            raise BadRequest(
                f"The model {entry.id!r} is there to {is_for}, not to {tasks[0]}.", param="model"
            )
        return lane

    async def ask(
        self, call: Call, lane: Lane, prepared: EngineRequest, reply: Reply, *, seconds: float
    ) -> tuple[int, bytes]:
        """One request to the model's engine, once it is ready and a turn is free: status and whole answer.

        Nothing of it has reached the client, so an engine that dies meanwhile is asked once more.
        Raises ``EngineTimeout`` after ``seconds`` of work, ``EngineLost`` and ``Unavailable``.
        """
        if not lane.turns.try_take():
            await self._turn(call, lane, reply)
        try:
            call.turn_at = call.turn_at or time.monotonic()
            for attempt in range(1, MAX_ATTEMPTS + 1):
                call.attempts = max(call.attempts, attempt)
                channel = lane.channel
                if channel is None:
                    channel = await self._ready(call, lane, reply)
                try:
                    return await _whole(channel, prepared, call.request_id, seconds)
                except EngineLost:
                    if attempt == MAX_ATTEMPTS:
                        raise
                    await lane.after_loss(channel)
            raise AssertionError("unreachable")
        finally:
            lane.turns.give()

    def _server(self, lane: Lane, prepared: EngineRequest) -> Serve:
        async def serve(call: Call, reply: Reply) -> None:
            await self._serve(call, lane, prepared, reply, False)

        return serve

    async def _serve(
        self, call: Call, lane: Lane, prepared: EngineRequest, reply: Reply, include_usage: bool
    ) -> None:
        """Take a turn, relay one answer, give the turn back. Repeats only what nobody has seen."""
        if not lane.turns.try_take():
            await self._turn(call, lane, reply)
        try:
            call.turn_at = time.monotonic()
            while True:
                call.attempts += 1
                channel = lane.channel
                if channel is None:
                    channel = await self._ready(call, lane, reply)
                if prepared.tools and not lane.takes_tools:
                    raise BadRequest(
                        "This model's chat template has no place for tools. Leave them out, or give the "
                        "model a `chat_template` that has.",
                        param="tools",
                    )
                try:
                    await self._attempt(call, lane, channel, prepared, reply, include_usage)
                    return
                except EngineLost:
                    if call.answered or call.attempts >= MAX_ATTEMPTS:
                        raise
                    await lane.after_loss(channel)
        finally:
            lane.turns.give()

    async def _attempt(
        self,
        call: Call,
        lane: Lane,
        channel: Channel,
        prepared: EngineRequest,
        reply: Reply,
        include_usage: bool,
    ) -> None:
        async def ping() -> None:
            await send(reply, sse.comment("ping"))

        idle = Idle(self._ping, ping) if call.stream else None
        response = await channel.request(
            "POST", prepared.path, prepared.body, (("x-request-id", call.request_id),), idle
        )
        try:
            if call.stream:
                await relay_stream(
                    call,
                    lane.engine,
                    response,
                    reply,
                    include_usage=include_usage,
                )
            else:
                await relay_whole(call, lane.engine, response, reply)
        finally:
            response.close()

    async def _ready(self, call: Call, lane: Lane, reply: Reply) -> Channel:
        late = ModelLoading("The model is still loading. Ask again in a few seconds.", retry_after=10)
        return await hold(
            lane.ready(), call, reply, ping_seconds=self._ping, until=self._until(call), late=late
        )

    async def _turn(self, call: Call, lane: Lane, reply: Reply) -> None:
        turn = lane.turns.ask()
        late = Unavailable("The model is busy. Ask again in a few seconds.", retry_after=5)
        try:
            await hold(turn, call, reply, ping_seconds=self._ping, until=self._until(call), late=late)
        except BaseException:
            if turn.done() and not turn.cancelled():  # granted in the very moment we gave up
                lane.turns.give()
            raise

    def _until(self, call: Call) -> float:
        return call.began + self._load_timeout


async def _whole(
    channel: Channel, prepared: EngineRequest, request_id: str, seconds: float
) -> tuple[int, bytes]:
    headers = (("x-request-id", request_id),)
    try:
        async with asyncio.timeout(seconds):
            response = await channel.request("POST", prepared.path, prepared.body, headers)
            try:
                return response.status, await response.body()
            finally:
                response.close()
    except TimeoutError:
        raise EngineTimeout(f"The model's engine took longer than {seconds:g} seconds.") from None


def _needs_composing(request: CompletionRequest) -> bool:
    several = (request.n or 1) > 1 or request.prompts != [request.prompt]
    return several or bool(request.echo) or request.logprobs is not None


def _alone(body: bytes, index: int, seed: int | None) -> bytes:
    """The body of one choice. With a seed every choice has its own, as llama.cpp counts them."""
    changed: dict[str, Any] = {"n": None, "best_of": None}
    if seed is not None:
        changed["seed"] = seed + index
    return _with(body, **changed)


def _with(body: bytes, **changed: Any) -> bytes:
    """``body`` with fields replaced, or taken out where the new value is ``None``."""
    fields: dict[str, Any] = msgspec.json.decode(body)
    fields |= changed
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})
