"""simple-llm-service: models by tiers, under many names, and its shapes on the routes that it had.

A tier that is not there, or does not come up, has others who answer in its place: ``policy.tiers``.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from inglenook.config.settings import Settings, Task
from inglenook.errors import EngineStartFailed, InglenookError
from inglenook.gateway.noting import noted
from inglenook.gateway.reply import Reply
from inglenook.gateway.retelling import Kept
from inglenook.http.compress import NEVER
from inglenook.http.cors import Allowed
from inglenook.http.dialects.base import Core, Surface
from inglenook.http.edge import Handler, Routes
from inglenook.http.exchange import Departure, ErrorAnswer, Exchange
from inglenook.http.freshness import heeding
from inglenook.http.routes.models import PREFIX
from inglenook.policy.tiers import TIERS, Tiers
from inglenook.runtime.lane import Lane
from inglenook.telemetry.call import Call
from inglenook.wire import llmservice as wire
from inglenook.wire.embeddings import EmbeddingRequest
from inglenook.wire.rerank import read_rerank

EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"

# With bare quotes: within a text they would be escaped.
_MODEL = b'"model":'
_ID = re.compile(rb'"id":"(?:chat)?cmpl-([^"]+)"')

Ask = Callable[[str], Awaitable[None]]
"""Asks the model with this id."""

log = logging.getLogger("inglenook.llmservice")


class LLMServiceSurface(Surface):
    """Five tiers."""

    pages = Allowed(methods=b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT", star=True)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._tiers = Tiers(settings.models)
        self._max_body = int(settings.server.max_body_mb * 2**20)

    def routes(self, plain: Routes, core: Core) -> Routes:
        chat, completions = self._chat(core), self._completions(core)
        asking: dict[str, Handler] = {
            "/v1/chat/completions": chat,
            "/chat/completions": chat,
            "/v1/completions": completions,
            "/completions": completions,
            EMBEDDINGS: self._embeddings(core),
            RERANK: self._rerank(core),
        }
        if self.settings.cache.enabled:
            asking = {path: heeding(handler) for path, handler in asking.items()}
        return {
            **plain,
            "/health": {"GET": _health},
            "/v1/models": {"GET": self._models(core)},
            f"{PREFIX}*": {"GET": self._model(core)},
            **{path: {"POST": handler} for path, handler in asking.items()},
        }

    def present(self, error: InglenookError, call: Call) -> ErrorAnswer:
        return ErrorAnswer(wire.status(error), msgspec.json.encode(wire.error_body(error)))

    # Which models there are.

    def _models(self, core: Core) -> Handler:
        async def handle(exchange: Exchange) -> None:
            listed = core.gateway.models(exchange.call.client)
            # Models without a tier, which an operator may have added, come last.
            data = sorted(map(self._object, listed), key=lambda told: self._place(str(told["id"])))
            await exchange.json({"object": "list", "data": data})

        return handle

    def _model(self, core: Core) -> Handler:
        async def handle(exchange: Exchange) -> None:
            name = exchange.scope["path"].removeprefix(PREFIX)
            model = self._tiers.called(name, core.gateway.catalog)
            await exchange.json(self._object(core.gateway.model(exchange.call.client, model)))

        return handle

    def _object(self, told: Mapping[str, object]) -> Mapping[str, object]:
        tier = self._tiers.tiers.get(str(told["id"]))
        return told if tier is None else wire.model_object(told, tier)

    def _place(self, model: str) -> int:
        tier = self._tiers.tiers.get(model)
        return len(TIERS) if tier is None else TIERS.index(tier)

    async def _first(self, core: Core, call: Call, name: str, task: Task, ask: Ask) -> None:
        """Ask the model that ``name`` means, and those who stand in for it if it does not come up."""
        ids = self._tiers.candidates(name, task, core.gateway.catalog)
        now = time.monotonic()
        # One that failed a moment ago is asked last. (Sorting keeps the order of the others.)
        ids = sorted(ids, key=lambda model: core.gateway.lanes[model].closed_for(now) > 0)
        first: InglenookError | None = None
        said = list(call.headers)
        for model in ids:
            try:
                await ask(model)
                return
            except EngineStartFailed as failure:
                first = first or failure
                if call.answered:
                    break
                call.headers[:] = said
        assert first is not None
        raise first

    # What is asked of them.

    def _chat(self, core: Core) -> Handler:
        async def handle(exchange: Exchange) -> None:
            call = exchange.call
            request, body = wire.read_chat(await exchange.body(self._max_body))
            reply = noted(call.trace, request, body, exchange)

            async def ask(model: str) -> None:
                told = _Told(reply, model, request.model, b"chatcmpl")
                await core.talk.chat(call, replace(request, model=model), body, told)

            with Departure(exchange):
                await self._first(core, call, request.model, "chat", ask)

        return handle

    def _completions(self, core: Core) -> Handler:
        async def handle(exchange: Exchange) -> None:
            call = exchange.call
            body = await exchange.body(self._max_body)
            request = wire.read_completion(body)
            reply = noted(call.trace, request, body, exchange)

            async def ask(model: str) -> None:
                told = _Told(reply, model, request.model, b"cmpl")
                await core.talk.complete(call, replace(request, model=model), body, told)

            with Departure(exchange):
                await self._first(core, call, request.model, "chat", ask)

        return handle

    def _embeddings(self, core: Core) -> Handler:
        async def handle(exchange: Exchange) -> None:
            exchange.compress_above = NEVER
            call = exchange.call
            body = await exchange.body(self._max_body)
            asked, inputs = wire.read_embedding(body)

            async def ask(model: str) -> None:
                if not inputs.items:
                    await exchange.json(wire.nothing(asked.model))
                    return
                lane = core.gateway.lanes[model]
                request = replace(asked, model=model, dimensions=None)
                weights: wire.Weights = ()
                if lane.engine.embedder is not None:
                    made = lane.engine.embedder.kinds
                    counts = "sparse" in asked.kinds and "sparse" not in made and _is_bge_m3(lane)
                    _warn(request, {*made, "sparse"} if counts else {*made}, model)
                    request = wire.makeable(request, made)
                    if counts:
                        tokens = await core.embeddings.token_ids(call, model, inputs, exchange)
                        weights = wire.frequencies(tokens)
                fewer = asked.dimensions or lane.model.default_dimensions
                written = dataclasses.replace(inputs, written=wire.embedded(asked, fewer, weights))
                await core.vectors.embed(call, request, written, body, exchange)

            with Departure(exchange):
                await self._first(core, call, asked.model, "embed", ask)

        return handle

    def _rerank(self, core: Core) -> Handler:
        async def handle(exchange: Exchange) -> None:
            call = exchange.call
            body = await exchange.body(self._max_body)
            asked = read_rerank(body, "jina")
            name = asked.request.model or ""
            kept = Kept()

            async def ask(model: str) -> None:
                if not asked.texts:
                    return
                there = dataclasses.replace(asked, request=replace(asked.request, model=model))
                # Never from the cache: it never was.
                await core.embeddings.rerank(call, there, RERANK, body, kept)

            with Departure(exchange):
                await self._first(core, call, name, "rerank", ask)
            await exchange.json(wire.reranked(name, kept.body) if asked.texts else wire.nothing(name))

        return handle


async def _health(exchange: Exchange) -> None:
    await exchange.json(wire.health(datetime.now(UTC)))


def _is_bge_m3(lane: Lane) -> bool:
    """Whether it is BGE-M3 in a GGUF file, which has no layer for sparse embeddings: tokens are counted."""
    return lane.model.engine == "llamacpp" and "bge-m3" in lane.model.path.lower()


def _warn(asked: EmbeddingRequest, made: set[str], model: str) -> None:
    if lacking := set(asked.kinds) - made:
        left_out = " and ".join(sorted(lacking))
        log.warning("the model %s makes no %s embeddings: they are left out", model, left_out)


class _Told:
    """A reply that calls its model as the client did, with an id of 8 hex digits. Streams are whole events.

    The same answer, when it is told again, has the same id.
    """

    def __init__(self, reply: Reply, model: str, name: str, kind: bytes) -> None:
        """``kind``: what its id begins with."""
        self._reply, self._kind = reply, kind
        self._model, self._name = (_MODEL + msgspec.json.encode(each) for each in (model, name))

    def push(self, events: bytes) -> bool:
        return self._reply.push(self._changed(events))

    async def flush(self) -> None:
        await self._reply.flush()

    async def whole(self, body: bytes, content_type: bytes = b"application/json") -> None:
        await self._reply.whole(self._changed(body), content_type)

    async def end(self) -> None:
        await self._reply.end()

    def _changed(self, text: bytes) -> bytes:
        return _ID.sub(self._id, text.replace(self._model, self._name))

    def _id(self, given: re.Match[bytes]) -> bytes:
        return b'"id":"%b-%08x"' % (self._kind, zlib.crc32(given[1]))
