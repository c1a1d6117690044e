"""llama-server's completions with log-probabilities or echo become the API's own shape."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inglenook.engines.llamacpp_shapes import CompletionShape, read_properties

Json = Any


def token(text: bytes, logprob: float, *others: tuple[bytes, float]) -> Json:
    """One token as llama-server writes it; the first alternative is the token itself."""
    shown = text.decode("utf-8", "replace")
    top = [token(other, value) for other, value in ((text, logprob), *others)] if others else []
    return {"id": 1, "token": shown, "bytes": list(text), "logprob": logprob, "top_logprobs": top}


def answer(text: str, *tokens: Json, finish: str | None = "length") -> bytes:
    logprobs = {"content": list(tokens)} if tokens else None
    choice = {"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish}
    return json.dumps({"choices": [choice], "model": "m", "usage": {"total_tokens": 3}}).encode()


def rewritten(shape: CompletionShape, payload: bytes) -> Json:
    return json.loads(shape.rewrite(payload))["choices"][0]


def test_logprobs_become_four_lists() -> None:
    """Tokens, their log-probabilities, the best alternatives, and where each token begins."""
    whole = answer(
        " a b", token(b" a", -0.5, (b" c", -1.0), (b" d", -2.0)), token(b" b", -0.25, (b" e", -3.0))
    )
    assert rewritten(CompletionShape(logprobs=2), whole)["logprobs"] == {
        "tokens": [" a", " b"],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{" a": -0.5, " c": -1.0}, {" b": -0.25, " e": -3.0}],
        "text_offset": [0, 2],
    }


def test_zero_logprobs_have_no_alternatives() -> None:
    """The engine was asked for one, because it gives nothing for 0."""
    logprobs = rewritten(CompletionShape(logprobs=0), answer("a", token(b"a", -0.5, (b"b", -1.0))))[
        "logprobs"
    ]
    assert logprobs["token_logprobs"] == [-0.5]
    assert logprobs["top_logprobs"] is None


def test_places_go_on_from_event_to_event() -> None:
    """One shape sees all events of a stream."""
    shape = CompletionShape(logprobs=1)
    events = [answer("ab", token(b"ab", -1), finish=None), answer("c", token(b"c", -1), finish=None)]
    places = [rewritten(shape, event)["logprobs"]["text_offset"] for event in events]
    assert places == [[0], [2]]


def test_a_character_of_several_tokens_counts_once() -> None:
    """Bytes that are no text on their own are written as OpenAI writes them."""
    parts = [token(b"\xf0\x9f", -1), token(b"\x91\x8b", -1), token(b"!", -1)]
    logprobs = rewritten(CompletionShape(logprobs=1), answer("\U0001f44b!", *parts))["logprobs"]
    assert logprobs["tokens"] == ["bytes:\\xf0\\x9f", "bytes:\\x91\\x8b", "!"]
    assert logprobs["text_offset"] == [0, 0, 1]


def test_echo_stands_before_the_first_text_only() -> None:
    """The prompt is repeated once, and the places count from its beginning."""
    shape = CompletionShape(logprobs=1, echo="Once")
    first = rewritten(shape, answer(" upon", token(b" upon", -1), finish=None))
    second = rewritten(shape, answer(" a", token(b" a", -1)))
    assert (first["text"], second["text"]) == ("Once upon", " a")
    assert (first["logprobs"]["text_offset"], second["logprobs"]["text_offset"]) == ([4], [9])


def test_everything_else_stays() -> None:
    """A last event without tokens, and the fields around the choices."""
    payload = answer("")
    assert json.loads(CompletionShape(logprobs=1).rewrite(payload)) == json.loads(payload)


def test_an_event_without_choices_stays() -> None:
    """Usage, or an error."""
    payload = b'{"choices":[],"usage":{"total_tokens":3}}'
    assert json.loads(CompletionShape(logprobs=1).rewrite(payload)) == json.loads(payload)


def test_a_running_engine_says_what_it_can_do() -> None:
    """Recorded from GET /props, most of it left out."""
    body = (
        b'{"default_generation_settings":{"params":{"seed":4294967295},"n_ctx":1024},"total_slots":2,'
        b'"model_path":"/m.gguf","modalities":{"vision":true,"video":false,"audio":false},'
        b'"chat_template_caps":{"supports_tools":true,"supports_system_role":true}}'
    )
    properties = read_properties(body)
    assert properties is not None
    assert (properties.context, properties.total_slots, properties.takes_tools) == (1024, 2, True)
    assert (properties.modalities.vision, properties.modalities.audio) == (True, False)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"total_slots":"two"}', b"\xff"])
def test_what_is_not_properties_is_nothing(body: bytes) -> None:
    """An answer of another server is not believed."""
    assert read_properties(body) is None
