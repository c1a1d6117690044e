"""Embeddings and reranking: one request's journey to an engine that makes vectors, and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from inglenook.config.settings import LimitsSettings
from inglenook.errors import BadRequest
from inglenook.gateway.asking import Asking
from inglenook.gateway.gateway import Gateway
from inglenook.gateway.reply import Reply
from inglenook.policy.input_limits import check_embedding, check_rerank
from inglenook.runtime.lane import Lane
from inglenook.telemetry.call import Call
from inglenook.wire import embeddings, rerank
from inglenook.wire.embeddings import EmbeddingRequest, Inputs, check_dimensions, check_kinds
from inglenook.wire.openai import Usage
from inglenook.wire.rerank import Reranking

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
        lane = self._gateway.lane(call, request.model, "embed")
        check_embedding(inputs.items, inputs.place, self._limits)
        asking = self._asking(call, lane, reply)
        embedder = lane.engine.embedder
        if embedder is None:
            _note(call, await asking.relay("/v1/embeddings", body, "input"))
            return
        if native := self._native.get(lane.model.id):
            check_dimensions(request.dimensions, native)
        check_kinds(request, embedder.kinds)
        vectors = await asking.vectors(embedder, inputs.job(request), inputs.place)
        self._native[lane.model.id] = vectors.dimension
        check_dimensions(request.dimensions, vectors.dimension)
        _note(call, vectors.tokens)
        await reply.whole(await _joined(embeddings.answer(request, vectors)))

    async def rerank(self, call: Call, asked: Reranking, path: str, body: bytes, reply: Reply) -> None:
        """``POST /v1/rerank``, ``/v2/rerank`` and ``/rerank``. Raises ``InglenookError``."""
        name = asked.request.model or self._reranker()
        lane = self._gateway.lane(call, name, "rerank", "embed")
        check_rerank(asked.request.query, asked.texts, asked.place, self._limits)
        asking = self._asking(call, lane, reply)
        embedder = lane.engine.embedder
        if embedder is None:
            _note(call, await asking.relay(path, body, asked.field))
            return
        if "rerank" in lane.model.tasks:
            scores = await asking.scores(embedder, asked)
        elif "colbert" in embedder.kinds:
            scores = await asking.max_similarities(embedder, asked)
        else:
            scores = await asking.cosines(embedder, asked)
        _note(call, scores.tokens)
        await reply.whole(rerank.answer(asked, name, scores, call.request_id))

    def _asking(self, call: Call, lane: Lane, reply: Reply) -> Asking:
        return Asking(self._gateway, call, lane, reply, self._limits.embedding_timeout_seconds)

    def _reranker(self) -> str:
        """The model for a request that names none, as TEI's do: a reranker, else what embeds."""
        listed = [entry.id for entry in self._gateway.catalog.entries if entry.listed]
        lanes = [self._gateway.lanes[name] for name in listed]
        for task in ("rerank", "embed"):
            for lane in lanes:
                if task in lane.model.tasks and lane.engine.embedder is not None:
                    return lane.model.id
        raise BadRequest("This server has no reranker. Name a model.", param="model")


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
