"""One request for vectors or scores at its model's engine: asked, understood, asked again where it helps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import msgspec

from inglenook.engines.base import Embedder, EngineRequest
from inglenook.errors import BadRequest, ContextLengthExceeded, EngineError, InglenookError
from inglenook.gateway.gateway import Gateway, Whole
from inglenook.gateway.relay import JSON, failed, json_type, refused
from inglenook.gateway.reply import Reply
from inglenook.gateway.shorten import Place, shortened_inputs, shortened_texts, token_ids, too_long
from inglenook.policy.similarity import cosines, max_similarities
from inglenook.runtime.lane import Lane
from inglenook.telemetry.call import Call
from inglenook.wire.openai import read_tail
from inglenook.wire.rerank import Reranking
from inglenook.wire.vectors import Cut, EmbedJob, Scores, Vectors

TEXTS_AT_ONCE = 16
"""Compared by a vector for each token, hundreds of times a text's own size: more would fill the memory."""


class Asking:
    """One request. Every method raises ``InglenookError``, in which inputs have their client's names."""

    def __init__(self, gateway: Gateway, call: Call, lane: Lane, reply: Reply, seconds: float) -> None:
        self._gateway, self._call, self._lane, self._reply = gateway, call, lane, reply
        self._model, self._seconds = lane.model, seconds

    async def relay(self, path: str, body: bytes, field: str) -> int:
        """For an engine or upstream that speaks the API itself: both bodies pass as they are.

        Returns the tokens of the prompt. ``field`` is where the client put what may be too long.
        """
        status, answer, headers = await self._whole(EngineRequest(path, body))
        if status != 200:
            raise renamed(refused(self._lane.engine, status, headers, answer), field)
        try:
            msgspec.json.decode(answer, type=msgspec.Raw)
        except msgspec.DecodeError:
            raise EngineError("The engine's answer is not valid JSON.") from None
        tail = read_tail(answer)
        if tail is not None and tail.error is not None:
            raise renamed(failed(self._call, self._lane.engine, tail.error, answer), field)
        await self._reply.whole(answer, json_type(headers) if self._lane.upstream is not None else JSON)
        return tail.tokens.prompt_tokens if tail is not None and tail.tokens is not None else 0

    async def ask(self, prepared: EngineRequest) -> tuple[int, bytes]:
        """Status and body of one answer."""
        return (await self._whole(prepared))[:2]

    async def _whole(self, prepared: EngineRequest) -> Whole:
        return await self._gateway.ask(self._call, self._lane, prepared, self._reply, seconds=self._seconds)

    async def vectors(self, embedder: Embedder, job: EmbedJob, place: Place) -> Vectors:
        """Vectors for all inputs. ``place`` says what the client calls an input."""
        status, answer = await self.ask(embedder.embed(self._model, job))
        cut: tuple[Cut, ...] = ()
        if status != 200 and (long := embedder.too_long(answer)):
            if long.index is not None:
                raise too_long(long.given, long.limit, place(long.index))
            job, cut = await shortened_inputs(self.ask, embedder, job, long, place)
            status, answer = await self.ask(embedder.embed(self._model, job))
        if status != 200:
            raise self._failure(status, answer, place(None))
        vectors = embedder.vectors(self._model, job, answer)
        return replace(vectors, cut=cut) if cut else vectors

    async def token_ids(self, embedder: Embedder, text: str) -> list[int]:
        """The tokens of a text, without those that the model puts around it."""
        return await token_ids(self.ask, embedder, text, special=False)

    async def scores(self, embedder: Embedder, asked: Reranking) -> Scores:
        """Scores from a model that was made to rerank."""
        job = asked.job
        status, answer = await self.ask(embedder.rerank(self._model, job))
        cut: tuple[Cut, ...] = ()
        if status != 200 and (long := embedder.too_long(answer)):
            if long.index is not None:
                raise too_long(long.given, long.limit, asked.place(long.index))
            job, cut = await shortened_texts(self.ask, self._lane.engine, embedder, asked, long)
            status, answer = await self.ask(embedder.rerank(self._model, job))
        if status != 200:
            raise self._failure(status, answer, asked.field)
        scores = embedder.scores(self._model, job, answer)
        return replace(scores, cut=cut) if cut else scores

    async def cosines(self, embedder: Embedder, asked: Reranking) -> Scores:
        """Scores from a model that makes one vector of a text."""
        job = EmbedJob([asked.job.query, *asked.texts], ("dense",), asked.job.truncate)
        vectors = await self.vectors(embedder, job, _after_query(asked))
        values = await asyncio.to_thread(cosines, vectors)
        return Scores(values, "cosine", vectors.tokens, _without_query(vectors.cut))

    async def max_similarities(self, embedder: Embedder, asked: Reranking) -> Scores:
        """Scores from a model that makes a vector of each token."""
        truncate, texts = asked.job.truncate, asked.texts
        query = await self.vectors(
            embedder, EmbedJob([asked.job.query], ("colbert",), truncate), lambda index: "query"
        )
        values: list[float] = []
        cut = [Cut(None, each.tokens, each.kept) for each in query.cut]
        tokens = query.tokens
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            job = EmbedJob(texts[start : start + TEXTS_AT_ONCE], ("colbert",), truncate)
            some = await self.vectors(embedder, job, _from(asked, start))
            values += await asyncio.to_thread(max_similarities, query, some)
            cut += [Cut(start + (each.index or 0), each.tokens, each.kept) for each in some.cut]
            tokens += some.tokens
        return Scores(values, "cosine", tokens, tuple(cut))

    def _failure(self, status: int, body: bytes, field: str) -> InglenookError:
        """The engine's error, about ``field`` where it is about the request's text."""
        return renamed(self._lane.engine.failure(status, body), field)


def renamed(error: InglenookError, field: str) -> InglenookError:
    """``error``, about ``field`` where it is about the request's text."""
    if isinstance(error, ContextLengthExceeded):
        long = ContextLengthExceeded(given=error.given, limit=error.limit, param=field)
        long.said = error.said
        return long
    if isinstance(error, BadRequest) and error.param in (None, "prompt", "messages", "input"):
        error.param = field
    return error


def _from(asked: Reranking, start: int) -> Callable[[int | None], str]:
    return lambda index: asked.place(None if index is None else start + index)


def _after_query(asked: Reranking) -> Callable[[int | None], str]:
    return lambda index: "query" if index == 0 else asked.place(None if index is None else index - 1)


def _without_query(cut: tuple[Cut, ...]) -> tuple[Cut, ...]:
    """The indices of texts that were sent behind the query."""
    return tuple(Cut(each.index - 1 if each.index else None, each.tokens, each.kept) for each in cut)
