"""Errors of servers that follow OpenAI's envelope, in our own words. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from inglenook.errors import (
    BadRequest,
    ContextLengthExceeded,
    EngineError,
    InglenookError,
    Unavailable,
)


def error_of(body: bytes) -> dict[str, Any]:
    """The ``error`` object of an answer, or an empty one."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else {}


def too_long(error: dict[str, Any], param: str = "messages") -> ContextLengthExceeded | None:
    """llama-server's ``exceed_context_size_error`` with its two numbers."""
    given, limit = error.get("n_prompt_tokens"), error.get("n_ctx")
    if isinstance(given, int) and isinstance(limit, int):
        return ContextLengthExceeded(given=given, limit=limit, param=param)
    return None


def plain_failure(status: int, body: bytes) -> InglenookError:
    """By status alone: the text of a stranger's error is never passed on."""
    error = error_of(body)
    if long := too_long(error):
        return long
    if status in (429, 503):
        return Unavailable("The model cannot take this request now. Ask again in a few seconds.")
    if 400 <= status < 500:
        param = error.get("param")
        return BadRequest(
            "The model's server refused this request.",
            param=param if isinstance(param, str) and len(param) < 100 else None,
        )
    return EngineError("The model's server failed to answer this request.")
