"""For an engine that says only that something is too long: finds out what, and cuts it where it may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from inglenook.engines.base import Embedder, Engine, EngineRequest
from inglenook.errors import ContextLengthExceeded, EngineError
from inglenook.wire.rerank import Reranking
from inglenook.wire.vectors import Cut, EmbedJob, RerankJob, TooLong

Ask = Callable[[EngineRequest], Awaitable[tuple[int, bytes]]]
Place = Callable[[int | None], str]
"""From an input's index to what the client calls it; from ``None`` to what it calls all of them."""

T = TypeVar("T")
SPECIAL = 4
"""Tokens that a model puts around a text, or around a pair of texts, at most."""
MEND = "Shorten it, or send `truncate: true` to have it cut."


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Content(msgspec.Struct):
    content: str


def too_long(given: int, limit: int, place: str) -> ContextLengthExceeded:
    """The error that names the input and both lengths."""
    mend = MEND if place != "query" else "A query is never cut: shorten it."
    return ContextLengthExceeded(given=given, limit=limit, param=place, mend=mend)


async def shortened_inputs(
    ask: Ask, embedder: Embedder, job: EmbedJob, long: TooLong, place: Place
) -> tuple[EmbedJob, tuple[Cut, ...]]:
    """``job`` with what is too long in it cut. Raises ``ContextLengthExceeded`` where that is not allowed."""
    inputs = list(job.inputs)
    cut: list[Cut] = []
    for index, item in enumerate(inputs):
        # No token is shorter than a byte: most texts need not be counted.
        if isinstance(item, str) and len(item.encode()) + SPECIAL <= long.limit:
            continue
        ids = await token_ids(ask, embedder, item, special=True) if isinstance(item, str) else item
        if len(ids) <= long.limit:
            continue
        if not job.truncate:
            raise too_long(len(ids), long.limit, place(index))
        bare = await token_ids(ask, embedder, item, special=False) if isinstance(item, str) else ids
        inputs[index] = _cut(ids, bare, long.limit)
        cut.append(Cut(index, len(ids), long.limit))
    if not cut:
        raise too_long(long.given, long.limit, place(None))
    return replace(job, inputs=inputs), tuple(cut)


async def shortened_texts(
    ask: Ask, engine: Engine, embedder: Embedder, asked: Reranking, long: TooLong
) -> tuple[RerankJob, tuple[Cut, ...]]:
    """The same for texts that are read together with a query."""
    job = asked.job
    room = long.limit - SPECIAL - len(await token_ids(ask, embedder, job.query, special=False))
    if room < 1:
        raise too_long(long.given, long.limit, "query")
    texts = list(job.texts)
    cut: list[Cut] = []
    for index, text in enumerate(texts):
        if len(text.encode()) <= room:
            continue
        ids = await token_ids(ask, embedder, text, special=False)
        if len(ids) <= room:
            continue
        given = len(ids) + long.limit - room
        if not job.truncate:
            raise too_long(given, long.limit, asked.place(index))
        texts[index] = await _text(ask, engine, ids[:room])
        cut.append(Cut(index, given, long.limit))
    if not cut:
        raise too_long(long.given, long.limit, asked.field)
    return replace(job, texts=texts), tuple(cut)


def _cut(ids: Sequence[int], bare: Sequence[int], limit: int) -> Sequence[int]:
    """``ids`` down to ``limit``, with all that the model puts before and after the ``bare`` text kept."""
    around = len(ids) - len(bare)
    for before in range(around + 1):
        if ids[before : before + len(bare)] == bare:
            return [*ids[:before], *bare[: limit - around], *ids[before + len(bare) :]]
    return ids[:limit]


async def token_ids(ask: Ask, embedder: Embedder, text: str, *, special: bool) -> list[int]:
    """The token ids of a text, as the engine has them."""
    return (await _read(ask, embedder.tokenize(text, special=special), _Tokens)).tokens


async def _text(ask: Ask, engine: Engine, ids: Sequence[int]) -> str:
    return (await _read(ask, engine.detokenize(ids), _Content)).content


async def _read(ask: Ask, request: EngineRequest | None, shape: type[T]) -> T:
    if request is None:
        raise EngineError("The model's engine failed to answer this request.")
    status, body = await ask(request)
    try:
        if status == 200:
            return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    raise EngineError("The model's engine failed to answer this request.")
