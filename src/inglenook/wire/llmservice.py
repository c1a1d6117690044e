"""simple-llm-service's shapes, where they are not OpenAI's. Pure.

Contract: its API documentation. Where that is silent, what it did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace as replaced
from datetime import datetime
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from inglenook.errors import (
    BadRequest,
    ContextLengthExceeded,
    EngineError,
    InglenookError,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    Unavailable,
)
from inglenook.wire import check, embeddings
from inglenook.wire.embeddings import EmbeddingRequest, Inputs, read_inputs
from inglenook.wire.openai import ChatRequest, CompletionRequest
from inglenook.wire.vectors import Vectors

Json = dict[str, Any]
RANGES = {**check.RANGES, "n": (1, 10)}
del RANGES["repeat_penalty"]
MINIMA = check.MINIMA | {"top_k": 1, "repeat_penalty": 0.0}
TOO_LONG = "Input exceeds maximum context length"
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EMBEDDING = msgspec.json.Decoder(EmbeddingRequest)


# Requests.


_read_chat = check.reader(ChatRequest, check.check_chat, RANGES, MINIMA)
_read_completion = check.reader(CompletionRequest, check.check_completion, RANGES, MINIMA)


def read_chat(body: bytes) -> tuple[ChatRequest, bytes]:
    """The request, and its body without what was always ignored. Raises ``BadRequest``."""
    if b'"response_format"' in body:
        body = _with_known_format(body)
    request = _read_chat(body)
    if request.n is not None:
        # A chat had one choice, whatever was asked for.
        fields = _FIELDS.decode(body)
        del fields["n"]
        request, body = replace(request, n=None), msgspec.json.encode(fields)
    return request, body


def read_completion(body: bytes) -> CompletionRequest:
    """The request, which is passed on as it is. Raises ``BadRequest``."""
    return _read_completion(body)


def _with_known_format(body: bytes) -> bytes:
    """A format of which nobody knows the type counted for nothing, and a grammar only where there is none."""
    try:
        fields = _FIELDS.decode(body)
        wanted = msgspec.json.decode(fields.get("response_format", msgspec.Raw(b"null")))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body  # who reads it next says what is wrong
    if not isinstance(wanted, dict):
        return body
    left_out = "grammar" if _is_known(wanted) else "response_format"
    if fields.pop(left_out, None) is None:
        return body
    return msgspec.json.encode(fields)


def _is_known(wanted: Json) -> bool:
    if wanted.get("type") == "json_schema":
        nested = wanted.get("json_schema")
        return isinstance(nested, dict) and nested.get("schema") is not None
    return wanted.get("type") == "json_object"


def read_embedding(body: bytes) -> tuple[EmbeddingRequest, Inputs]:
    """The request and its inputs. Raises ``BadRequest`` that names the field to mend."""
    request = check.decoded(_EMBEDDING, body)
    if request.dimensions is not None and request.dimensions < 1:
        raise BadRequest("dimensions must be at least 1", param="dimensions")
    return request, read_inputs(bytes(request.input))


def makeable(request: EmbeddingRequest, kinds: Collection[str]) -> EmbeddingRequest:
    """The request without the kinds of vectors that a model does not make, which makes only ``kinds``."""
    if set(request.kinds) <= set(kinds):
        return request
    kind = request.embedding_type if request.embedding_type in kinds else None
    return replace(
        request,
        embedding_type=kind,
        return_sparse=request.return_sparse and "sparse" in kinds,
        return_colbert=request.return_colbert and "colbert" in kinds,
    )


# Answers.


Weights = Sequence[dict[str, float]]
Write = Callable[[EmbeddingRequest, Vectors], Iterator[bytes]]


def embedded(asked: EmbeddingRequest, wanted: int, weights: Weights = ()) -> Write:
    """Writes vectors for ``asked``: the first ``wanted`` numbers of each (0: all), whatever length is left.

    A vector that is not longer stays as it is, and ``sparse_embedding`` is there always. ``weights`` are
    its values where the engine makes none.
    """

    def write(served: EmbeddingRequest, vectors: Vectors) -> Iterator[bytes]:
        fewer = wanted if 0 < wanted < vectors.dimension else None
        kind = asked.embedding_type if weights else served.embedding_type
        sparse = weights or vectors.sparse or cast(Weights, [None] * vectors.count)
        made = replaced(vectors, normalized=False, sparse=sparse)
        request = replace(served, model=asked.model, dimensions=fewer, embedding_type=kind)
        return embeddings.answer(request, made)

    return write


def frequencies(texts: Sequence[Sequence[int]]) -> Weights:
    """Of each text, how often each token is there, 1 in all: what it told as sparse embeddings."""
    counts = [Counter(tokens) for tokens in texts]
    return [{str(token): number / each.total() for token, number in each.items()} for each in counts]


def nothing(model: str) -> Json:
    """The answer to a request about no texts at all."""
    return {"object": "list", "data": [], "model": model, "usage": {"prompt_tokens": 0, "total_tokens": 0}}


def reranked(model: str, body: bytes) -> Json:
    """Its own fields of a ranking, whose client called the model ``model``."""
    ranking: Json = msgspec.json.decode(body)
    return {
        "object": "list",
        "data": ranking.get("data", []),
        "model": model,
        "usage": ranking.get("usage", {"prompt_tokens": 0, "total_tokens": 0}),
    }


def health(now: datetime) -> Json:
    """``now``: UTC. It is told without a zone, as it always was."""
    return {"status": "healthy", "timestamp": now.replace(tzinfo=None).isoformat()}


def model_object(plain: Mapping[str, object], tier: str) -> Json:
    """A model of a tier, from OpenAI's object for it."""
    return {
        **plain,
        "owned_by": f"llmservice-{tier}",
        "permission": [],
        "root": plain["id"],
        "parent": None,
    }


# Errors.


def status(error: InglenookError) -> int:
    """An engine that failed is an error of the server's own here."""
    return 500 if isinstance(error, EngineError) else error.status


def error_body(error: InglenookError) -> Json:
    """``{"error": {"message", "type"[, "code"]}}``; unknown paths and verbs are answered as FastAPI does."""
    if type(error) is NotFound:
        return {"detail": "Not Found"}
    if isinstance(error, MethodNotAllowed):
        return {"detail": "Method Not Allowed"}
    if isinstance(error, ContextLengthExceeded) or error.code == "context_length_exceeded":
        return {"error": {"message": TOO_LONG, "type": "invalid_request_error"}}
    said: Json = {"message": str(error), "type": _type(error)}
    if isinstance(error, ModelNotFound) or error.status in (401, 403, 413, 429) or error.status == 500:
        said["code"] = error.code
    return {"error": said}


def _type(error: InglenookError) -> str:
    return "model_error" if isinstance(error, Unavailable) else error.type
