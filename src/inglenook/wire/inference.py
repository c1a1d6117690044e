"""The shapes below ``/api``: requests checked and clamped, answers and errors in its own words. Pure.

Contract: the LLM Inference API, whose requests are OpenAI's in other clothes. A value out of its range is
moved into it, an unknown field is passed over, ``null`` is not given, and a stream has no ``[DONE]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from inglenook.errors import (
    AtCapacity,
    BadRequest,
    BodyTooLarge,
    EngineError,
    EngineStartFailed,
    InglenookError,
    ModelLoading,
    ModelNotFound,
    QueueFull,
)
from inglenook.wire import sse
from inglenook.wire.check import MAX_MESSAGES, decoded
from inglenook.wire.openai import ChatRequest, Message

MAX_BODY = 2 << 20
"""Bytes of a request's body."""
MAX_STOPS = 64
STREAM = b"text/event-stream"
JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"

Json = dict[str, Any]


class _Options(Struct, kw_only=True):
    """What both requests may say about the answer. ``None`` is "not given"."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None


class ApiGenerate(_Options, kw_only=True):
    """``POST /api/generate`` and ``/api/generate/stream``."""

    model: str
    prompt: str


class ApiMessage(Struct):
    """One message of a conversation. A role that we do not know is the user's."""

    role: str
    content: str


class ApiChat(_Options, kw_only=True):
    """``POST /api/chat`` and ``/api/chat/stream``."""

    model: str
    messages: list[ApiMessage]


Asked = ApiGenerate | ApiChat
R = TypeVar("R", ApiGenerate, ApiChat)


class ApiText(Struct):
    """The answer of ``/api/generate``."""

    text: str
    model: str
    tokens_generated: int
    finish_reason: str


class ApiAnswer(Struct):
    """The answer of ``/api/chat``."""

    message: ApiMessage
    model: str
    tokens_generated: int
    finish_reason: str


class ApiContent(Struct):
    """One event of ``/api/chat/stream``."""

    content: str


# Requests.


@dataclass(frozen=True)
class Bounds:
    """What is taken where a request gives nothing, and how long an answer may be."""

    temperature: float
    top_p: float
    max_tokens: int
    most_tokens: int


class Prepared(NamedTuple):
    """A request as the gateway takes it."""

    request: ChatRequest
    body: bytes


_GENERATE = msgspec.json.Decoder(ApiGenerate)
_CHAT = msgspec.json.Decoder(ApiChat)
_JSON_TYPE = re.compile(rb"application/([\w.-]+\+)?json\s*(;.*)?", re.IGNORECASE)


def read_generate(body: bytes, content_type: bytes) -> ApiGenerate:
    """A checked request. Raises ``BadRequest``."""
    return _read(_GENERATE, body, content_type)


def read_chat(body: bytes, content_type: bytes) -> ApiChat:
    """A checked request. Raises ``BadRequest``."""
    request = _read(_CHAT, body, content_type)
    if not request.messages:
        raise BadRequest("Messages array cannot be empty", param="messages")
    if len(request.messages) > MAX_MESSAGES:
        raise BadRequest(f"Messages array can have at most {MAX_MESSAGES} messages", param="messages")
    return request


def _read(decoder: msgspec.json.Decoder[R], body: bytes, content_type: bytes) -> R:
    if not _JSON_TYPE.fullmatch(content_type.strip()):
        raise BadRequest("Content type error", param="content-type", code="invalid_header")
    request = decoded(decoder, body)
    if request.max_tokens is not None and request.max_tokens < 0:
        raise BadRequest("max_tokens must be at least 0", param="max_tokens", code="invalid_type")
    if isinstance(request.stop, list) and len(request.stop) > MAX_STOPS:
        raise BadRequest(f"stop can have at most {MAX_STOPS} sequences", param="stop")
    return request


def most_tokens(asked: Asked, bounds: Bounds) -> int:
    """How long the answer may be, in tokens; 0: there is to be none."""
    wanted = bounds.max_tokens if asked.max_tokens is None else asked.max_tokens
    return min(wanted, bounds.most_tokens)


def prepared(asked: Asked, model: str, bounds: Bounds, *, stream: bool) -> Prepared:
    """The same request in OpenAI's shape, to ``model`` as the gateway knows it, every value within its range.

    A prompt is a conversation with one message: the models that the API was made for were taught to answer.
    """
    temperature = bounds.temperature if asked.temperature is None else asked.temperature
    top_p = bounds.top_p if asked.top_p is None else asked.top_p
    request = ChatRequest(
        model=model,
        messages=_messages(asked),
        stream=stream,
        temperature=min(max(temperature, 0.0), 2.0),
        top_p=min(max(top_p, 0.0), 1.0),
        max_tokens=most_tokens(asked, bounds),
        stop=_stops(asked.stop),
    )
    said: Json = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stream": stream,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
    }
    if request.stop:
        said["stop"] = request.stop
    return Prepared(request, msgspec.json.encode(said))


def _messages(asked: Asked) -> list[Message]:
    if isinstance(asked, ApiGenerate):
        return [Message(role="user", content=asked.prompt)]
    return [_message(message) for message in asked.messages]


def _message(given: ApiMessage) -> Message:
    role = given.role.lower()
    if role in ("system", "developer"):
        return Message(role="system", content=given.content)
    if role == "assistant":
        return Message(role="assistant", content=given.content)
    return Message(role="user", content=given.content)


def _stops(given: str | list[str] | None) -> list[str]:
    # An empty sequence is found at once.
    return [stop for stop in ([given] if isinstance(given, str) else given or []) if stop]


# Answers.


class _Said(Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(Struct):
    message: _Said = msgspec.field(default_factory=_Said)
    delta: _Said = msgspec.field(default_factory=_Said)
    finish_reason: str | None = None


class _Completion(Struct):
    choices: list[_Choice] = []


_COMPLETION = msgspec.json.Decoder(_Completion)
_LINE_ENDS = re.compile(r"\r\n|\r|\n")


def whole_answer(asked: Asked, completion: bytes, tokens: int) -> bytes:
    """The answer to ``asked``, of an OpenAI completion. Raises ``EngineError`` when it is none."""
    choice = _decoded(completion)
    return answer(asked, _text(choice.message), tokens, choice.finish_reason or "stop")


def answer(asked: Asked, text: str, tokens: int, reason: str) -> bytes:
    """An answer of ``tokens`` tokens that ended for OpenAI's ``reason``: at its bound, or by itself."""
    finish = "length" if reason == "length" else "eos"
    if isinstance(asked, ApiGenerate):
        return msgspec.json.encode(ApiText(text, asked.model, tokens, finish))
    message = ApiMessage("assistant", text)
    return msgspec.json.encode(ApiAnswer(message, asked.model, tokens, finish))


def _decoded(completion: bytes) -> _Choice:
    try:
        choices = _COMPLETION.decode(completion).choices
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineError("The engine's answer is not one of the OpenAI API.") from None
    return choices[0] if choices else _Choice()


def _text(said: _Said) -> str:
    # A model that thinks aloud and runs out of tokens has said something all the same.
    return said.content or said.reasoning_content or ""


def texts(run: bytes) -> Iterator[str]:
    """The text of each chunk in a run of whole OpenAI events; those without text give nothing."""
    for payload in sse.payloads(run):
        if payload != b"[DONE]" and (text := _decoded(payload).delta.content):
            yield text


def text_event(text: str) -> bytes:
    """A piece of text as one event: a ``data:`` line for each of its lines, so that none ends the event."""
    lines = "".join(f"data: {line}\n" for line in _LINE_ENDS.split(text))
    return f"{lines}\n".encode()


def content_event(text: str) -> bytes:
    """A piece of a message as one event."""
    return sse.event(msgspec.json.encode(ApiContent(text)))


# Errors.


class Refused(NamedTuple):
    """An error as it is answered."""

    status: int
    body: bytes
    content_type: bytes = JSON


_UNREADABLE = frozenset({"invalid_json", "invalid_type", "missing_required_parameter"})
"""Codes of bodies that are not what they should be: answered in plain text."""
_TOO_LARGE = (
    b"The body is larger than a request may be here: 2 MiB, or server.max_body_mb where that is less."
)


def refused(error: InglenookError, *, begun: bool = False) -> Refused:
    """``error`` as the API has it; ``begun``: as the last event of a stream."""
    if isinstance(error, AtCapacity | QueueFull) and not begun:
        return Refused(error.status, _at_capacity(error.retry_after))
    status, code, words = _told(error)
    if begun:
        return Refused(status, msgspec.json.encode({"error": words}))
    if error.code in _UNREADABLE:
        return Refused(status, f"Json deserialize error: {_unreadable(error)}".encode(), TEXT)
    if isinstance(error, BodyTooLarge):
        return Refused(status, _TOO_LARGE, TEXT)
    if error.code == "invalid_header":
        return Refused(status, str(error).encode(), TEXT)
    return Refused(status, msgspec.json.encode({"error": words, "code": code}))


def _at_capacity(seconds: int) -> bytes:
    return msgspec.json.encode(
        {
            "error": "Service temporarily at capacity",
            "message": "Too many concurrent LLM requests. Please retry after a short delay.",
            "retry_after_seconds": seconds,
        }
    )


def _told(error: InglenookError) -> tuple[int, str, str]:
    """Status, code and words."""
    if isinstance(error, ModelNotFound):
        return 400, "UNSUPPORTED_MODEL", f"Unsupported model: {error}"
    if isinstance(error, BadRequest):
        return error.status, "BAD_REQUEST", f"Bad request: {error}"
    if isinstance(error, EngineStartFailed | ModelLoading):
        return 503, "MODEL_LOAD_ERROR", f"Failed to load model: {error}"
    if isinstance(error, EngineError):
        return 500, "GENERATION_ERROR", f"Text generation failed: {error}"
    if error.status == 500:
        return 500, "INTERNAL_ERROR", f"Internal error: {error}"
    return error.status, error.code.upper(), str(error)


def _unreadable(error: InglenookError) -> str:
    if error.code == "missing_required_parameter":
        return f"missing field `{(error.param or '').rpartition('.')[2]}`"
    return str(error)
