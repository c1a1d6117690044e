"""Every error has OpenAI's envelope, names the field and the mend, and shows nothing of the inside."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.parts.server import Server

OK: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


def chat(server: Server, **fields: Any) -> Any:
    return server.ask("POST", "/v1/chat/completions", {"model": "starter", "messages": OK} | fields)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"temperature": 2.5}, "temperature", "temperature must be between 0.0 and 2.0"),
        ({"temperature": "hot"}, "temperature", "temperature must be a number, not a string"),
        ({"top_p": -0.1}, "top_p", "top_p must be between 0.0 and 1.0"),
        ({"presence_penalty": 3}, "presence_penalty", "presence_penalty must be between -2.0 and 2.0"),
        ({"n": 0}, "n", "n must be between 1 and 128"),
        ({"n": 1000000}, "n", "n must be between 1 and 128"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens must be at least 1"),
        ({"max_tokens": 10**12}, "max_tokens", "max_tokens must be at most 2147483647"),
        ({"max_tokens": 1.5}, "max_tokens", "max_tokens must be an integer, not a number"),
        ({"stream": "yes"}, "stream", "stream must be a boolean, not a string"),
        ({"stop": ["a"] * 17}, "stop", "stop must have at most 16 sequences"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "logit_bias must map token ids to numbers"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "logit_bias values must be between -100 and 100"),
        ({"top_logprobs": 2}, "top_logprobs", "top_logprobs needs logprobs to be true"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream_options needs stream to be true"),
        ({"messages": []}, "messages", "messages must have at least one message"),
        ({"messages": "hi"}, "messages", "messages must be an array, not a string"),
        ({"messages": None}, "messages", "messages must be an array, not null"),
        ({"messages": [{"role": "wizard"}]}, "messages[0].role", "messages[0].role must be developer, system, user, assistant or tool"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role", "messages[0].role is required"),
        ({"model": 7}, "model", "model must be a string, not an integer"),
        ({"tool_choice": "required"}, "tool_choice", "tool_choice needs tools to choose from"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "response_format.type must be text, json_object or json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "response_format.json_schema.schema is required when the type is json_schema"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_what_it_may_be(
    starter: Server, fields: dict[str, Any], param: str, message: str
) -> None:
    """Type, range and shape, for each in one sentence."""
    answer = chat(starter, **fields)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert (answer.error["param"], answer.error["message"]) == (param, message)
    assert isinstance(answer.error["code"], str)


def test_images_by_address_are_refused_where_they_stand(starter: Server) -> None:
    """The engine would fetch them by itself, from inside the operator's network."""
    for url in ("http://127.0.0.1/x.png", "https://example.com/x.png", "file:///etc/passwd", "//x/y"):
        part = {"type": "image_url", "image_url": {"url": url}}
        answer = chat(starter, messages=[{"role": "user", "content": [part]}])
        assert answer.status == 400
        assert answer.error["param"] == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"model": "starter", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "starter", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "starter", "temperature": NaN, "messages": []}',
        b'{"model": "starter", "temperature": 1e999, "messages": []}',
        b'{"model": "starter", "n": 99999999999999999999999, "messages": []}',
        b"[" * 100_000,
        b'{"messages":' + b'{"a":' * 100_000,
        b'{"model": "starter", "metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b', "messages": []}',
    ],
)
def test_rubbish_is_a_400_at_once(starter: Server, body: bytes) -> None:
    """Not JSON, not UTF-8, numbers that are none, nesting without end: an error in OpenAI's envelope."""
    began = time.monotonic()
    answer = starter.ask("POST", "/v1/chat/completions", body)
    assert answer.status == 400
    assert set(answer.error) >= {"message", "type", "param", "code"}
    assert time.monotonic() - began < 2


def test_unknown_model_names_the_nearest(starter: Server) -> None:
    """404 `model_not_found`, for models and for requests."""
    assert chat(starter, model="startr").error["message"].endswith("did you mean 'starter'?")
    for path in ("/v1/models/nope", "/v1/models/team/ech"):
        answer = starter.get(path)
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")


def test_unknown_path_and_wrong_verb(starter: Server) -> None:
    """404 and 405, the latter with what is allowed."""
    assert (starter.get("/v1/chat").status, starter.get("/v1/chat").error["code"]) == (404, "not_found")
    answer = starter.get("/v1/chat/completions")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_a_body_too_large_is_a_413_without_reading_it(serve: StartServer) -> None:
    """By its declared length, and by what really comes."""
    server = serve("[server]\nmax_body_mb = 0.1\n")
    answer = server.ask("POST", "/v1/chat/completions", b"x" * 200_000)
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    with server.raw() as client:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        client.sendall(head + (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 4)
        assert client.recv(65536).startswith(b"HTTP/1.1 413")


def test_half_a_header_is_cut_off_after_ten_seconds(serve: StartServer) -> None:
    """An idle half-sent header does not keep a connection; others are served meanwhile."""
    server = serve("")
    began = time.monotonic()
    with server.raw() as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-slow")
        assert server.get("/health").status == 200
        client.settimeout(15)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1024) == b""
    assert 9 < time.monotonic() - began < 13


def test_a_header_without_end_is_refused(serve: StartServer) -> None:
    """Headers have a bound, however slowly they come."""
    server = serve("")
    with server.raw() as client:
        client.sendall(b"GET /health HTTP/1.1\r\nx-long: ")
        try:
            for _ in range(40):
                client.sendall(b"a" * 4096)
            got = client.recv(1024)
        except OSError:
            got = b""
    assert got == b"" or got.startswith(b"HTTP/1.1 4")
    assert server.get("/health").status == 200


@pytest.mark.parametrize(
    "pieces",
    [
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 40_000 + b"\r\n\r\n",),
        (b"GET /health?" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",),
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * 8000 + b"\r\n",),
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 20_000, b"a" * 20_000 + b"\r\n\r\n"),
    ],
    ids=["one header", "a path", "many headers", "two writes"],
)
def test_a_header_of_more_than_32_kib_is_refused(starter: Server, pieces: tuple[bytes, ...]) -> None:
    """However it comes, its end with it."""
    with starter.raw() as client:
        for piece in pieces:
            client.sendall(piece)
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"The request's header is too large.")


def test_a_large_body_that_comes_with_its_header_is_no_large_header(starter: Server) -> None:
    """Both in one write."""
    body = json.dumps({"model": "nobody", "messages": OK, "user": "a" * 100_000}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
    with starter.raw() as client:
        client.sendall(head + body)
        assert client.recv(65536).startswith(b"HTTP/1.1 404 ")


def test_the_request_id_is_kept_or_made_and_returned(starter: Server) -> None:
    """`x-request-id` is taken over when it is harmless."""
    assert (
        starter.ask("GET", "/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    )
    made = starter.ask("GET", "/health", headers={"x-request-id": "a b"}).headers["x-request-id"]
    assert len(made) == 32


def test_a_prompt_appears_in_no_log_and_no_error(serve: StartServer) -> None:
    """A canary in every place that a request has room for."""
    server = serve('[telemetry]\nlog_level = "debug"\n[[models]]\nid = "starter"\npath = "builtin:starter"\n')
    canary = "CANARY-7261"
    bodies: list[dict[str, Any]] = [
        {},
        {"stream": True},
        {"temperature": 9},
        {"grammar": f"root ::= {canary}"},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": canary}}}},
        {"max_tokens": canary},
        {"stop": [canary], "n": 2},
        {"messages": [{"role": canary, "content": canary}]},
        {"messages": [{"role": "user", "content": canary * 5000}]},
        {"tools": [{"type": "function", "function": {"name": canary, "parameters": {"type": canary}}}]},
    ]
    for fields in bodies:
        body = {"model": "starter", "max_tokens": 5, "messages": [{"role": "user", "content": canary}]}
        answer = server.ask("POST", "/v1/chat/completions", body | fields, {"x-canary": canary})
        if answer.status != 200:
            assert canary.encode() not in answer.body, (fields, answer.body)
    server.ask("POST", "/v1/chat/completions", b'{"model": "starter", ' + canary.encode())
    server.get(f"/{canary}?key={canary}")
    server.end()
    assert canary not in server.log


def test_pipelined_and_kept_connections_are_served_in_order(starter: Server) -> None:
    """HTTP/1.1 as clients use it."""
    with starter.raw() as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n" * 2)
        client.settimeout(5)
        got = b""
        while got.count(b'"status":"ok"') < 2:
            got += client.recv(65536)
    assert got.count(b"HTTP/1.1 200") == 2


def test_pipelined_chats_are_answered_one_after_the_other_whole_and_streamed(starter: Server) -> None:
    """A stream that follows a whole answer begins after it, byte by byte."""
    with starter.raw() as client:
        for stream in (False, True, False):
            body = {"model": "starter", "stream": stream, "max_tokens": 3}
            sent = json.dumps(body | {"messages": [{"role": "user", "content": "Hello"}]}).encode()
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
            client.sendall(head % len(sent) + sent)
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        got = b""
        while piece := client.recv(65536):
            got += piece
    kinds = [head.split(b"content-type: ")[1].split(b"\r\n")[0] for head in got.split(b"HTTP/1.1 200 OK")[1:]]
    assert kinds == [
        b"application/json",
        b"text/event-stream; charset=utf-8",
        b"application/json",
        b"application/json",
    ]
    assert got.count(b"data: [DONE]\n\n\r\n0\r\n\r\nHTTP/1.1 200") == 1


def test_small_answers_are_not_held_back(starter: Server) -> None:
    """No Nagle: forty milliseconds would show."""
    connection = starter.connect()
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for _ in range(50):
        began = time.monotonic()
        connection.request("GET", "/health")
        json.loads(connection.getresponse().read())
        times.append(time.monotonic() - began)
    connection.close()
    assert sorted(times)[len(times) // 2] < 0.035
