"""One request's journey: resolve, wait for a turn and a ready engine, relay, account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from inglenook.config.settings import ModelSettings, ServerSettings, Task
from inglenook.engines.base import EngineRequest
from inglenook.errors import (
    BadRequest,
    ContextLengthExceeded,
    EngineLost,
    EngineTimeout,
    Forbidden,
    ModelLoading,
    ShuttingDown,
)
from inglenook.gateway.attempts import Attempts
from inglenook.gateway.compose import Choice, Serve, compose
from inglenook.gateway.hold import hold
from inglenook.gateway.relay import body_of, check_encoding, relay_stream, relay_whole
from inglenook.gateway.reply import Reply, send
from inglenook.gateway.turn import give, wait_for_turn
from inglenook.policy.balance import beginning
from inglenook.policy.catalog import ANY, Catalog, Entry, model_object, upstream_model_id
from inglenook.policy.client import Client
from inglenook.policy.cost import at_most
from inglenook.runtime.channel import Channel, Idle
from inglenook.runtime.lane import Lane, Route
from inglenook.runtime.turns import Waiting
from inglenook.telemetry.call import Call
from inglenook.wire import sse
from inglenook.wire.model_name import Addresses, refuse_addresses, with_model
from inglenook.wire.openai import ChatRequest, CompletionRequest

MAX_ATTEMPTS = 2
"""An engine that dies before its first byte is replaced and asked once more."""


class Gateway:
    """What the HTTP surface asks for. Holds no state of a request: that is the ``Call``'s."""

    def __init__(self, catalog: Catalog, routes: Mapping[str, Route], server: ServerSettings) -> None:
        self.catalog, self.routes = catalog, routes
        self.lanes = {name: route.first for name, route in routes.items()}
        """Of each model's replicas the first: our own where there is one."""
        self.attempts = Attempts(server.ping_seconds, server.load_timeout_seconds)
        self._load_timeout = server.load_timeout_seconds
        self._ping = server.ping_seconds
        self._created = int(time.time())
        self.draining = False
        """Set once, by the lifespan, when the server was told to end."""

    def add(self, entry: Entry, route: Route) -> None:
        """Take in a model that nobody has configured."""
        self.routes = {**self.routes, entry.id: route}
        self.lanes[entry.id] = route.first
        self.catalog.add(entry)

    def models(self, client: Client) -> list[Mapping[str, object]]:
        """OpenAI's list of models: those that the client may use."""
        listed = [entry for entry in self.catalog.entries if entry.listed]
        may = [entry for entry in listed if client.may_use(entry.id, entry.aliases)]
        return [self._object(entry) for entry in may] + self._of_any_name(client)

    def _of_any_name(self, client: Client) -> list[Mapping[str, object]]:
        """What the upstream of all other names says that it has."""
        entry = self.catalog.find(ANY)
        upstream = self.lanes[entry.id].upstream if entry is not None else None
        if entry is None or upstream is None:
            return []
        named = [each["id"] for each in upstream.listed or ()]
        may = [name for name in named if self.catalog.find(name) is entry and client.may_use(name, (ANY,))]
        return [model_object(Entry(name, upstream.name), self._created) for name in dict.fromkeys(may)]

    def model(self, client: Client, name: str) -> Mapping[str, object]:
        """One of them, by id or alias. Raises ``ModelNotFound`` and ``Forbidden``."""
        entry = self._allowed(client, name)
        told = self._object(entry)
        return {**told, "id": name} if entry.id == ANY else told

    def told(self, name: str) -> Mapping[str, object]:
        """OpenAI's object for a model, whoever asks. Raises ``ModelNotFound``."""
        return self._object(self.catalog.resolve(name))

    def _object(self, entry: Entry) -> Mapping[str, object]:
        told = model_object(entry, self._created)
        upstream = self.lanes[entry.id].upstream
        theirs = upstream_model_id(entry.id, upstream.listed or ()) if upstream is not None else None
        return told if theirs is None else {**told, "upstream_model_id": theirs}

    def _allowed(self, client: Client, name: str) -> Entry:
        entry = self.catalog.resolve(name)
        if not client.may_use(entry.id, (*entry.aliases, name)):
            raise Forbidden("Your API key is not for this model. GET /v1/models lists those it is for.")
        return entry

    def chat(self, call: Call, request: ChatRequest, body: bytes, reply: Reply) -> Awaitable[None]:
        """``POST /v1/chat/completions``. Raises ``InglenookError``; the edge tells the client."""
        return self.chat_on(self.route(call, request.model, "chat"), call, request, body, reply)

    def chat_on(
        self, route: Route, call: Call, request: ChatRequest, body: bytes, reply: Reply
    ) -> Awaitable[None]:
        """The same for a request whose ``route`` is known."""
        call.stream, call.at_most = bool(request.stream), at_most(request)

        def serve(lane: Lane) -> Awaitable[None]:
            theirs = addressed(body, request.model, lane, route, request)
            return self._chat(call, lane, request, theirs, reply)

        return self.attempts.run(call, route, serve, reply, partial(beginning, request))

    def _chat(
        self, call: Call, lane: Lane, request: ChatRequest, body: bytes, reply: Reply
    ) -> Awaitable[None]:
        if (request.n or 1) == 1 or not lane.engine.one_choice:
            prepared = lane.engine.chat(lane.model, request, body)
            return self._serve(call, lane, prepared, reply, request.include_usage)
        choices = []
        for index in range(request.n or 1):
            alone = _alone(body, index, request.seed)
            single = replace(request, n=None)
            prepared = lane.engine.chat(lane.model, single, alone)
            choices.append(Choice(index, 0, self._server(lane, prepared)))
        return compose(call, choices, reply, include_usage=request.include_usage)

    def complete(self, call: Call, request: CompletionRequest, body: bytes, reply: Reply) -> Awaitable[None]:
        """``POST /v1/completions``. Raises ``InglenookError``."""
        return self.complete_on(self.route(call, request.model, "chat"), call, request, body, reply)

    async def complete_on(
        self, route: Route, call: Call, request: CompletionRequest, body: bytes, reply: Reply
    ) -> None:
        """The same for a request whose ``route`` is known."""
        call.stream, call.at_most = bool(request.stream), at_most(request)

        def serve(lane: Lane) -> Awaitable[None]:
            theirs = addressed(body, request.model, lane, route, request)
            return self._complete(call, lane, request, theirs, reply)

        try:
            await self.attempts.run(call, route, serve, reply, partial(beginning, request))
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

    def chats(self, model: str) -> bool:
        """Whether the model with this id is there to chat, as far as anybody knows."""
        tasks = self.lanes[model].model.tasks
        return not tasks or "chat" in tasks

    def lane(self, call: Call, name: str, *tasks: Task) -> Lane:
        """The first place where the model called ``name`` is to be had. As ``route``."""
        return self.route(call, name, *tasks).first

    def route(self, call: Call, name: str, *tasks: Task) -> Route:
        """Where requests for the model called ``name`` go, which must be for one of ``tasks``.

        Fallbacks that are not, and those that the client may not use, are left out.
        Raises ``ModelNotFound``, ``Forbidden``, ``BadRequest`` and ``ShuttingDown``.
        """
        if self.draining:
            raise ShuttingDown("The server is shutting down.")
        entry = self._allowed(call.client, name)
        call.model = entry.id
        route = self.routes[entry.id]
        lane = route.first
        if lane.model.tasks and not set(tasks) & set(lane.model.tasks):
            is_for = " and ".join(lane.model.tasks)
            raise BadRequest(
                f"The model {entry.id!r} is there to {is_for}, not to {tasks[0]}.", param="model"
            )
        if len(route.stops) == 1:
            return route
        return route.only(lambda lane: self._stands_in(call.client, lane.model, tasks))

    def _stands_in(self, client: Client, model: ModelSettings, tasks: tuple[Task, ...]) -> bool:
        entry = self.catalog.resolve(model.id)
        is_fit = not model.tasks or not set(tasks).isdisjoint(model.tasks)
        return is_fit and client.may_use(entry.id, entry.aliases)

    async def ask(
        self, call: Call, lane: Lane, prepared: EngineRequest, reply: Reply, *, seconds: float
    ) -> Whole:
        """One request to the model's engine, once it is ready and a turn is free: its whole answer.

        Nothing of it has reached the client, so an engine of ours that dies meanwhile is asked once more.
        Raises ``EngineTimeout`` after ``seconds`` of work, ``EngineLost`` and ``Unavailable``.
        """
        waited = None if lane.turns.try_take() else await self._turn(call, lane, prepared, reply)
        since = time.monotonic()
        try:
            call.turn_at = call.turn_at or since
            call.attempts = call.attempts or 1
            for attempt in range(1, MAX_ATTEMPTS + 1):
                channel = lane.channel
                if channel is None:
                    channel = await self._ready(call, lane, reply)
                    since = time.monotonic()  # what a load takes is not what an answer takes
                try:
                    return await _whole(call, lane, channel, prepared, seconds)
                except EngineLost:
                    if attempt == MAX_ATTEMPTS or lane.upstream is not None:
                        raise
                    call.attempts += 1
                    await lane.after_loss(channel)
            raise AssertionError("unreachable")
        finally:
            if not lane.turns.try_give():
                give(call, lane, prepared, waited, since)

    def _server(self, lane: Lane, prepared: EngineRequest) -> Serve:
        async def serve(call: Call, reply: Reply) -> None:
            await self._serve(call, lane, prepared, reply, False)

        return serve

    async def _serve(
        self, call: Call, lane: Lane, prepared: EngineRequest, reply: Reply, include_usage: bool
    ) -> None:
        """Take a turn, relay one answer, give the turn back. Repeats only what nobody has seen."""
        waited = None if lane.turns.try_take() else await self._turn(call, lane, prepared, reply)
        call.turn_at = since = time.monotonic()
        try:
            call.attempts = call.attempts or 1
            for attempt in range(1, MAX_ATTEMPTS + 1):
                channel = lane.channel
                if channel is None:
                    channel = await self._ready(call, lane, reply)
                    since = time.monotonic()
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
                    if call.answered or attempt == MAX_ATTEMPTS or lane.upstream is not None:
                        raise
                    call.attempts += 1
                    await lane.after_loss(channel)
        finally:
            if not lane.turns.try_give():
                give(call, lane, prepared, waited, since)

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
            "POST", prepared.path, prepared.body, call.onward, idle, _silence(lane, prepared)
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
        until, late = call.began + self._load_timeout, _still_loading
        return await hold(lane.ready(), call, reply, ping_seconds=self._ping, until=until, late=late)

    async def _turn(self, call: Call, lane: Lane, prepared: EngineRequest, reply: Reply) -> Waiting:
        return await wait_for_turn(call, lane, prepared, reply, self._ping)


def _still_loading() -> ModelLoading:
    return ModelLoading("The model is still loading. Ask again in a few seconds.", retry_after=10)


class Whole(NamedTuple):
    """One answer, read to its end."""

    status: int
    body: bytes
    headers: Mapping[bytes, bytes]


def addressed(body: bytes, name: str, lane: Lane, route: Route, said: Addresses | None = None) -> bytes:
    """``body``, in which the client says ``name``, as it is sent to ``lane``: by the model's name there.

    ``said`` is what was decoded from it, if anything was. Raises ``BadRequest`` for a body that would tell
    an upstream whom to call.
    """
    if lane.upstream is not None:
        refuse_addresses(body if said is None else said)
    elif lane.model.id == route.model:
        return body  # an engine of ours knows one model, by whatever name
    return body if lane.model.id in (name, ANY) else with_model(body, lane.model.id)


def _silence(lane: Lane, prepared: EngineRequest) -> float:
    return 0.0 if lane.upstream is None else lane.upstream.silence.get(prepared.path, 0.0)


async def _whole(call: Call, lane: Lane, channel: Channel, prepared: EngineRequest, seconds: float) -> Whole:
    silence = _silence(lane, prepared)
    try:
        async with asyncio.timeout(seconds):
            response = await channel.request(
                "POST", prepared.path, prepared.body, call.onward, silence=silence
            )
            try:
                body = await body_of(response)
                if response.status == 200:
                    check_encoding(response.headers)
                return Whole(response.status, body, response.headers)
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
