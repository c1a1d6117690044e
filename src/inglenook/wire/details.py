"""A body read as FastAPI reads one, and what is wrong with it as the ``detail`` of its 422. Pure.

Contract: FastAPI's ``RequestValidationError`` in its default form, with pydantic's names and words.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from inglenook.errors import Unprocessable

V = TypeVar("V")
Where = list[str | int]


def detail(kind: str, where: Where, words: str) -> dict[str, Any]:
    """One thing that is wrong; ``where`` begins with ``body``."""
    return {"type": kind, "loc": where, "msg": words}


def fields_of(body: bytes, decoder: msgspec.json.Decoder[dict[str, V]]) -> dict[str, V]:
    """The fields of a JSON object. Raises ``Unprocessable``."""
    if not body.strip():
        raise Unprocessable([detail("missing", ["body"], "Field required")])
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        words = "Input should be a valid dictionary or object to extract fields from"
        raise Unprocessable([detail("model_attributes_type", ["body"], words)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unprocessable([detail("json_invalid", ["body", _end(body)], "JSON decode error")]) from None


def _end(body: bytes) -> int:
    """Up to where it is JSON, in characters."""
    try:
        json.loads(body)
    except json.JSONDecodeError as problem:
        return problem.pos
    except (ValueError, RecursionError):
        pass
    return 0
