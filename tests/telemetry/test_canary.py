"""A key and a prompt that can be told from everything else are sent down every path, and looked for everywhere.

Reliability table, 33: others have had keys in addresses, tracebacks, error parameters and traces.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.parts.answering import Answering, answering
from tests.parts.collector import Collector, grpc_collector, http_collector
from tests.parts.server import Answer, Server, parse_events, until

KEY, FOREIGN_KEY, PROMPT = "sk-canary-7f3a9c51", "sk-foreigner-2b8e6d04", "zanzibar-quokka-prompt"
COLLECTOR_KEY, STRANGER = "collector-canary-55d1", "sk-stranger-91aa02c7"
CANARIES = [canary.encode() for canary in (KEY, FOREIGN_KEY, PROMPT, COLLECTOR_KEY, STRANGER)]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(params=["http", "grpc"])
def collector(request: pytest.FixtureRequest) -> Iterator[tuple[Collector, str]]:
    with http_collector() if request.param == "http" else grpc_collector() as there:
        yield there, request.param


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the server may write. Below /tmp, because paths of sockets are short."""
    directory = Path(tempfile.mkdtemp(prefix="canary-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setenv("XDG_DATA_HOME", str(directory / "data"))
    yield directory
    shutil.rmtree(directory)


def settings(collector: Collector, protocol: str, upstream: str, refused: int) -> str:
    return f"""
    models = [
        {{id = "echo", path = "builtin:echo"}},
        {{id = "crash", path = "builtin:echo", args = ["--crash-after-tokens", "2"]}},
        {{id = "spoilt", path = "builtin:echo", args = ["--garbage", "notjson"]}},
        {{id = "hash", path = "builtin:deterministic"}},
        {{id = "nothing", path = "no-such-file.gguf"}},
    ]
    [[upstreams]]
    name = "other"
    url = "{upstream}"
    models = ["far"]
    api_key = "{FOREIGN_KEY}"
    retries = 0
    [[upstreams]]
    name = "gone"
    url = "http://127.0.0.1:{refused}"
    models = ["gone"]
    api_key = "{FOREIGN_KEY}"
    retries = 0
    [server]
    max_body_mb = 0.1
    [[auth.keys]]
    key = "{KEY}"
    client = "team"
    [cache]
    enabled = true
    [telemetry]
    log_level = "debug"
    log_format = "json"
    otlp_endpoint = "{collector.endpoint}"
    otlp_protocol = "{protocol}"
    otlp_headers = {{authorization = "{COLLECTOR_KEY}"}}
    """


def said(content: str = PROMPT, model: str = "echo", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **fields}


def wrong_bodies() -> list[tuple[str, Any]]:
    """Requests that are refused, each with the prompt where it does harm."""
    tool = {"type": "function", "function": {"name": PROMPT, "parameters": {"type": PROMPT}}}
    chats: list[Any] = [
        {"model": "echo", "messages": PROMPT},
        {"model": "echo", "messages": [{"role": PROMPT, "content": PROMPT}]},
        {"model": "echo", "messages": [{"role": "user", "content": {PROMPT: PROMPT}}]},
        {"model": "echo", "messages": [PROMPT]},
        said(temperature=PROMPT),
        said(stop={PROMPT: 1}),
        said(n=0),
        said(tools=[tool], tool_choice=PROMPT),
        said(response_format={"type": PROMPT}),
        said(PROMPT * 4000, max_tokens=1),
        said(PROMPT * 5_100),
        said(model="no-such-model"),
        said(model="nothing"),
        said(model="hash"),
        said(model="gone"),
        said(model="spoilt"),
        f'{{"model": "echo", "messages": [{{"role": "user", "content": "{PROMPT}"'.encode(),
        f'{{"model": "echo", "messages": "{PROMPT}\xff"}}'.encode("latin-1"),
        (f'{{"a": "{PROMPT}", "b": ' + "[" * 3000).encode(),
        f"{PROMPT} {KEY}".encode(),
    ]
    return [
        *((CHAT, body) for body in chats),
        (COMPLETIONS, {"model": "echo", "prompt": {PROMPT: 1}}),
        (COMPLETIONS, {"model": "echo", "prompt": PROMPT, "logit_bias": PROMPT}),
        ("/v1/embeddings", {"model": "hash", "input": [PROMPT, {PROMPT: 1}]}),
        ("/v1/embeddings", {"model": "hash", "input": PROMPT, "dimensions": PROMPT}),
        ("/v1/rerank", {"model": "hash", "query": PROMPT, "documents": PROMPT}),
    ]


def test_no_canary_sings(collector: tuple[Collector, str], places: Path, serve: StartServer) -> None:
    """Not in a log, a metric, a trace, an error, nor a file, at log level debug."""
    there, protocol = collector
    with answering() as upstream, socket.create_server(("127.0.0.1", 0)) as closed:
        refused = closed.getsockname()[1]
        closed.close()
        server = serve(settings(there, protocol, upstream.url, refused))
        spoken = [*everything_goes_well(server), *everything_goes_wrong(server, upstream)]
        for answer in spoken:
            assert_silent(answer, f"an answer with status {answer.status}")
        metrics = server.get("/metrics").body
        assert b"inglenook_requests_total" in metrics
        until(lambda: server.log.count('"event":"request"') > 40, "the access log")
        there.until_spans(40)
        files = contents(places)
        server.end()
        assert len(there.metrics) >= 1
        everything = {
            "metrics": metrics,
            "the log": server.log.encode(),
            "traces": there.everything,
            **files,
            **contents(places),
        }
        for where, what in everything.items():
            assert [canary for canary in CANARIES if canary in what] == [], where


def everything_goes_well(server: Server) -> Iterator[Answer]:
    """Answers that have the prompt in them, as they should; none of them is looked through."""
    authorized = {"authorization": f"Bearer {KEY}"}
    for path, body in (
        (CHAT, said()),
        (CHAT, said(stream=True, user=PROMPT, stop=[PROMPT + "!"])),
        (CHAT, said(n=2, temperature=0)),
        (CHAT, said(temperature=0)),
        (CHAT, said(temperature=0)),
        (COMPLETIONS, {"model": "echo", "prompt": [PROMPT, PROMPT]}),
        ("/v1/embeddings", {"model": "hash", "input": [PROMPT, PROMPT]}),
        ("/v1/rerank", {"model": "hash", "query": PROMPT, "documents": [PROMPT, "else"]}),
    ):
        assert server.ask("POST", path, body, authorized).status == 200
    # A client that leaves in the middle.
    connection = server.connect()
    words = " ".join([PROMPT] * 500)
    connection.request("POST", CHAT, json.dumps(said(words, stream=True)), authorized)
    connection.getresponse().readline()
    connection.close()
    # Keys where they do not belong.
    for path in (
        f"/v1/models?api_key={KEY}",
        f"/{KEY}/{PROMPT}",
        f"/v1/models/{KEY}?{PROMPT}",
        f"/docs?{KEY}",
    ):
        yield server.ask("GET", path, headers={"referer": f"http://x/{KEY}", "user-agent": PROMPT})


def everything_goes_wrong(server: Server, upstream: Answering) -> Iterator[Answer]:
    authorized = {"authorization": f"Bearer {KEY}", "tracestate": f"a={KEY}"}
    for path, body in wrong_bodies():
        for stream in (False, True):
            if isinstance(body, dict):
                body = {**body, "stream": stream}
            answer = server.ask("POST", path, body, authorized)
            assert answer.status >= 400 or b'"error"' in answer.body, (path, str(body)[:80])
            yield answer
    # An engine that dies before and in the middle of its answer.
    words = " ".join([PROMPT] * 5)
    yield server.ask("POST", CHAT, said(words, model="crash"), authorized)
    yield server.ask("POST", CHAT, said(words, model="crash", stream=True), authorized)
    # An upstream that quotes all it was told.
    for status in (500, 503, 200):
        quoted = f"key {FOREIGN_KEY} may not say {PROMPT}"
        upstream.say({"error": {"message": quoted, "code": quoted, "param": quoted}}, status=status)
        yield server.ask("POST", CHAT, said(model="far"), authorized)
    upstream.body = f"<html>{FOREIGN_KEY} {PROMPT}".encode()
    yield server.ask("POST", CHAT, said(model="far"), authorized)
    # Strangers.
    for headers in ({"authorization": f"Bearer {STRANGER}"}, {"x-api-key": STRANGER}, {"cookie": STRANGER}):
        yield server.ask("POST", CHAT, said(), headers)
    yield server.ask("PUT", f"{CHAT}?{KEY}", said(), authorized)


def assert_silent(answer: Answer, where: str) -> None:
    """No canary in what the server says of itself: not in an error, nor in a header."""
    said_of_itself = answer.body
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        errors = [
            event for event in parse_events(answer.body) if isinstance(event, dict) and "error" in event
        ]
        said_of_itself = json.dumps(errors).encode()
    text = said_of_itself + json.dumps(answer.headers).encode()
    assert [canary for canary in CANARIES if canary in text] == [], f"{where}: {text[:500]!r}"


def contents(directory: Path) -> dict[str, bytes]:
    """All files below it that can be read, by their names."""
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
