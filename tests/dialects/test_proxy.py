"""The llama.cpp proxy: every statement and example of its README, against the dialect and a scripted upstream."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from inglenook.config.load import load
from inglenook.errors import InglenookError
from inglenook.http.dialects.proxy import ProxySurface
from inglenook.telemetry.call import Call
from tests.parts.dialect import start_dialect
from tests.parts.server import Answer, Server, until
from tests.parts.upstream import (
    Heard,
    Scripted,
    Write,
    after,
    chunk,
    fails,
    raw,
    says,
    scripted,
    silent,
    stream,
    whole,
)

HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"model": "llama", "messages": HELLO}
LOCAL = {"authorization": "Bearer local"}
MISSING = {"error": {"message": "Missing or invalid Authorization header"}}


@contextmanager
def speaking(directory: Path, given: dict[str, str]) -> Iterator[Server]:
    """A server of the dialect on a free port."""
    server = start_dialect("proxy", directory, {"API_PORT": "0", "RETRY_BACKOFF_S": "0.001", **given})
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def behind() -> Iterator[Scripted]:
    with scripted() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory, behind: Scripted) -> Iterator[Server]:
    """Without keys, before the one upstream; short timeouts."""
    given = {
        "LLAMA_CPP_BASE_URL": f"{behind.url}/",
        "RATE_LIMIT_RPM": "100000",
        "CORS_ALLOWED_ORIGINS": "http://localhost:3000",
        "TIMEOUT_EMBEDDINGS_S": "0.2",
    }
    with speaking(tmp_path_factory.mktemp("proxy"), given) as running:
        yield running


@pytest.fixture(autouse=True)
def empty_book(behind: Scripted) -> None:
    """The upstream has heard nothing yet, and has no script."""
    behind.script.clear()
    behind.calls.clear()
    behind.always = says()


@pytest.fixture
def server(open_server: Server) -> Server:
    return open_server


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, behind: Scripted) -> Iterator[Server]:
    given = {
        "LLAMA_CPP_BASE_URL": behind.url,
        "OPENAI_API_KEY": "local",
        "OPENAI_API_KEYS": "key_a:team_a,key_b:team_b,key_c",
        "CORS_ALLOWED_ORIGINS": "http://localhost:3000",
    }
    with speaking(tmp_path_factory.mktemp("keyed"), given) as running:
        yield running


def chat(server: Server, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    return server.ask("POST", "/v1/chat/completions", {**CHAT, **fields}, headers)


# What is passed on, and what comes back.


def test_health_is_one_key_and_needs_none(server: Server, keyed: Server) -> None:
    assert [each.get("/health").body for each in (server, keyed)] == [b'{"status":"ok"}'] * 2


def test_the_body_goes_on_without_nulls_and_with_stream(server: Server, behind: Scripted) -> None:
    answer = chat(server, {"authorization": "Bearer x"}, top_k=None, made_up={"a": None}, temperature=0.2)
    assert answer.status == 200
    (heard,) = behind.calls
    assert heard.json == {**CHAT, "made_up": {"a": None}, "temperature": 0.2, "stream": False}
    assert "authorization" not in heard.headers


def test_no_body_tells_the_upstream_whom_to_call(server: Server, behind: Scripted) -> None:
    """As everywhere here; all other unknown fields go on."""
    assert chat(server, api_base="http://evil.example").status == 400
    assert not behind.calls


def test_any_model_name_goes_to_the_one_upstream(server: Server, behind: Scripted) -> None:
    assert chat(server, model="whatever/it is").status == 200
    assert behind.calls[0].json["model"] == "whatever/it is"


def test_tool_messages_null_content_and_parts_are_forwarded(server: Server, behind: Scripted) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "name": None},
        {"role": "tool", "content": "1", "tool_call_id": "c"},
    ]
    assert chat(server, messages=messages).status == 200
    del messages[1]["name"]
    assert behind.calls[0].json["messages"] == messages


@pytest.mark.parametrize("status", [200, 201, 400, 404, 418, 501])
def test_status_body_and_type_come_back_unchanged(server: Server, behind: Scripted, status: int) -> None:
    """One try: none of these statuses may pass."""
    body = b'{ "error" : {"message": "no", "code": 1}}'
    behind.then(whole(status, body, content_type="application/problem+json", x_own="1"))
    answer = server.ask("POST", "/v1/chat/completions", CHAT, {"accept-encoding": "gzip"})
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "x-own" not in answer.headers and len(behind.calls) == 1


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
def test_completions_and_embeddings_are_passed_on_too(server: Server, behind: Scripted, path: str) -> None:
    field = "prompt" if path.endswith("completions") else "input"
    answer = server.ask("POST", path, {"model": "llama", field: ["hello world"]})
    assert answer.status == 200
    (heard,) = behind.calls
    assert (heard.path, heard.json[field]) == (path, ["hello world"])
    assert ("stream" in heard.json) == (field == "prompt")


def test_a_stream_is_the_upstreams_bytes(server: Server, behind: Scripted) -> None:
    pieces = [b": hm\n\n", chunk("a"), b'data: {"x": 1,\r\ndata: "y":2}\r\n\r\n', b"data: [DONE]\n\n", b"end"]
    behind.then(stream(*pieces))
    answer = chat(server, stream=True)
    assert answer.body == b"".join(pieces)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_the_first_event_is_there_before_the_second(server: Server, behind: Scripted) -> None:
    gate = threading.Event()

    async def act(heard: Any, write: Any) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        await write(head + chunk("a"))
        await after(gate, raw(chunk("b")))(heard, write)

    behind.then(act)
    with server.streaming("x", "llama", stream=True) as body:
        assert body.read(len(chunk("a"))) == chunk("a")
        gate.set()
        assert body.read() == chunk("b")


def test_a_stream_that_is_refused_keeps_its_status(server: Server, behind: Scripted) -> None:
    behind.then(whole(400, b'{"e":1}'))
    answer = chat(server, stream=True)
    assert (answer.status, answer.body) == (400, b'{"e":1}')


def test_a_stream_that_breaks_ends_in_an_error_and_is_not_repeated(server: Server, behind: Scripted) -> None:
    behind.then(stream(chunk("a"), chunk("b")[:9], cut=True))
    answer = chat(server, stream=True)
    assert answer.status == 200
    assert "error" in answer.events[-1] and "[DONE]" not in answer.events
    assert len(behind.calls) == 1


# Further tries.


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_tried_three_times_then_passed_on(
    server: Server, behind: Scripted, status: int
) -> None:
    behind.then(fails(status, "1"), fails(status, "2"), fails(status, "3"))
    answer = chat(server)
    assert (answer.status, answer.error["message"], len(behind.calls)) == (status, "3", 3)


@pytest.mark.parametrize("streams", [False, True])
def test_a_try_that_fails_is_repeated(server: Server, behind: Scripted, streams: bool) -> None:
    behind.then(fails(503), raw())
    answer = chat(server, stream=streams)
    assert (answer.status, len(behind.calls)) == (200, 3)
    assert len({call.headers["x-request-id"] for call in behind.calls}) == 1


def test_a_broken_stream_is_repeated_before_its_first_byte(server: Server, behind: Scripted) -> None:
    behind.then(stream(cut=True))
    answer = chat(server, stream=True)
    assert answer.events[-1] == "[DONE]" and len(behind.calls) == 2


def test_twenty_failures_do_not_change_how_the_next_is_tried(server: Server, behind: Scripted) -> None:
    behind.always = fails(500)
    for _ in range(20):
        assert chat(server).status == 500
    assert len(behind.calls) == 60


def test_silence_is_a_504_after_all_tries(server: Server, behind: Scripted) -> None:
    behind.then(silent(), silent(), silent())
    answer = server.ask("POST", "/v1/embeddings", {"model": "llama", "input": "a"})
    assert (answer.status, answer.json["detail"]) == (504, "Upstream timeout on /v1/embeddings")
    assert len(behind.calls) == 3


def test_without_an_upstream_it_is_a_502(tmp_path: Path) -> None:
    """With MAX_RETRIES=0, one try."""
    with speaking(tmp_path, {"LLAMA_CPP_BASE_URL": "http://127.0.0.1:9", "MAX_RETRIES": "0"}) as server:
        answer = server.ask("POST", "/v1/embeddings", {"model": "llama", "input": "a"})
        assert (answer.status, answer.json["detail"]) == (502, "Upstream request failed on /v1/embeddings")
        assert answer.error["message"] == answer.json["detail"]
        assert server.get("/v1/models").json["detail"] == "Upstream request failed on /v1/models"
        text = server.get("/metrics").body.decode()
    assert 'proxy_upstream_errors_total{route="/v1/embeddings"} 1.0' in text
    assert "proxy_upstream_retries_total{" not in text


# What is refused.


@pytest.mark.parametrize(
    ("path", "body", "where", "kind"),
    [
        ("chat/completions", {"model": "llama"}, ["body", "messages"], "missing"),
        ("chat/completions", {"messages": HELLO}, ["body", "model"], "missing"),
        ("chat/completions", {**CHAT, "model": 1}, ["body", "model"], "string_type"),
        ("chat/completions", {**CHAT, "messages": "x"}, ["body", "messages"], "list_type"),
        ("chat/completions", {**CHAT, "messages": [1]}, ["body", "messages", 0], "model_attributes_type"),
        ("chat/completions", {**CHAT, "stream": "maybe"}, ["body", "stream"], "bool_parsing"),
        (
            "chat/completions",
            {**CHAT, "messages": [*HELLO, {"role": "king", "content": ""}]},
            ["body", "messages", 1, "role"],
            "literal_error",
        ),
        (
            "chat/completions",
            {**CHAT, "messages": [{"role": "user"}]},
            ["body", "messages", 0, "content"],
            "missing",
        ),
        ("completions", {"model": "llama"}, ["body", "prompt"], "missing"),
        ("completions", {"model": "llama", "prompt": 5}, ["body", "prompt", "str"], "string_type"),
        ("embeddings", {"model": "llama", "input": ""}, ["body", "input"], "too_short"),
        ("embeddings", {"model": "llama", "input": []}, ["body", "input"], "too_short"),
        ("embeddings", {"model": "llama", "input": [1]}, ["body", "input", "str"], "string_type"),
        ("embeddings", b"{", ["body", 1], "json_invalid"),
        ("embeddings", b"", ["body"], "missing"),
        ("embeddings", b"[]", ["body"], "model_attributes_type"),
    ],
)
def test_a_schema_violation_is_a_422_in_fastapis_form(
    server: Server, behind: Scripted, path: str, body: Any, where: list[Any], kind: str
) -> None:
    answer = server.ask("POST", f"/v1/{path}", body)
    assert answer.status == 422
    assert list(answer.json) == ["detail"]
    first = answer.json["detail"][0]
    assert (first["loc"], first["type"]) == (where, kind) and first["msg"]
    assert not behind.calls


def test_what_is_not_there_is_said_as_fastapi_does(server: Server) -> None:
    for path in ("/v1/nope", "/nope", "/v1/"):
        assert (server.get(path).status, server.get(path).json) == (404, {"detail": "Not Found"})
    answer = server.get("/v1/chat/completions")
    assert (answer.status, answer.json) == (405, {"detail": "Method Not Allowed"})
    assert answer.headers["allow"] == "POST"


def test_what_nobody_foresaw_is_a_500_in_its_words() -> None:
    surface = ProxySurface(load(None, {}, {"server": {"dialect": "proxy"}}))
    answer = surface.present(InglenookError("x"), Call("id", "GET", "/v1/models", 0.0))
    assert (answer.status, json.loads(answer.body)) == (500, {"error": {"message": "Internal server error"}})


# Keys and limits.


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "bearer local"}, {"authorization": "Basic local"}, {"x-api-key": "local"}],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/nope", "/v1/chat/completions"])
def test_without_a_bearer_key_all_below_v1_is_a_401(
    keyed: Server, path: str, headers: dict[str, str]
) -> None:
    answer = keyed.ask("GET", path, None, headers)
    assert (answer.status, answer.json) == (401, MISSING)
    assert answer.headers["x-ratelimit-limit"] == answer.headers["x-ratelimit-remaining"] == "120"


def test_a_wrong_key_has_its_own_words_and_unknown_paths_are_404_with_a_key(keyed: Server) -> None:
    answer = chat(keyed, {"authorization": "Bearer nope"})
    assert (answer.status, answer.json) == (401, {"error": {"message": "Invalid API key"}})
    answer = keyed.ask("GET", "/v1/nope", None, LOCAL)
    assert (answer.status, answer.json) == (404, {"detail": "Not Found"})
    assert int(answer.headers["x-ratelimit-remaining"]) < 120
    assert keyed.get("/nope").json == {"detail": "Not Found"}
    assert keyed.get("/metrics").status == 200
    assert keyed.ask("OPTIONS", "/v1/chat/completions").status == 405


@pytest.mark.parametrize(
    ("key", "client"),
    [
        ("key_a", "team_a"),
        ("key_b", "team_b"),
        ("key_c", "client-c5dcc2e8971b"),
        ("local", "client-25bf8e1a2393"),
    ],
)
def test_each_key_is_a_client_of_its_own_in_the_log(keyed: Server, key: str, client: str) -> None:
    """One line of JSON a request."""
    name = f"of-{key}"
    answer = chat(keyed, {"authorization": f"Bearer {key}", "x-request-id": name})
    assert answer.status == 200
    keyed.until_log(name)
    lines = [json.loads(line) for line in keyed.log.splitlines()]
    assert "of OPENAI_API_KEY and OPENAI_API_KEYS" in lines[0]["message"]
    (line,) = [line for line in lines if line.get("request_id") == name]
    assert line["event"] == "request_completed" and line["client_id"] == client
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/chat/completions", 200)
    assert round(line["latency_ms"], 2) == line["latency_ms"]


def test_the_limit_counts_everything_below_v1_but_401s(tmp_path: Path, behind: Scripted) -> None:
    given = {"LLAMA_CPP_BASE_URL": behind.url, "RATE_LIMIT_RPM": "4", "OPENAI_API_KEYS": "a:one,b:two,c:one"}
    key, other, same = ({"authorization": f"Bearer {each}"} for each in "abc")
    with speaking(tmp_path, given) as server:
        assert chat(server).status == 401
        left = [
            server.ask("GET", "/v1/nope", None, key),
            server.ask("POST", "/v1/chat/completions", {}, key),
            server.ask("GET", "/v1/models", None, same),
            server.ask("GET", "/v1/chat/completions", None, key),
        ]
        assert [answer.status for answer in left] == [404, 422, 200, 405]
        assert [answer.headers["x-ratelimit-remaining"] for answer in left] == ["3", "2", "1", "0"]
        over = chat(server, key)
        assert over.status == 429
        assert over.json == {"error": {"message": "Rate limit exceeded", "type": "rate_limit_error"}}
        assert int(over.headers["retry-after"]) >= 1
        assert (over.headers["x-ratelimit-limit"], over.headers["x-ratelimit-remaining"]) == ("4", "0")
        assert chat(server, other).status == 200
        assert (
            server.get("/health").status == 200 and "x-ratelimit-limit" not in server.get("/health").headers
        )
        assert "\nproxy_rate_limited_total 1.0\n" in server.get("/metrics").body.decode()


def test_without_keys_the_limit_is_the_addresses(server: Server) -> None:
    assert chat(server).headers["x-ratelimit-limit"] == "100000"
    server.until_log('"client_id":"127.0.0.1"')


def test_request_ids_are_kept_or_made(server: Server) -> None:
    assert server.ask("GET", "/health", None, {"x-request-id": " my id "}).headers["x-request-id"] == "my id"
    made = server.ask("GET", "/health", None, {"x-request-id": " "}).headers["x-request-id"]
    assert len(made) == 32 and int(made, 16) >= 0


def test_cors_names_the_listed_origin_on_errors_too(keyed: Server) -> None:
    here = {"origin": "http://localhost:3000"}
    answer = keyed.ask("GET", "/v1/models", None, here)
    assert answer.status == 401
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert answer.headers["access-control-allow-credentials"] == "true"
    asks = {"access-control-request-method": "POST"}
    fine = keyed.ask("OPTIONS", "/v1/chat/completions", None, {**here, **asks})
    assert fine.status == 200 and fine.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    other = keyed.ask("OPTIONS", "/v1/chat/completions", None, {"origin": "http://evil.example", **asks})
    assert (other.status, other.body) == (400, b"Disallowed CORS origin")
    plain = keyed.ask("GET", "/health", None, {"origin": "http://evil.example", "host": "api.example"})
    assert plain.status == 200 and "access-control-allow-origin" not in plain.headers


# The list of models, and several upstreams.


def test_the_list_of_models_is_the_upstreams_own(server: Server, behind: Scripted) -> None:
    body = b'{"object": "list",  "data": []}'
    behind.always = whole(200, body)
    answer = server.get("/v1/models")
    assert (answer.status, answer.body) == (200, body)


def test_names_choose_among_upstreams(tmp_path: Path) -> None:
    with scripted() as a, scripted() as b:
        b.always = whole(200, {"object": "list", "data": []})
        given = {"MODEL_UPSTREAMS": f"a={a.url}/, broken, b={b.url},dead=http://127.0.0.1:9"}
        with speaking(tmp_path, given) as server:
            assert chat(server, model="b").status == 200
            assert [call.path for call in b.calls] == ["/v1/chat/completions"] and not a.calls
            wrong = chat(server, model="zzz")
            listed = server.get("/v1/models").json
    assert wrong.status == 400
    assert wrong.json["detail"] == "Unknown model 'zzz'. Available models: a, b, dead"
    mapped = {"id": "a", "object": "model", "upstream_model_id": "m"}
    stub = {"id": "b", "object": "model", "owned_by": "llamacpp", "meta": {"upstream": b.url}}
    assert listed == {"object": "list", "data": [mapped, stub], "models": [mapped, stub]}


def test_an_upstreams_list_is_asked_for_like_everything_else(tmp_path: Path) -> None:
    """By the request's id, with further tries, and counted."""

    async def act(heard: Heard, write: Write) -> None:
        await (fails(503) if len(up.calls) == 1 else says())(heard, write)

    with scripted(always=act) as up, speaking(tmp_path, {"MODEL_UPSTREAMS": f"a={up.url}"}) as server:
        listed = server.ask("GET", "/v1/models", None, {"x-request-id": "mine"})
        assert [each["id"] for each in listed.json["data"]] == ["a"]
        assert [call.headers["x-request-id"] for call in up.calls] == ["mine", "mine"]
        text = server.get("/metrics").body.decode()
    assert 'proxy_upstream_retries_total{route="/v1/models"} 1.0' in text
    assert 'proxy_upstream_latency_seconds_count{route="/v1/models"} 2.0' in text


# Metrics.


def test_metrics_have_all_names_and_count(tmp_path: Path) -> None:
    with scripted() as up, speaking(tmp_path, {"LLAMA_CPP_BASE_URL": up.url}) as server:
        before = server.get("/metrics")
        assert before.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        for name in (
            "requests_total",
            "request_latency_seconds_sum",
            "request_latency_seconds_count",
            "upstream_retries_total",
            "upstream_latency_seconds_sum",
            "upstream_latency_seconds_count",
            "upstream_errors_total",
            "rate_limited_total",
        ):
            assert f"# TYPE proxy_{name} counter\n" in before.body.decode()
            assert f"# HELP proxy_{name} " in before.body.decode()
        up.then(fails(503))
        chat(server)
        until(lambda: b"proxy_upstream_retries_total{" in server.get("/metrics").body, "the retry")
        text = server.get("/metrics").body.decode()
    route = '{route="/v1/chat/completions"'
    assert f'proxy_requests_total{route},method="POST",status="200"}} 1.0' in text
    assert f'proxy_request_latency_seconds_count{route},method="POST"}} 1.0' in text
    assert f"proxy_upstream_retries_total{route}}} 1.0" in text
    assert f"proxy_upstream_latency_seconds_count{route}}} 2.0" in text


# The README's examples.


def curl(server: Server, path: str, body: str, *more: str) -> str:
    command = ["curl", "-sS", f"{server.url}{path}", "-H", "Authorization: Bearer local"]
    command += ["-H", "Content-Type: application/json", *more, "-d", body]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout


def test_the_readmes_curls_answer(keyed: Server) -> None:
    body = '{"model": "llama", "messages": [{"role": "user", "content": "hello"}], "temperature": 0.2}'
    assert '"assistant"' in curl(keyed, "/v1/chat/completions", body)
    body = '{"model": "llama", "messages": [{"role": "user", "content": "poem"}], "stream": true}'
    assert curl(keyed, "/v1/chat/completions", body, "-N").endswith("data: [DONE]\n\n")
    body = '{"model": "llama", "input": ["hello world"]}'
    assert '"hello"' in curl(keyed, "/v1/embeddings", body)


def test_openais_client_works(keyed: Server) -> None:
    with OpenAI(base_url=f"{keyed.url}/v1", api_key="local", max_retries=0) as client:
        told = client.chat.completions.create(model="llama", messages=[{"role": "user", "content": "x"}])
        assert told.choices[0].message.content == "hello"
        pieces = client.chat.completions.create(
            model="llama", messages=[{"role": "user", "content": "x"}], stream=True
        )
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "hello "
        assert [model.id for model in client.models.list()] == ["m"]


def test_the_load_test_runs(keyed: Server) -> None:
    command = [sys.executable, "-m", "inglenook", "bench", "chat", "--url", keyed.url, "--api-key", "local"]
    command += ["--model", "llama", "--requests", "4", "--concurrency", "2"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split("\n")[0] == "requests=4"
