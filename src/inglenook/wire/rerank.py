"""Reranking: one request shape for the three APIs in use, and an answer in each of theirs. Pure.

Contracts: Jina's /v1/rerank (and llama-server's, whose answers have the same shape), Cohere's /v2/rerank,
and /rerank of Hugging Face's Text Embeddings Inference (TEI), which calls the documents ``texts``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import Struct

from inglenook.errors import BadRequest, ContextLengthExceeded, InglenookError, Unavailable
from inglenook.wire.check import decoded
from inglenook.wire.embeddings import told
from inglenook.wire.vectors import Cut, RerankJob, Scores

Flavour = Literal["jina", "cohere", "tei"]


class Document(Struct):
    """A document as an object."""

    text: str


class RerankRequest(Struct, kw_only=True):
    """``POST /v1/rerank``, ``/v2/rerank`` and ``/rerank``. ``None`` is "not given"."""

    model: str | None = None
    query: str
    documents: list[str | Document] | None = None
    texts: list[str] | None = None
    top_n: int | None = None
    top_k: int | None = None
    return_documents: bool | None = None
    return_text: bool | None = None
    raw_scores: bool | None = None
    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    max_tokens_per_doc: int | None = None


@dataclass(frozen=True)
class Reranking:
    """A checked request, whatever the API it came by."""

    request: RerankRequest
    flavour: Flavour
    texts: Sequence[str]

    @property
    def field(self) -> str:
        """What the client calls the texts."""
        return "texts" if self.request.texts is not None else "documents"

    def place(self, index: int | None) -> str:
        """What the client calls one of the texts."""
        return self.field if index is None else f"{self.field}[{index}]"

    @property
    def job(self) -> RerankJob:
        # Cohere's clients say how long a document may be, not that longer ones may be cut.
        truncate = self.request.truncate or self.request.max_tokens_per_doc is not None
        return RerankJob(self.request.query, self.texts, truncate)

    @property
    def top(self) -> int:
        """How many of the best are wanted."""
        given = [top for top in (self.request.top_n, self.request.top_k) if top is not None]
        return min([*given, len(self.texts)])


_REQUEST = msgspec.json.Decoder(RerankRequest)


def read_rerank(body: bytes, flavour: Flavour) -> Reranking:
    """The request. ``texts`` make it TEI's on any path. Raises ``BadRequest`` naming the field to mend."""
    request = decoded(_REQUEST, body)
    for name in ("top_n", "top_k", "max_tokens_per_doc"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise BadRequest(f"{name} must be at least 1", param=name)
    if request.truncation_direction in ("left", "Left"):
        raise BadRequest("truncation_direction can only be right", param="truncation_direction")
    if request.texts is not None:
        if request.documents is not None:
            raise BadRequest("Send documents or texts, not both", param="texts")
        return Reranking(request, "tei", request.texts)
    if request.documents is None:
        raise BadRequest("documents is required", param="documents", code="missing_required_parameter")
    if request.model is None:
        raise BadRequest("model is required", param="model", code="missing_required_parameter")
    texts = [each if isinstance(each, str) else each.text for each in request.documents]
    return Reranking(request, flavour, texts)


def is_tei(body: bytes) -> bool:
    """Whether a body that may be wrong in any way was meant for TEI's API: its errors look different."""
    try:
        return "texts" in msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def answer(asked: Reranking, model: str, scores: Scores, request_id: str) -> bytes:
    """The body of the answer, best first, ties in the order of the request."""
    # By what the model said: a sigmoid makes the best and the second best equal when both are very good.
    order = sorted(range(len(asked.texts)), key=scores.values.__getitem__, reverse=True)
    raw = bool(asked.request.raw_scores)
    best = [(index, _shown(scores, index, raw=raw)) for index in order[: asked.top]]
    if asked.flavour == "tei":
        return msgspec.json.encode(_tei(asked, scores, best))
    if asked.flavour == "cohere":
        return msgspec.json.encode(_cohere(scores, best, request_id))
    return msgspec.json.encode(_jina(asked, model, scores, best))


def tei_error(error: InglenookError) -> dict[str, Any]:
    """An error as TEI has it."""
    if isinstance(error, ContextLengthExceeded):
        kind = "Tokenizer"
    elif isinstance(error, Unavailable):
        kind = "Overloaded"
    else:
        kind = "Validation" if error.status < 500 else "Backend"
    return {"error": str(error), "error_type": kind}


def _shown(scores: Scores, index: int, *, raw: bool) -> float:
    value = scores.values[index]
    if raw:
        return value
    if scores.scale == "logit":
        # The branch keeps the exponential small: it would overflow.
        return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
    return min(1.0, max(0.0, value))


Best = Sequence[tuple[int, float]]


def _jina(asked: Reranking, model: str, scores: Scores, best: Best) -> dict[str, Any]:
    with_text = asked.request.return_documents is not False
    data, results = [], []
    for index, score in best:
        text = asked.texts[index] if with_text else None
        data.append({"index": index, "score": score, "document": text})
        document = {"document": {"text": text}} if with_text else {}
        results.append({"index": index, "relevance_score": score, **document})
    usage = {"prompt_tokens": scores.tokens, "total_tokens": scores.tokens}
    truncated = {"truncated": told(scores.cut)} if scores.cut else {}
    return {"object": "list", "model": model, "data": data, "results": results, "usage": usage, **truncated}


def _cohere(scores: Scores, best: Best, request_id: str) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": scores.tokens, "output_tokens": 0},
    }
    if scores.cut:
        meta["warnings"] = [
            f"{_name(each)} was cut from {each.tokens} tokens to {each.kept}" for each in scores.cut
        ]
    results = [{"index": index, "relevance_score": score} for index, score in best]
    return {"id": request_id, "results": results, "meta": meta}


def _name(cut: Cut) -> str:
    return "query" if cut.index is None else f"documents[{cut.index}]"


def _tei(asked: Reranking, scores: Scores, best: Best) -> list[dict[str, Any]]:
    cut = {each.index for each in scores.cut}
    ranks: list[dict[str, Any]] = []
    for index, score in best:
        rank: dict[str, Any] = {"index": index, "score": score}
        if asked.request.return_text:
            rank["text"] = asked.texts[index]
        if index in cut:
            rank["truncated"] = True
        ranks.append(rank)
    return ranks
