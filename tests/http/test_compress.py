"""Compression: whole answers of some size, for clients that ask; never streams, never vectors."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest

from inglenook.http.compress import ABOVE, takes_gzip
from tests.parts.server import Answer, Server, start

OPENAI = {"accept-encoding": "gzip, deflate", "content-type": "application/json"}
"""What OpenAI's clients send."""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = """
        models = [
            {id = "echo", path = "builtin:echo", context = 200000},
            {id = "hash", path = "builtin:deterministic", dimension = 4096},
        ]
    """
    server = start(settings, tmp_path_factory.mktemp("echo"), ())
    yield server
    server.end()


def chat(server: Server, content: str, path: str = "/v1/chat/completions", **fields: object) -> Answer:
    body = {"model": "echo", "messages": [{"role": "user", "content": content}], **fields}
    return server.ask("POST", path, body, OPENAI)


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        (b"", False),
        (b"gzip", True),
        (b"GZIP", True),
        (b"deflate, gzip;q=1.0, *;q=0.5", True),
        (b"br, gzip ; q=0.1", True),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000", False),
        (b"br, zstd, deflate", False),
        (b"x-gzip-not", False),
    ],
)
def test_who_takes_gzip(accepted: bytes, takes: bool) -> None:
    """RFC 9110, 12.5.3."""
    assert takes_gzip(accepted) is takes


def test_a_short_answer_stays_as_it_is(echo: Server) -> None:
    """Compressing it would take half as long as all the rest."""
    answer = chat(echo, "hello " * 50)
    assert 600 < len(answer.body) < ABOVE
    assert "content-encoding" not in answer.headers
    assert answer.json["choices"][0]["message"]["content"] == "hello " * 50


@pytest.mark.parametrize("words", [1000, 40_000], ids=["in the loop", "in a thread"])
def test_a_long_answer_is_compressed(echo: Server, words: int) -> None:
    """The same to the last byte, and marked as what it is."""
    answer = chat(echo, "hello " * words)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "accept-encoding"
    assert int(answer.headers["content-length"]) == len(answer.body) < words
    assert json.loads(gzip.decompress(answer.body))["choices"][0]["message"]["content"] == "hello " * words


def test_who_does_not_ask_gets_it_plain(echo: Server) -> None:
    """And is told that it depends on the asking."""
    answer = echo.chat("hello " * 1000)
    assert "content-encoding" not in answer.headers and answer.headers["vary"] == "accept-encoding"
    assert answer.json["choices"][0]["message"]["content"] == "hello " * 1000


def test_a_stream_is_never_compressed(echo: Server) -> None:
    """Its events have to leave at once."""
    answer = chat(echo, "hello " * 1000, stream=True)
    assert "content-encoding" not in answer.headers
    assert answer.events[-1] == "[DONE]"
    told = chat(echo, "hello " * 1000, "/api/chat/stream")
    assert told.status == 200 and "content-encoding" not in told.headers


def test_vectors_are_never_compressed(echo: Server) -> None:
    """Their digits hardly shrink, and there are many of them."""
    answer = echo.ask("POST", "/v1/embeddings", {"model": "hash", "input": "hello"}, OPENAI)
    assert len(answer.body) > 10_000 and "content-encoding" not in answer.headers


@pytest.mark.parametrize("path", ["/api/llms", "/metrics", "/api/openapi.json"])
def test_other_answers_too(echo: Server, path: str) -> None:
    """GET and HEAD have the same headers."""
    answer = echo.ask("GET", path, headers=OPENAI)
    head = echo.ask("HEAD", path, headers=OPENAI)
    assert answer.headers["content-encoding"] == head.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) and not head.body
