"""What the calls of ``Client`` give, and how it is read from what crosses the network."""

from __future__ import annotations

import array
import base64
import binascii
import sys
from typing import Any

from msgspec import Struct, field

from inglenook.wire.loading import LoadedModel

__all__ = ["Embedding", "Embeddings", "Health", "LoadedModel", "Ranked", "Ranking", "Truncated"]


class Truncated(Struct, frozen=True):
    """A text that was cut, because ``truncate`` allowed it. ``index`` is ``None`` for a query."""

    index: int | None
    tokens: int
    kept: int


class Ranked(Struct, frozen=True):
    """One document: its place in the request, and how well it fits the query (0 to 1)."""

    index: int
    score: float
    document: str | None


class Ranking(Struct, frozen=True):
    """Documents, the best first."""

    model: str
    results: list[Ranked]
    prompt_tokens: int
    truncated: list[Truncated]


class Embedding(Struct, frozen=True):
    """One text. What was not asked for is ``None``."""

    index: int
    dense: list[float] | None
    """The vector of the whole text."""
    sparse: dict[int, float] | None
    """Token id to weight."""
    colbert: list[list[float]] | None
    """A vector for each token."""


class Embeddings(Struct, frozen=True):
    """Texts, in the order of the request."""

    model: str
    data: list[Embedding]
    prompt_tokens: int
    truncated: list[Truncated]


class Health(Struct, frozen=True):
    """How a server is: ``status`` is "ok" or "draining", and each model has a state such as "ready"."""

    status: str
    version: str = ""
    models: dict[str, str] = {}


class Usage(Struct):
    prompt_tokens: int = 0


class Document(Struct):
    text: str | None = None


class RankedRow(Struct):
    index: int
    score: float | None = None
    relevance_score: float | None = None
    document: str | Document | None = None

    def read(self) -> Ranked:
        score = self.score if self.score is not None else self.relevance_score
        text = self.document.text if isinstance(self.document, Document) else self.document
        if score is None:
            raise ValueError("a document without a score")
        return Ranked(self.index, score, text)


class RankingBody(Struct):
    """Our answer, and that of others who have ``results`` only."""

    model: str = ""
    data: list[RankedRow] | None = None
    results: list[RankedRow] = []
    usage: Usage = field(default_factory=Usage)
    truncated: list[Truncated] = []

    def read(self) -> Ranking:
        rows = self.results if self.data is None else self.data
        return Ranking(self.model, [row.read() for row in rows], self.usage.prompt_tokens, self.truncated)


class EmbeddingRow(Struct):
    index: int
    embedding: Any = None
    sparse_embedding: dict[int, float] | None = None
    colbert_embedding: list[Any] | None = None

    def read(self, kind: str) -> Embedding:
        """``kind`` is what was asked for as ``embedding_type``: what ``embedding`` holds."""
        colbert = self.embedding if kind == "colbert" else self.colbert_embedding
        return Embedding(
            self.index,
            numbers(self.embedding) if kind == "dense" else None,
            self.sparse_embedding,
            None if colbert is None else [numbers(each) for each in colbert],
        )


class EmbeddingsBody(Struct):
    data: list[EmbeddingRow]
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    truncated: list[Truncated] = []

    def read(self, kind: str) -> Embeddings:
        rows = [row.read(kind) for row in self.data]
        return Embeddings(self.model, rows, self.usage.prompt_tokens, self.truncated)


def numbers(sent: Any) -> list[float]:
    """A vector from the base64 of its little-endian float32, or from numbers. Raises ``ValueError``."""
    if isinstance(sent, str):
        try:
            packed = array.array("f", base64.b64decode(sent, validate=True))
        except binascii.Error:
            raise ValueError("a vector that is no base64") from None
        if sys.byteorder == "big":
            packed.byteswap()
        return packed.tolist()
    if not isinstance(sent, list) or not all(isinstance(each, int | float) for each in sent):
        raise ValueError("a vector that is none")
    return [float(each) for each in sent]
