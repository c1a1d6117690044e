"""Embeddings and reranking: one request's journey to an engine that makes vectors, and back."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from inglenook.config.settings import LimitsSettings
from inglenook.engines.base import EngineRequest
from inglenook.errors import BadRequest
from inglenook.gateway.asking import Asking
from inglenook.gateway.gateway import Gateway, addressed
from inglenook.gateway.reply import Reply
from inglenook.policy.input_limits import check_embedding, check_rerank
from inglenook.runtime.lane import Lane
from inglenook.telemetry.call import Call
from inglenook.wire import embeddings, rerank
from inglenook.wire.embeddings import EmbeddingRequest, Inputs, check_dimensions, check_kinds
from inglenook.wire.openai import Usage
from inglenook.wire.rerank import Reranking

Tokens = Sequence[Sequence[int]]
BREATH = 1 << 18
"""Bytes of an answer after which other requests are looked at."""


class Embeddings:
    """What the HTTP surface asks for, like ``Gateway``, through which all of it goes."""

    def __init__(self, gateway: Gateway, limits: LimitsSettings) -> None:
        self._gateway, self._limits = gateway, limits
        self._native: dict[str, int] = {}
        """Model to the length of its vectors, written as answers tell it: a wrong wish is refused early."""

    async def embed(
        self, call: Call, request: EmbeddingRequest, inputs: Inputs, body: bytes, reply: Reply
    ) -> None:
        """``POST /v1/embeddings``. Raises ``InglenookError``; the edge tells the client."""
        route = self._gateway.route(call, request.model, "embed")
        check_embedding(inputs.items, inputs.place, self._limits)

        async def serve(lane: Lane) -> None:
            await self._embed(call, lane, request, inputs, addressed(body, request.model, lane, route), reply)

        await self._gateway.attempts.run(call, route, serve, reply, _no_prompt)

    async def _embed(
        self, call: Call, lane: Lane, request: EmbeddingRequest, inputs: Inputs, body: bytes, reply: Reply
    ) -> None:
        asking = self._asking(call, lane, reply)
        embedder = lane.engine.embedder
        if embedder is None:
            _note(call, await asking.relay("/v1/embeddings", body, "input"))
            return
        if native := self._native.get(lane.model.id):
            check_dimensions(request.dimensions, native)
        check_kinds(request, embedder.kinds)
        vectors = await asking.vectors(embedder, inputs.job(request), inputs.place)
        if inputs.tokens is not None:
            vectors = dataclasses.replace(vectors, tokens=inputs.tokens)
        self._native[lane.model.id] = vectors.dimension
        check_dimensions(request.dimensions, vectors.dimension)
        _note(call, vectors.tokens)
        if call.instead_of:
            request = replace(request, model=call.model)
        if request.dimensions is None and 0 < lane.model.default_dimensions < vectors.dimension:
            request = replace(request, dimensions=lane.model.default_dimensions)
        write = inputs.written or embeddings.answer
        await reply.whole(await _joined(write(request, vectors)))

    async def token_ids(self, call: Call, model: str, inputs: Inputs, reply: Reply) -> Tokens:
        """The token ids of each input, as the model with this id has them. Raises ``InglenookError``."""
        lane = self._gateway.lane(call, model, "embed")
        check_embedding(inputs.items, inputs.place, self._limits)
        embedder = lane.engine.embedder
        assert embedder is not None  # asked for only where it tells them
        asking = self._asking(call, lane, reply)
        return [
            await asking.token_ids(embedder, item) if isinstance(item, str) else item for item in inputs.items
        ]

    async def rerank(self, call: Call, asked: Reranking, path: str, body: bytes, reply: Reply) -> None:
        """``POST /v1/rerank``, ``/v2/rerank`` and ``/rerank``. Raises ``InglenookError``."""
        name = asked.request.model or self.reranker()
        route = self._gateway.route(call, name, "rerank", "embed")
        check_rerank(asked.request.query, asked.texts, asked.place, self._limits)

        async def serve(lane: Lane) -> None:
            theirs = addressed(body, asked.request.model or name, lane, route)
            await self._rerank(call, lane, asked, EngineRequest(path, theirs), reply)

        await self._gateway.attempts.run(call, route, serve, reply, _no_prompt)

    async def _rerank(
        self, call: Call, lane: Lane, asked: Reranking, given: EngineRequest, reply: Reply
    ) -> None:
        asking = self._asking(call, lane, reply)
        embedder = lane.engine.embedder
        if embedder is None:
            _note(call, await asking.relay(given.path, given.body, asked.field))
            return
        if "rerank" in lane.model.tasks:
            scores = await asking.scores(embedder, asked)
        elif "colbert" in embedder.kinds:
            scores = await asking.max_similarities(embedder, asked)
        else:
            scores = await asking.cosines(embedder, asked)
        _note(call, scores.tokens)
        name = asked.request.model or call.model
        answer = rerank.answer(asked, call.model if call.instead_of else name, scores, call.request_id)
        await reply.whole(answer)

    def _asking(self, call: Call, lane: Lane, reply: Reply) -> Asking:
        return Asking(self._gateway, call, lane, reply, self._limits.embedding_timeout_seconds)

    def reranker(self) -> str:
        """The model for a request that names none, as TEI's do: a reranker, else what embeds."""
        listed = [entry.id for entry in self._gateway.catalog.entries if entry.listed]
        lanes = [self._gateway.lanes[name] for name in listed]
        for task in ("rerank", "embed"):
            for lane in lanes:
                if task in lane.model.tasks and lane.engine.embedder is not None:
                    return lane.model.id
        raise BadRequest("This server has no reranker. Name a model.", param="model")


def _no_prompt() -> str:
    return ""  # vectors are not made faster by those that were made before


def _note(call: Call, tokens: int) -> None:
    call.usage = Usage(tokens, 0, tokens)
    call.answered = True
    call.first_at = time.monotonic()


async def _joined(pieces: Iterator[bytes]) -> bytes:
    made: list[bytes] = []
    size = 0
    for piece in pieces:
        made.append(piece)
        size += len(piece)
        if size > BREATH:
            size = 0
            await asyncio.sleep(0)
    return b"".join(made)
