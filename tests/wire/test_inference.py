"""The shapes below ``/api``: what is read, what is clamped, how answers, streams and errors look."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from inglenook.errors import (
    AtCapacity,
    BadRequest,
    BodyTooLarge,
    ContextLengthExceeded,
    EngineError,
    EngineLost,
    EngineStartFailed,
    EngineTimeout,
    Forbidden,
    InglenookError,
    ModelLoading,
    ModelNotFound,
    QueueFull,
    RateLimited,
    ShuttingDown,
    Unauthenticated,
)
from inglenook.wire import inference as wire
from inglenook.wire.check import MAX_MESSAGES
from inglenook.wire.inference import MAX_STOPS, ApiChat, ApiGenerate, Bounds
from inglenook.wire.inference_models import CATALOGUE, listed

JSON = b"application/json"
BOUNDS = Bounds(temperature=0.7, top_p=0.9, max_tokens=512, most_tokens=4096)
ASKED: dict[str, Any] = {"model": "m", "prompt": "p"}


def generate(**fields: Any) -> ApiGenerate:
    return wire.read_generate(json.dumps(ASKED | fields).encode(), JSON)


def chat(*messages: tuple[str, str], **fields: Any) -> ApiChat:
    said = [{"role": role, "content": content} for role, content in messages]
    return wire.read_chat(json.dumps({"model": "m", "messages": said, **fields}).encode(), JSON)


def body(asked: ApiGenerate | ApiChat, *, stream: bool = False) -> dict[str, Any]:
    """What the gateway would be sent; its checked twin says the same."""
    request, sent = wire.prepared(asked, "m", BOUNDS, stream=stream)
    said: dict[str, Any] = json.loads(sent)
    for name in ("model", "stream", "temperature", "top_p", "max_tokens"):
        assert getattr(request, name) == said[name]
    assert [(m.role, m.content) for m in request.messages] == [
        (m["role"], m["content"]) for m in said["messages"]
    ]
    return said


def test_a_prompt_is_one_message_of_the_user() -> None:
    """With the defaults for all that is not said, ``null`` included."""
    expected = {
        "model": "m",
        "messages": [{"role": "user", "content": "p"}],
        "stream": False,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 512,
    }
    assert body(generate()) == expected
    assert body(generate(temperature=None, top_p=None, max_tokens=None, stop=None, foo=1)) == expected
    assert body(generate(), stream=True) == expected | {"stream": True}


@pytest.mark.parametrize(
    ("field", "given", "taken"),
    [
        ("temperature", -1, 0.0),
        ("temperature", 0, 0.0),
        ("temperature", 1.5, 1.5),
        ("temperature", 99, 2.0),
        ("top_p", -0.5, 0.0),
        ("top_p", 0.25, 0.25),
        ("top_p", 7, 1.0),
        ("max_tokens", 0, 0),
        ("max_tokens", 1, 1),
        ("max_tokens", 4096, 4096),
        ("max_tokens", 4097, 4096),
        ("max_tokens", 10**30, 4096),
    ],
)
def test_values_are_clamped(field: str, given: float, taken: float) -> None:
    """Never refused."""
    assert body(generate(**{field: given}))[field] == taken
    assert body(chat(("user", "hi"), **{field: given}))[field] == taken


def test_the_default_length_is_capped_too() -> None:
    """A limit below the default is the default."""
    assert wire.most_tokens(generate(), Bounds(0.7, 0.9, 512, 100)) == 100


@pytest.mark.parametrize(
    ("said", "role"),
    [("user", "user"), ("USER", "user"), ("System", "system"), ("ASSISTANT", "assistant"), ("tool", "user"),
     ("developer", "system"), ("wizard", "user"), ("", "user")],
)  # fmt: skip
def test_roles(said: str, role: str) -> None:
    """Capitals do not matter, and who we do not know is the user."""
    assert body(chat((said, "hi")))["messages"] == [{"role": role, "content": "hi"}]


@pytest.mark.parametrize(
    ("given", "stops"),
    [(["a", "b"], ["a", "b"]), ("a", ["a"]), ([], None), (["", "a"], ["a"]), ("", None), ([""], None)],
)
def test_stops(given: Any, stops: list[str] | None) -> None:
    """A list or a single one; an empty one would end every answer at its beginning."""
    assert body(generate(stop=given)).get("stop") == stops


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"prompt": "p"}', "missing field `model`"),
        (b'{"model": "m"}', "missing field `prompt`"),
        (b'{"model": null, "prompt": "p"}', "model must be a string, not null"),
        (b'{"model": "m", "prompt": ["p"]}', "prompt must be a string, not an array"),
        (
            b'{"model": "m", "prompt": "p", "temperature": "hot"}',
            "temperature must be a number, not a string",
        ),
        (b'{"model": "m", "prompt": "p", "max_tokens": -1}', "max_tokens must be at least 0"),
        (b'{"model": "m", "prompt": "p", "max_tokens": 1.5}', "max_tokens must be an integer, not a number"),
        (b'{"model": "m", "prompt": "p", "stop": [1]}', "stop[0] must be a string, not an integer"),
        (b"[]", "The body must be an object, not an array"),
    ],
)
def test_a_body_that_is_not_what_it_should_be(data: bytes, says: str) -> None:
    """Plain text, 400, and where the mistake is."""
    with pytest.raises(BadRequest) as caught:
        wire.read_generate(data, JSON)
    refused = wire.refused(caught.value)
    assert refused == (400, f"Json deserialize error: {says}".encode(), b"text/plain; charset=utf-8")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"model": "m", "prompt": "p"'])
def test_a_body_that_is_no_json(data: bytes) -> None:
    """The same words in front."""
    with pytest.raises(BadRequest) as caught:
        wire.read_generate(data, JSON)
    status, text, kind = wire.refused(caught.value)
    assert (status, kind) == (400, b"text/plain; charset=utf-8")
    assert text.startswith(b"Json deserialize error: ")


def test_a_field_within_a_message_is_named() -> None:
    """The innermost name, as the framework of the contract has it."""
    with pytest.raises(BadRequest) as caught:
        wire.read_chat(b'{"model": "m", "messages": [{"role": "user"}]}', JSON)
    assert wire.refused(caught.value).body == b"Json deserialize error: missing field `content`"


@pytest.mark.parametrize(
    "kind", [b"", b"text/plain", b"application/x-www-form-urlencoded", b"application/jsonl"]
)
def test_another_content_type_is_refused(kind: bytes) -> None:
    """What curl sends without a header, for one."""
    with pytest.raises(BadRequest) as caught:
        wire.read_generate(json.dumps(ASKED).encode(), kind)
    assert wire.refused(caught.value) == (400, b"Content type error", b"text/plain; charset=utf-8")


@pytest.mark.parametrize(
    "kind", [b"application/json", b"Application/JSON; charset=utf-8", b"application/vnd.api+json"]
)
def test_json_by_any_name_is_taken(kind: bytes) -> None:
    """With parameters, and with what is made of JSON."""
    assert wire.read_generate(json.dumps(ASKED).encode(), kind).prompt == "p"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (lambda: chat(), "Bad request: Messages array cannot be empty"),
        (lambda: chat(*[("user", "")] * (MAX_MESSAGES + 1)), f"Bad request: Messages array can have at most {MAX_MESSAGES} messages"),
        (lambda: generate(stop=["a"] * (MAX_STOPS + 1)), f"Bad request: stop can have at most {MAX_STOPS} sequences"),
    ],
)  # fmt: skip
def test_requests_that_are_refused(asked: Any, says: str) -> None:
    """There is little that is."""
    with pytest.raises(BadRequest) as caught:
        asked()
    status, said, kind = wire.refused(caught.value)
    assert (status, kind, json.loads(said)) == (400, JSON, {"error": says, "code": "BAD_REQUEST"})


ERRORS: list[tuple[InglenookError, int, str, str]] = [
    (ModelNotFound("Model x is not in the allowed models list"), 400, "UNSUPPORTED_MODEL", "Unsupported model: Model x is not in the allowed models list"),
    (BadRequest("no"), 400, "BAD_REQUEST", "Bad request: no"),
    (ContextLengthExceeded(given=2, limit=1), 400, "BAD_REQUEST", "Bad request: This model's maximum"),
    (EngineError("no"), 500, "GENERATION_ERROR", "Text generation failed: no"),
    (EngineLost("no"), 500, "GENERATION_ERROR", "Text generation failed: no"),
    (EngineTimeout("no"), 500, "GENERATION_ERROR", "Text generation failed: no"),
    (InglenookError("no"), 500, "INTERNAL_ERROR", "Internal error: no"),
    (EngineStartFailed("no"), 503, "MODEL_LOAD_ERROR", "Failed to load model: no"),
    (ModelLoading("no"), 503, "MODEL_LOAD_ERROR", "Failed to load model: no"),
    (ShuttingDown("no"), 503, "SHUTTING_DOWN", "no"),
    (Unauthenticated("no"), 401, "INVALID_API_KEY", "no"),
    (Forbidden("no"), 403, "PERMISSION_DENIED", "no"),
    (RateLimited("no"), 429, "RATE_LIMIT_EXCEEDED", "no"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "status", "code", "words"), ERRORS, ids=lambda each: str(each)[:20])
def test_errors_have_the_apis_shape(error: InglenookError, status: int, code: str, words: str) -> None:
    """Two keys, and the code in capitals."""
    refused = wire.refused(error)
    said = json.loads(refused.body)
    assert (refused.status, refused.content_type) == (status, JSON)
    assert list(said) == ["error", "code"] and said["code"] == code
    assert said["error"].startswith(words)


@pytest.mark.parametrize("error", [AtCapacity("no", retry_after=10), QueueFull("no", retry_after=3)])
def test_who_comes_too_many_is_told_when_to_come_again(error: AtCapacity | QueueFull) -> None:
    """The one error with a body of its own."""
    refused = wire.refused(error)
    assert refused.status == 503
    assert json.loads(refused.body) == {
        "error": "Service temporarily at capacity",
        "message": "Too many concurrent LLM requests. Please retry after a short delay.",
        "retry_after_seconds": error.retry_after,
    }


def test_a_body_that_is_too_large_is_refused_in_plain_text() -> None:
    """413, as the framework did; without advice that would not help here."""
    status, body, content_type = wire.refused(BodyTooLarge("raise server.max_body_mb"))
    assert (status, content_type) == (413, b"text/plain; charset=utf-8")
    assert b"2 MiB" in body and b"raise" not in body


def test_an_error_in_a_stream_is_its_words_alone() -> None:
    """As the consumers of these streams look for it."""
    assert json.loads(wire.refused(EngineLost("gone"), begun=True).body) == {
        "error": "Text generation failed: gone"
    }
    assert json.loads(wire.refused(QueueFull("full"), begun=True).body) == {"error": "full"}


def completion(content: str | None, reason: str = "stop", **more: str) -> bytes:
    message = {"role": "assistant", "content": content, **more}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": reason}]}).encode()


@pytest.mark.parametrize(("reason", "finish"), [("stop", "eos"), ("length", "length"), ("tool_calls", "eos")])
def test_answers(reason: str, finish: str) -> None:
    """Both shapes, with the name that was asked for and the engine's own count."""
    told = {"model": "m", "tokens_generated": 7, "finish_reason": finish}
    assert json.loads(wire.whole_answer(generate(), completion("Hé", reason), 7)) == {"text": "Hé", **told}
    assert json.loads(wire.whole_answer(chat(("user", "x")), completion("Hé", reason), 7)) == {
        "message": {"role": "assistant", "content": "Hé"},
        **told,
    }


def test_a_model_that_only_thought_has_said_something() -> None:
    """Its thoughts, where its tokens ran out before the answer."""
    thought = completion(None, "length", reasoning_content="hm")
    assert json.loads(wire.whole_answer(generate(), thought, 1))["text"] == "hm"
    assert json.loads(wire.whole_answer(generate(), completion(None), 0))["text"] == ""


def test_an_answer_that_is_none_is_the_engines_failure() -> None:
    """Not a traceback."""
    with pytest.raises(EngineError):
        wire.whole_answer(generate(), b"<html>", 0)


def decoded(stream: bytes) -> list[str]:
    """The data of each event, as a browser's EventSource would have it (WHATWG HTML, 9.2.6)."""
    events: list[str] = []
    data: list[str] = []
    for line in re.split(r"\r\n|\r|\n", stream.decode()):
        if not line and data:
            events.append("\n".join(data))
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
    return events


@pytest.mark.parametrize(
    "text",
    ["a", " a", "  ", "\n", "a\n", "\na", "a\n\nb", "data: x\n\ndata: y", ": c", "é\u2028\n", "\n\n\n"],
)
def test_a_text_event_is_read_as_the_same_text(text: str) -> None:
    """Line breaks, blanks at its beginning, and what looks like framing."""
    event = wire.text_event(text)
    assert decoded(event) == [text]
    assert event.endswith(b"\n\n") and b"\n\n" not in event[:-2]


@pytest.mark.parametrize("text", ["a\r\nb", "a\rb", "a\nb"])
def test_every_line_break_is_a_line_feed(text: str) -> None:
    """A carriage return too would end a line of the stream."""
    assert decoded(wire.text_event(text)) == ["a\nb"]


def test_a_content_event_is_json_on_one_line() -> None:
    """Whatever the text has in it."""
    assert wire.content_event('a\n"b"') == b'data: {"content":"a\\n\\"b\\""}\n\n'


def test_texts_of_a_stream() -> None:
    """The first chunk has a role and no text, the last one the usage; neither is told."""
    run = b"".join(
        b"data: " + json.dumps(chunk).encode() + b"\n\n"
        for chunk in (
            {"choices": [{"delta": {"role": "assistant", "content": None}}]},
            {"choices": [{"delta": {"content": "a"}}]},
            {"choices": [{"delta": {"content": ""}}]},
            {"choices": [{"delta": {"content": "b"}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"completion_tokens": 2}},
        )
    )
    assert list(wire.texts(run + b": ping\n\ndata: [DONE]\n\n")) == ["a", "b"]


def test_the_catalogue_is_the_contracts() -> None:
    """Eight models; a base model does not chat."""
    assert len(CATALOGUE) == 8
    by_id = {model.id: model for model in CATALOGUE}
    tiny = by_id["TinyLlama/TinyLlama-1.1B-Chat-v1.0"]
    assert (tiny.name, tiny.size) == ("TinyLlama 1.1B Chat", "1.1B")
    assert by_id["mistralai/Mixtral-8x7B-Instruct-v0.1"].size == "8x7B"
    assert by_id["microsoft/Phi-3-mini-4k-instruct"].size == "3.8B"
    assert by_id["mistralai/Mistral-7B-v0.1"].capabilities == ("text-generation",)
    chats = [model for model in CATALOGUE if model.id != "mistralai/Mistral-7B-v0.1"]
    assert {model.capabilities for model in chats} == {("text-generation", "chat")}


def test_a_model_outside_the_catalogue_is_listed_too() -> None:
    """With what its name says, and no size."""
    tiny = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    models = listed(["me/mine-GGUF", tiny, "builtin:starter", "/models/a.gguf", "me/mine-GGUF"])
    assert [(model.id, model.name, model.size) for model in models] == [
        (tiny, "TinyLlama 1.1B Chat", "1.1B"),
        ("me/mine-GGUF", "mine-GGUF", None),
        ("builtin:starter", "starter", None),
        ("/models/a.gguf", "a", None),
    ]
    assert len(listed([], everything=True)) == 8
