"""Answers of the embedding workers: a JSON head, then raw numbers. Pure.

Four bytes say how long the head is (little-endian), then the head, then float32: the dense vectors of all
inputs, then the colbert vectors of all inputs. Scores of a reranker are framed the same way.
Nothing of it is believed: whatever does not add up is an ``EngineError`` and never reaches a client.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from inglenook.errors import EngineError
from inglenook.wire.vectors import (
    FLOAT,
    Cut,
    EmbedJob,
    Kind,
    RerankJob,
    Scores,
    Vectors,
    check_finite,
    floats,
    mismatched_count,
    wrong_dimension,
)

H = TypeVar("H", bound=Struct)
_LENGTH = struct.Struct("<I")


class EmbedHead(Struct):
    """The head of an answer with vectors."""

    count: int
    dimension: int
    tokens: list[int]
    normalized: bool
    truncated: list[tuple[int, int]] = []
    sparse: list[dict[str, float]] | None = None
    colbert: list[int] | None = None
    """How many vectors each input has."""


class ScoreHead(Struct):
    """The head of an answer with scores."""

    count: int
    tokens: list[int]
    scale: Literal["logit", "unit"]
    truncated: list[tuple[int, int]] = []


def embed_body(job: EmbedJob) -> bytes:
    """What a worker is asked for ``job``."""
    field = "tokens" if job.is_tokens else "texts"
    return msgspec.json.encode({field: job.inputs, "kinds": job.kinds, "truncate": job.truncate})


def rerank_body(job: RerankJob) -> bytes:
    """The same for scores."""
    return msgspec.json.encode({"query": job.query, "texts": job.texts, "truncate": job.truncate})


def read_vectors(job: EmbedJob, body: bytes) -> Vectors:
    """The vectors of a worker's answer. Raises ``EngineError`` for anything but a whole and right one."""
    head, payload = _parts(body, EmbedHead)
    count = len(job.inputs)
    if head.count != count or len(head.tokens) != count:
        raise mismatched_count()
    if head.dimension < 1:
        raise wrong_dimension(0, 1, head.dimension)
    dense, colbert = _split(payload, head, job.kinds)
    if "sparse" in job.kinds and (head.sparse is None or len(head.sparse) != count):
        raise mismatched_count()
    check_finite(payload, head.dimension)
    return Vectors(
        count,
        head.dimension,
        sum(head.tokens),
        head.normalized,
        dense,
        head.sparse or (),
        colbert,
        _cuts(head.truncated, head.tokens),
    )


def read_scores(job: RerankJob, body: bytes) -> Scores:
    """The scores of a worker's answer. Raises ``EngineError``."""
    head, payload = _parts(body, ScoreHead)
    count = len(job.texts)
    if head.count != count or len(head.tokens) != count or len(payload) != count * FLOAT:
        raise EngineError("The reranker answered with a wrong number of scores.")
    check_finite(payload, 1)
    cuts = _cuts(head.truncated, head.tokens)
    return Scores(floats(payload).tolist(), head.scale, sum(head.tokens), cuts)


def _parts(body: bytes, shape: type[H]) -> tuple[H, memoryview]:
    try:
        (length,) = _LENGTH.unpack_from(body)
        start = _LENGTH.size
        head = msgspec.json.decode(memoryview(body)[start : start + length], type=shape)
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineError("The engine's answer cannot be read.") from None
    return head, memoryview(body)[start + length :]


def _split(
    payload: memoryview, head: EmbedHead, kinds: Sequence[Kind]
) -> tuple[memoryview, Sequence[memoryview]]:
    """Dense vectors, and colbert vectors by input."""
    size = head.dimension * FLOAT
    dense = size * head.count if "dense" in kinds else 0
    each = head.colbert or [] if "colbert" in kinds else []
    if "colbert" in kinds and (len(each) != head.count or min(each) < 0):
        raise mismatched_count()
    if len(payload) != dense + size * sum(each):
        got = len(payload) // FLOAT // (head.count + sum(each))
        raise wrong_dimension(0, head.dimension, got)
    colbert, at = [], dense
    for vectors in each:
        colbert.append(payload[at : at + vectors * size])
        at += vectors * size
    return payload[:dense], colbert


def _cuts(truncated: Sequence[tuple[int, int]], tokens: Sequence[int]) -> tuple[Cut, ...]:
    if any(not 0 <= index < len(tokens) for index, _ in truncated):
        raise EngineError("The engine's answer cannot be read.")
    return tuple(Cut(index, before, tokens[index]) for index, before in truncated)
