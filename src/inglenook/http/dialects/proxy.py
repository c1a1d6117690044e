"""The llama.cpp proxy: requests passed on as they are, its words for errors, its metrics and log lines.

All that is below ``/v1/`` counts towards a client's limit, whether it is there or not.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import PurePath
from typing import Any

import msgspec

from inglenook.config.settings import Settings, Task
from inglenook.errors import (
    BadRequest,
    Forbidden,
    InglenookError,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unprocessable,
)
from inglenook.gateway.noting import noted
from inglenook.gateway.passing import Passing, passed_to
from inglenook.http.compress import NEVER
from inglenook.http.cors import Allowed
from inglenook.http.dialects.base import Core, Surface
from inglenook.http.edge import Handler, Routes
from inglenook.http.exchange import Departure, ErrorAnswer, Exchange
from inglenook.policy.catalog import ANY, mapped_models
from inglenook.telemetry.access import Line
from inglenook.telemetry.call import Call
from inglenook.telemetry.names import METHODS, OTHER
from inglenook.wire import proxy as wire
from inglenook.wire.check import check_chat, check_completion, reader
from inglenook.wire.embeddings import read_embedding
from inglenook.wire.model_name import refuse_addresses
from inglenook.wire.openai import ChatRequest, CompletionRequest

CHAT, COMPLETIONS, EMBEDDINGS, MODELS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
)
BELOW = "/v1/"
OTHERWISE = "/v1/*"
NOWHERE = "*"
"""The route of a path that there is not."""
FILLED = ("GET", "POST", "PUT", "DELETE", "PATCH")
"""Methods that every path below ``/v1/`` has an answer to, so that it counts."""
OWNER = "llamacpp"
INTERNAL = "internal_error"
NOBODY = "anonymous"
LOGGED = ("event", "request_id", "client_id", "method", "route", "status", "latency_ms")

Local = Callable[[Exchange, bytes], Awaitable[None]]


class ProxySurface(Surface):
    """Upstreams behind keys and limits."""

    keyless = ("OPTIONS",)
    pages = Allowed(b"GET, POST, OPTIONS")
    request_ids = re.compile(rb"[\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff][\x20-\x7e\x80-\xff]*")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.presented = _presented
        self.log_line = _log_line
        self._numbers = _Numbers()
        self._passing = Passing(self._numbers)
        self._limit = str(settings.limits.requests_per_minute).encode()
        named = {model.id for model in settings.models}
        named |= {name for upstream in settings.upstreams for name in upstream.models}
        self._available = ", ".join(sorted(named - {ANY}))

    def routes(self, plain: Routes, core: Core) -> Routes:
        chat = self._posted(core, CHAT, wire.read_chat, "chat", _local_chat(core))
        completions = self._posted(core, COMPLETIONS, wire.read_completion, "chat", _local_completion(core))
        embeddings = self._posted(core, EMBEDDINGS, wire.read_embedding, "embed", _local_embedding(core))
        routes: Routes = {
            **plain,
            "/health": {"GET": _health},
            MODELS: {"GET": self._models(core)},
            CHAT: {"POST": chat},
            "/chat/completions": {"POST": chat},
            COMPLETIONS: {"POST": completions},
            "/completions": {"POST": completions},
            EMBEDDINGS: {"POST": embeddings},
            BELOW: {"GET": _nothing},
            OTHERWISE: dict.fromkeys(FILLED, _nothing),
        }
        # What is below everything else stays behind everything else: it is looked at last.
        return {
            path: _filled(methods) if path.startswith(BELOW) else methods for path, methods in routes.items()
        }

    def counted(self, routes: Routes) -> Collection[str]:
        below = [path for path in routes if path.startswith(BELOW)]
        return {*super().counted(routes), *below}

    def present(self, error: InglenookError, call: Call) -> ErrorAnswer:
        if isinstance(error, Unauthenticated):
            if call.route == NOWHERE:
                return _detail(404, "Not Found")  # only what is below /v1/ was behind keys
            call.headers += [b"x-ratelimit-limit: " + self._limit, b"x-ratelimit-remaining: " + self._limit]
            said = "Missing or invalid Authorization header" if error.is_missing else "Invalid API key"
            return _answer(401, {"error": {"message": said}})
        if isinstance(error, RateLimited):
            return _answer(429, {"error": {"message": "Rate limit exceeded", "type": error.type}})
        if isinstance(error, Forbidden) and call.method == "OPTIONS":
            return ErrorAnswer(400, b"Disallowed CORS origin", b"text/plain; charset=utf-8")
        if isinstance(error, Unprocessable):
            return _answer(422, {"detail": error.details})
        if type(error) is InglenookError:
            return _answer(500, {"error": {"message": "Internal server error"}})
        if (found := _fastapi(error, call)) is not None:
            return found
        return _answer(error.status, {"detail": str(error), **error.body()})

    def note(self, call: Call, ended: float) -> None:
        self._numbers.note(call, ended)

    def metrics(self) -> bytes:
        return self._numbers.page()

    def _posted(
        self, core: Core, path: str, read: Callable[[bytes], wire.Asked], task: Task, local: Local
    ) -> Handler:
        max_body = int(self.settings.server.max_body_mb * 2**20)

        async def handle(exchange: Exchange) -> None:
            exchange.compress_above = NEVER
            call = exchange.call
            asked = read(await exchange.body(max_body))
            try:
                route = core.gateway.route(call, asked.model, task)
            except ModelNotFound:
                raise self._unknown(asked.model) from None
            upstream = passed_to(route)
            with Departure(exchange):
                if upstream is None:
                    await local(exchange, asked.body)
                else:
                    refuse_addresses(asked.body)
                    call.stream = asked.stream
                    await self._passing.post(call, upstream, path, asked.body, exchange)

        return handle

    def _unknown(self, name: str) -> BadRequest:
        said = f"Unknown model '{name[:200]}'. Available models: {self._available}"
        return BadRequest(said, param="model", code="model_not_found")

    # GET /v1/models.

    def _models(self, core: Core) -> Handler:
        entry = core.gateway.catalog.find(ANY)
        behind = passed_to(core.gateway.routes[entry.id]) if entry is not None else None
        is_alone = not self.settings.models and len(self.settings.upstreams) == 1

        async def handle(exchange: Exchange) -> None:
            exchange.compress_above = NEVER
            if behind is not None and is_alone:
                with Departure(exchange):
                    await self._passing.models(exchange.call, behind, exchange)
                return
            with Departure(exchange):
                listed = await self._listed(core, exchange.call)
            data = [each for each in listed if _may(exchange.call, str(each["id"]))]
            await exchange.json({"object": "list", "data": data, "models": data})

        return handle

    async def _listed(self, core: Core, call: Call) -> list[dict[str, Any]]:
        lanes = [core.gateway.lanes[name] for name in core.gateway.routes if name != ANY]
        remote = [(lane.model.id, lane.upstream) for lane in lanes if lane.upstream is not None]
        lists = await asyncio.gather(*(self._passing.listed(call, upstream) for _, upstream in remote))
        asked = [
            (name, upstream.settings.url, listed)
            for (name, upstream), listed in zip(remote, lists, strict=True)
        ]
        ours = [(model.id, "", [_own(core, model.id, model.path)]) for model in self.settings.models]
        return [dict(each) for each in mapped_models([*asked, *ours])]


def _own(core: Core, name: str, path: str) -> dict[str, Any]:
    """An engine of ours, as llama.cpp's server calls itself."""
    told = core.gateway.told(name)
    return {**told, "id": PurePath(path.rpartition(":")[2]).name, "owned_by": OWNER}


def _may(call: Call, name: str) -> bool:
    return call.client.may_use(name)


async def _health(exchange: Exchange) -> None:
    await exchange.json({"status": "ok"})


async def _nothing(exchange: Exchange) -> None:
    raise NotFound("There is nothing at this path.")


def _filled(methods: dict[str, Handler]) -> dict[str, Handler]:
    allow = ", ".join(sorted(methods))

    async def refuse(exchange: Exchange) -> None:
        raise MethodNotAllowed(f"This path does not take {exchange.call.method}.", allow=allow)

    return {**dict.fromkeys(FILLED, refuse), **methods}


# Engines of our own.


def _local_chat(core: Core) -> Local:
    read = reader(ChatRequest, check_chat)

    async def serve(exchange: Exchange, body: bytes) -> None:
        call, request = exchange.call, read(body)
        await core.talk.chat(call, request, body, noted(call.trace, request, body, exchange))

    return serve


def _local_completion(core: Core) -> Local:
    read = reader(CompletionRequest, check_completion)

    async def serve(exchange: Exchange, body: bytes) -> None:
        call, request = exchange.call, read(body)
        await core.talk.complete(call, request, body, noted(call.trace, request, body, exchange))

    return serve


def _local_embedding(core: Core) -> Local:
    async def serve(exchange: Exchange, body: bytes) -> None:
        request, inputs = read_embedding(body)
        await core.vectors.embed(exchange.call, request, inputs, body, exchange)

    return serve


# Keys and errors.


def _presented(headers: dict[bytes, bytes]) -> bytes:
    """The key behind exactly ``Bearer ``; no other header counts."""
    authorization = headers.get(b"authorization", b"")
    return authorization[7:].strip() if authorization.startswith(b"Bearer ") else b""


def _answer(status: int, body: Any) -> ErrorAnswer:
    return ErrorAnswer(status, msgspec.json.encode(body))


def _detail(status: int, detail: str) -> ErrorAnswer:
    return _answer(status, {"detail": detail})


def _fastapi(error: InglenookError, call: Call) -> ErrorAnswer | None:
    """Paths and verbs that are not there, as FastAPI has them."""
    is_nowhere = isinstance(error, NotFound) and not isinstance(error, ModelNotFound)
    if is_nowhere or (isinstance(error, MethodNotAllowed) and call.route == OTHERWISE):
        return _detail(404, "Not Found")
    return _detail(405, "Method Not Allowed") if isinstance(error, MethodNotAllowed) else None


# The log.


def _log_line(line: Line) -> bytes:
    """With the names that it always had first, and what else we know behind."""
    said = msgspec.to_builtins(line)
    failed = line.code == INTERNAL
    said["event"] = "request_failed" if failed else "request_completed"
    said["client_id"] = said.pop("client", NOBODY)
    if failed:
        said["error"] = "Internal server error"
    return msgspec.json.encode({name: said.pop(name) for name in LOGGED} | said)


# Metrics.


class _Numbers:
    """Counters by the labels' values. Written in the event loop only."""

    def __init__(self) -> None:
        self._requests: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._seconds: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._count: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._retries: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._upstream_seconds: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._upstream_count: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._errors: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._limited = 0.0

    def note(self, call: Call, ended: float) -> None:
        method = call.method if call.method in METHODS else OTHER
        self._requests[call.route, method, str(call.status)] += 1
        self._seconds[call.route, method] += ended - call.began
        self._count[call.route, method] += 1
        if call.status == 429 and call.code == RateLimited.code:
            self._limited += 1
        if call.model and call.turn_at and not call.upstream:
            self._note_engine(call, ended)

    def _note_engine(self, call: Call, ended: float) -> None:
        """An engine of our own stands where an upstream stood."""
        if call.attempts > 1:
            self._retries[(call.route,)] += call.attempts - 1
        if call.code in ("engine_lost", "engine_timeout"):
            self._errors[(call.route,)] += 1
        else:
            self.tried(call.route, ended - call.turn_at)

    # What ``gateway.passing`` tells.

    def tried(self, path: str, seconds: float) -> None:
        self._upstream_seconds[(path,)] += seconds
        self._upstream_count[(path,)] += 1

    def failed(self, path: str) -> None:
        self._errors[(path,)] += 1

    def again(self, path: str) -> None:
        self._retries[(path,)] += 1

    def page(self) -> bytes:
        """Prometheus text. By hand: its library would give each counter a name that ends in ``_total``."""
        by_status, by_method, by_route = ("route", "method", "status"), ("route", "method"), ("route",)
        limited: dict[tuple[str, ...], float] = {(): self._limited}
        lines = [
            *_counter("requests_total", "Requests, by their answer.", by_status, self._requests),
            *_counter("request_latency_seconds_sum", "Time of requests.", by_method, self._seconds),
            *_counter("request_latency_seconds_count", "Requests.", by_method, self._count),
            *_counter("upstream_retries_total", "Further tries.", by_route, self._retries),
            *_counter("upstream_latency_seconds_sum", "Time of tries.", by_route, self._upstream_seconds),
            *_counter("upstream_latency_seconds_count", "Answered tries.", by_route, self._upstream_count),
            *_counter("upstream_errors_total", "Tries without an answer.", by_route, self._errors),
            *_counter("rate_limited_total", "Requests over their limit.", (), limited),
        ]
        return "".join(f"{line}\n" for line in lines).encode()


def _counter(
    name: str, words: str, labels: tuple[str, ...], values: dict[tuple[str, ...], float]
) -> Iterable[str]:
    yield f"# HELP proxy_{name} {words}"
    yield f"# TYPE proxy_{name} counter"
    for said, value in values.items():
        # Routes and methods are ours, so there is nothing to escape in them.
        inside = ",".join(f'{label}="{each}"' for label, each in zip(labels, said, strict=True))
        yield f"proxy_{name}{{{inside}}} {value!r}" if inside else f"proxy_{name} {value!r}"
