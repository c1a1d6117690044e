"""aegis-llm-server's embeddings request and answers. Pure.

Contract: its README, "Error Semantics" and "Model Alias Behavior". What OpenAI's API has beyond
it (``dimensions``, ``user``) was ignored, so it is not checked here either.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from inglenook.errors import (
    BadRequest,
    EngineTimeout,
    InglenookError,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from inglenook.wire.check import decoded
from inglenook.wire.embeddings import EmbeddingRequest, Inputs

Json = dict[str, Any]
DISABLED = "Embeddings are disabled."
UNAVAILABLE = "Embedding backend is unavailable."
TIMED_OUT = "Embedding backend timed out."
FAILED = "Embedding generation failed."
BACKEND_SAID = "Embedding backend returned"
"""How a failure begins that tells what is wrong with the vectors."""


class _Request(Struct):
    input: str | list[str]
    model: str = "nomic-embed-text"
    encoding_format: Literal["float", "base64"] | None = None


_DECODER = msgspec.json.Decoder(_Request)


def read_embedding(body: bytes) -> tuple[EmbeddingRequest, Inputs]:
    """The request and its inputs; tokens are counted as words. Raises ``BadRequest``."""
    asked = decoded(_DECODER, body)
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    request = EmbeddingRequest(
        model=asked.model,
        input=msgspec.Raw(b"null"),
        encoding_format=asked.encoding_format,
        truncate=True,  # as it always did; but the answer tells of it
    )
    words = sum(len(text.split()) for text in texts)
    return request, Inputs(texts, isinstance(asked.input, list), tokens=words)


def unknown_model(name: str) -> BadRequest:
    return BadRequest(f"Unsupported embedding model '{name}'.", param="model")


def status(error: InglenookError) -> int:
    """An engine that failed is an error of the server's own here."""
    return 500 if error.status == 502 else error.status


def error_body(error: InglenookError) -> Json:
    """``{"error": {"code", "message"}}``; unknown paths and verbs are answered as FastAPI does."""
    if type(error) is NotFound:
        return {"detail": "Not Found"}
    if isinstance(error, MethodNotAllowed):
        return {"detail": "Method Not Allowed"}
    code, message = _said(error)
    return {"error": {"code": code, "message": message}}


def _said(error: InglenookError) -> tuple[str, str]:
    if isinstance(error, Unauthenticated | RateLimited):
        return error.code, str(error)
    if error.status < 500:
        return "invalid_request", str(error)
    if isinstance(error, Unavailable):
        return "upstream_error", DISABLED if str(error) == DISABLED else UNAVAILABLE
    if isinstance(error, EngineTimeout):
        return "upstream_timeout", TIMED_OUT
    said = str(error)
    return "internal", said if said.startswith(BACKEND_SAID) else FAILED


def health(service: str, version: str, backend: str, *, enabled: bool) -> Json:
    """``backend`` is empty where there is none that works."""
    return {
        "status": "ok" if backend else "error",
        "service": service,
        "version": version,
        "backend": backend or "none",
        "embedding_enabled": enabled,
    }
