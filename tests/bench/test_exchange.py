"""What is asked and answered is the same byte for byte on both sides."""

from __future__ import annotations

import json

import pytest

from inglenook.bench import exchange
from inglenook.bench.exchange import Pace


def test_the_answer_has_its_size() -> None:
    """600 bytes of JSON, as every run has measured."""
    body = exchange.answer_body()
    assert len(body) == exchange.ANSWER_BYTES
    assert json.loads(body)["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("size", [1_000, 60_000, 400_000])
def test_a_request_has_the_size_asked_for(size: int) -> None:
    """To the byte, and it is JSON."""
    body = exchange.chat_body("00000001", size=size)
    assert len(body) == size
    assert json.loads(body)["model"] == exchange.MODEL


def test_a_pace_travels_in_the_prompt() -> None:
    """It survives being parsed and written anew; a request without one gets the default."""
    pace = Pace(deltas=64, interval_us=20_000, delay_us=5)
    body = json.dumps(json.loads(exchange.chat_body("1", pace=pace)), indent=2).encode()
    assert exchange.read_pace(body, Pace()) == pace
    assert exchange.read_pace(b"{}", Pace(deltas=3)) == Pace(deltas=3)


def test_a_stream_is_heard_as_it_was_written() -> None:
    """Events, text, tokens and the end."""
    heard = exchange.hear(b"".join(exchange.stream_events(5, usage=True)))
    assert (heard.events, heard.text, heard.tokens) == (9, exchange.stream_text(5), 5)
    assert heard.is_ended


def test_what_is_no_stream_says_nothing() -> None:
    """Garbage is counted, never raised."""
    heard = exchange.hear(b'data: {\n\ndata: []\n\ndata: {"choices": [7, {"delta": {"content": 1}}]}\n\n')
    assert (heard.events, heard.text, heard.tokens, heard.is_ended) == (3, "", None, False)


def test_a_request_on_the_wire() -> None:
    """Head, empty line, body."""
    raw = exchange.http_request("POST", "/p", {"X-Y": "z"}, b"body")
    assert raw == b"POST /p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nX-Y: z\r\n\r\nbody"
