"""``POST /llm``: its request read as FastAPI would, its answer, and errors as ``{"detail": ...}``. Pure.

Contract: AWA's microservice, a FastAPI application: fields are read leniently (``"256"`` is a number), every
wrong one is told of, and a value out of range is passed on. No error quotes the request.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from inglenook.errors import (
    BadRequest,
    BodyTooLarge,
    ContextLengthExceeded,
    EngineError,
    EngineStartFailed,
    InglenookError,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    Unprocessable,
)
from inglenook.wire.details import detail, fields_of
from inglenook.wire.openai import CompletionRequest

MAX_TOKENS, TEMPERATURE = 256, 0.7
SNIPPET = 500
"""Characters of an error, at most."""
_MOST = 2**31 - 1
_INTEGER = re.compile(r"[+-]?\d{1,4000}", re.ASCII)
_UNREADABLE = frozenset({"invalid_json", "invalid_type", "missing_required_parameter"})

Json = dict[str, Any]
_FIELDS = msgspec.json.Decoder(Json)


@dataclass(frozen=True)
class LlmRequest:
    """A checked ``POST /llm``."""

    prompt: str
    max_tokens: int
    temperature: float


class _Wrong(Exception):
    """One field is not what it should be: pydantic's name and words for that."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


def read_llm(body: bytes) -> LlmRequest:
    """A checked request. Raises ``Unprocessable``."""
    fields = fields_of(body, _FIELDS)
    details: list[Json] = []
    values: Json = {}
    for name, read, default in (
        ("prompt", _text, None),
        ("max_tokens", _whole, MAX_TOKENS),
        ("temperature", _number, TEMPERATURE),
    ):
        try:
            values[name] = default if default is not None and name not in fields else read(name, fields)
        except _Wrong as wrong:
            details.append(detail(wrong.kind, ["body", name], str(wrong)))
    if details:
        raise Unprocessable(details)
    return LlmRequest(values["prompt"], values["max_tokens"], values["temperature"])


def _text(name: str, fields: Json) -> str:
    if name not in fields:
        raise _Wrong("missing", "Field required")
    value = fields[name]
    if not isinstance(value, str):
        raise _Wrong("string_type", "Input should be a valid string")
    return value


def _whole(name: str, fields: Json) -> int:
    value = fields[name]
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value.strip()):
            words = "Input should be a valid integer, unable to parse string as an integer"
            raise _Wrong("int_parsing", words)
        return int(value)
    if isinstance(value, float):
        if not value.is_integer():
            words = "Input should be a valid integer, got a number with a fractional part"
            raise _Wrong("int_from_float", words)
        return int(value)
    if not isinstance(value, int):
        raise _Wrong("int_type", "Input should be a valid integer")
    return int(value)  # true is 1


def _number(name: str, fields: Json) -> float:
    value = fields[name]
    if not isinstance(value, int | float | str):
        raise _Wrong("float_type", "Input should be a valid number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        words = "Input should be a valid number, unable to parse string as a number"
        raise _Wrong("float_parsing", words) from None
    if not math.isfinite(number):
        raise _Wrong("finite_number", "Input should be a finite number")
    return number


# Asking a model that stays loaded, and answers.


class Prepared(NamedTuple):
    """The request as the gateway takes it."""

    request: CompletionRequest
    body: bytes


def as_completion(asked: LlmRequest, model: str) -> Prepared:
    """The raw prompt, to be continued by ``model``: no chat template is put around it."""
    said: Json = {
        "model": model,
        "prompt": asked.prompt,
        # Below 0 is no bound, to engines as it was to the program; a colder than cold answer is greedy.
        "max_tokens": min(max(asked.max_tokens, -1), _MOST),
        "temperature": max(asked.temperature, 0.0),
    }
    return Prepared(CompletionRequest(**said), msgspec.json.encode(said))


def completed(text: str) -> bytes:
    """The answer, its text without space around it."""
    return msgspec.json.encode({"completion": text.strip()})


def text_of(completion: bytes) -> str:
    """The text of an OpenAI completion. Raises ``EngineError`` when it is none."""
    try:
        return str(msgspec.json.decode(completion)["choices"][0]["text"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, IndexError, TypeError):
        raise EngineError("The engine's answer is not one of the OpenAI API.") from None


# Errors.


class Refused(NamedTuple):
    """An error as it is answered."""

    status: int
    body: bytes


def llm_refused(error: InglenookError) -> Refused:
    """An error of ``/llm``: what an engine could not do is a 500 with the end of its own words."""
    status, detail = _told(error)
    if isinstance(error, EngineError | EngineStartFailed):
        status = 500
    return Refused(status, msgspec.json.encode({"detail": detail}))


def refused(error: InglenookError) -> Refused:
    """An error of any other route: ``detail``, and OpenAI's ``error`` beside it for its clients."""
    status, detail = _told(error)
    return Refused(status, msgspec.json.encode({"detail": detail, **error.body()}))


def _told(error: InglenookError) -> tuple[int, str | list[Json]]:
    """Status and ``detail``."""
    if isinstance(error, Unprocessable):
        return 422, error.details
    if isinstance(error, NotFound) and not isinstance(error, ModelNotFound):
        return 404, "Not Found"
    if isinstance(error, MethodNotAllowed):
        return 405, "Method Not Allowed"
    if isinstance(error, EngineStartFailed):
        return error.status, _with_log(error)
    own = isinstance(error, ContextLengthExceeded | BodyTooLarge)
    if isinstance(error, BadRequest) and not own and error.code in _UNREADABLE:
        return 422, [detail(error.code, ["body", *_places(error.param)], str(error))]
    return error.status, str(error)


def _places(param: str | None) -> list[str | int]:
    """``messages[0].content`` as the path that it is."""
    return [int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", param or "")]


def _with_log(error: EngineStartFailed) -> str:
    lines = "\n".join(error.log)[-SNIPPET:].strip()
    return f"{error}\n{lines}" if lines else str(error)
