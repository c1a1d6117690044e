"""Each call of ``Client`` as what is asked and how its answer is read: what both twins share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec

from inglenook.client.answers import (
    Embeddings,
    EmbeddingsBody,
    Health,
    LoadedModel,
    Ranking,
    RankingBody,
)
from inglenook.client.exchange import Answered
from inglenook.client.failure import CallFailed, shown

T = TypeVar("T")
Kind = Literal["dense", "sparse", "colbert"]
KINDS: tuple[Kind, ...] = ("dense", "colbert", "sparse")
"""The first of those that are asked for is what ``embedding`` holds in the answer."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call. ``read`` raises ``ValueError`` or msgspec's errors for what is no answer to it."""

    path: str
    body: dict[str, Any] | None
    read: Callable[[bytes], T]

    def answer(self, answered: Answered) -> T:
        """The result. Raises ``CallFailed``."""
        try:
            return self.read(answered.body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise CallFailed(
                f"{shown(answered.url)} gave an answer that is none to {self.path}", code="invalid_answer"
            ) from None


def rerank(
    model: str,
    query: str,
    documents: Sequence[str],
    top_n: int | None,
    return_documents: bool,
    truncate: bool,
) -> Call[Ranking]:
    body = {
        "model": model,
        "query": query,
        "documents": list(documents),
        "return_documents": return_documents,
        "truncate": truncate,
    }
    if top_n is not None:
        body["top_n"] = top_n
    return Call("/v1/rerank", body, lambda said: msgspec.json.decode(said, type=RankingBody).read())


def embed(
    model: str, texts: str | Sequence[str], kinds: Sequence[Kind], dimensions: int | None, truncate: bool
) -> Call[Embeddings]:
    """Raises ``ValueError`` for kinds that there are not."""
    if isinstance(kinds, str) or not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds must be some of {', '.join(KINDS)}, as a tuple or list")
    main = next(kind for kind in KINDS if kind in kinds)
    body: dict[str, Any] = {
        "model": model,
        "input": [texts] if isinstance(texts, str) else list(texts),
        # A quarter of the bytes, and no numbers to be parsed.
        "encoding_format": "base64",
    }
    # Only what differs from a plain request: another server may refuse what it does not know.
    if main != "dense":
        body["embedding_type"] = main
    body |= {f"return_{kind}": True for kind in kinds if kind != main}
    if dimensions is not None:
        body["dimensions"] = dimensions
    if truncate:
        body["truncate"] = True

    def read(said: bytes) -> Embeddings:
        return msgspec.json.decode(said, type=EmbeddingsBody).read(main)

    return Call("/v1/embeddings", body, read)


def load(model: str) -> Call[LoadedModel]:
    return Call("/v1/models/load", {"model": model}, _loaded)


def unload(model: str) -> Call[LoadedModel]:
    return Call("/v1/models/unload", {"model": model}, _loaded)


def health() -> Call[Health]:
    return Call("/health", None, lambda said: msgspec.json.decode(said, type=Health))


def _loaded(said: bytes) -> LoadedModel:
    return msgspec.json.decode(said, type=LoadedModel)
