"""Traces and metrics reach an OpenTelemetry collector, and a bad collector costs no request anything."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.conftest import StartServer
from tests.parts.answering import answering
from tests.parts.collector import Collector, grpc_collector, http_collector, values
from tests.parts.server import Server, until

ECHO = """
[[models]]
id = "echo"
path = "builtin:echo"
"""
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
JSON = {"content-type": "application/json"}
Collecting = Callable[[], AbstractContextManager[Collector]]


def telemetry(endpoint: str, protocol: str = "http", more: str = "") -> str:
    return f'[telemetry]\notlp_endpoint = "{endpoint}"\notlp_protocol = "{protocol}"\nlog_format = "json"\n{more}\n'


@pytest.fixture(params=["http", "grpc"])
def collected(request: pytest.FixtureRequest) -> Iterator[tuple[Collector, str]]:
    made: Collecting = http_collector if request.param == "http" else grpc_collector
    with made() as collector:
        yield collector, request.param


def test_spans_and_metrics_arrive(collected: tuple[Collector, str], serve: StartServer) -> None:
    """A span for the request and one for the inference below it, and the GenAI metrics, with their headers."""
    collector, protocol = collected
    more = 'service_name = "hearth"\notlp_headers = {Authorization = "Bearer collector-key"}'
    server = serve(ECHO + telemetry(collector.endpoint, protocol, more))
    answer = server.chat("one two three", temperature=0.5, max_tokens=9, seed=4)
    assert answer.status == 200
    outer, inner = collector.until_spans(2)
    assert (outer.name, outer.kind) == ("POST /v1/chat/completions", Span.SPAN_KIND_SERVER)
    assert (inner.name, inner.kind) == ("chat echo", Span.SPAN_KIND_CLIENT)
    assert inner.parent_span_id == outer.span_id
    assert outer.trace_id == inner.trace_id
    assert not outer.parent_span_id
    assert outer.start_time_unix_nano <= inner.start_time_unix_nano <= inner.end_time_unix_nano
    assert abs(outer.end_time_unix_nano / 1e9 - time.time()) < 60
    said = values(outer.attributes)
    assert said["http.route"] == "/v1/chat/completions"
    assert said["http.response.status_code"] == 200
    assert said["inglenook.request_id"] == answer.headers["x-request-id"]
    said = values(inner.attributes)
    usage = answer.json["usage"]
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.provider.name"] == "echo"
    assert said["gen_ai.request.model"] == "echo"
    assert said["gen_ai.request.temperature"] == 0.5
    assert said["gen_ai.request.max_tokens"] == 9
    assert said["gen_ai.request.seed"] == 4
    assert said["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert said["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    server.end()
    (attributes, point), *_ = collector.points("gen_ai.server.request.duration")
    assert attributes["gen_ai.request.model"] == "echo"
    assert point.count == 1
    tokens = {
        said["gen_ai.token.type"]: point.sum for said, point in collector.points("gen_ai.client.token.usage")
    }
    assert tokens == {"input": usage["prompt_tokens"], "output": usage["completion_tokens"]}
    assert all(sent.get("authorization") == "Bearer collector-key" for sent in collector.headers)
    assert b"hearth" in collector.everything


def test_every_route_that_asks_a_model_is_an_inference(serve: StartServer, tmp_path: Path) -> None:
    """The older APIs' too, whole and streamed; and a program that is run for one prompt."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho made up\n")
    program.chmod(0o755)
    by_program = f'[api]\nllm_binary = "{program}"\nllm_gguf = "my.gguf"\n'
    chat, prompt = {"messages": [{"role": "user", "content": "hi"}]}, {"prompt": "hi", "max_tokens": 9}
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("/chat/completions", chat, "chat echo"),
        ("/completions", prompt, "text_completion echo"),
        ("/api/chat", chat, "chat echo"),
        ("/api/chat/stream", chat, "chat echo"),
        ("/api/generate", prompt, "text_completion echo"),
        ("/api/generate/stream", prompt, "text_completion echo"),
        ("/llm", prompt, "text_completion my"),
    ]
    with http_collector() as collector:
        server = serve(by_program + ECHO + telemetry(collector.endpoint, more="capture_content = true"))
        for path, body, _ in asked:
            assert server.ask("POST", path, {"model": "echo", **body}, JSON).status == 200
        inner = collector.until_spans(2 * len(asked))[1::2]
        assert [span.name for span in inner] == [name for _, _, name in asked]
        told = [values(span.attributes) for span in inner]
        assert all("hi" in said["gen_ai.input.messages"] for said in told)
        last = told[-1]
        assert (last["gen_ai.provider.name"], last["gen_ai.request.max_tokens"]) == ("llamacpp_cli", 9)
        assert '"content":"made up"' in last["gen_ai.output.messages"]
        server.end()
        counted = collector.points("gen_ai.server.request.duration")
        assert sum(point.count for _, point in counted) == len(asked)


def test_a_trace_that_came_goes_on(serve: StartServer) -> None:
    """Our span is a child of the client's, and the upstream's parent is the span of the inference."""
    with http_collector() as collector, answering() as upstream:
        upstream.say({"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]})
        server = serve(an_upstream(upstream.url) + telemetry(collector.endpoint))
        headers = {"traceparent": TRACEPARENT, "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"}
        assert ask(server, headers) == 200
        outer, inner = collector.until_spans(2)
        assert outer.trace_id.hex() == TRACE_ID
        assert outer.parent_span_id.hex() == PARENT_ID
        assert outer.trace_state == headers["tracestate"]
        sent = upstream.asked[-1].headers
        assert sent["traceparent"] == f"00-{TRACE_ID}-{inner.span_id.hex()}-01"
        assert sent["tracestate"] == headers["tracestate"]
        assert sent["x-request-id"]


def test_with_tracing_off_a_trace_passes_through(serve: StartServer) -> None:
    """The engine gets the client's own headers, and none where the client's are not valid."""
    with answering() as upstream:
        upstream.say({"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]})
        server = serve(an_upstream(upstream.url))
        assert ask(server, {"traceparent": TRACEPARENT, "tracestate": "a=b"}) == 200
        assert upstream.asked[-1].headers["traceparent"] == TRACEPARENT
        assert upstream.asked[-1].headers["tracestate"] == "a=b"
        assert ask(server, {"traceparent": TRACEPARENT.replace("00-", "ff-"), "tracestate": "a=b"}) == 200
        assert not {"traceparent", "tracestate"} & set(upstream.asked[-1].headers)
        assert ask(server, {}) == 200
        assert "traceparent" not in upstream.asked[-1].headers


def test_what_is_not_sampled_is_not_sent_but_passed_on(serve: StartServer) -> None:
    """A client's own decision stands above the ratio; the upstream learns of it."""
    with http_collector() as collector, answering() as upstream:
        upstream.say({"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]})
        server = serve(an_upstream(upstream.url) + telemetry(collector.endpoint, more="sample_ratio = 0.0"))
        assert ask(server, {}) == 200
        assert upstream.asked[-1].headers["traceparent"].endswith("-00")
        assert ask(server, {"traceparent": TRACEPARENT[:-1] + "0"}) == 200
        assert upstream.asked[-1].headers["traceparent"].startswith(f"00-{TRACE_ID}-")
        assert upstream.asked[-1].headers["traceparent"].endswith("-00")
        assert ask(server, {"traceparent": TRACEPARENT}) == 200
        outer, _ = collector.until_spans(2)
        assert outer.trace_id.hex() == TRACE_ID
        server.end()
        assert len(collector.spans) == 2


def test_failures_and_refusals_are_told_apart(serve: StartServer) -> None:
    """A server's error is an error of its span; a client's mistake is not, and has no inference."""
    with http_collector() as collector, answering() as upstream:
        upstream.say({"error": {"message": "no"}}, status=500)
        server = serve(an_upstream(upstream.url, "retries = 0") + telemetry(collector.endpoint))
        assert ask(server, {}) == 502
        outer, inner = collector.until_spans(2)
        assert outer.status.code == inner.status.code == Status.STATUS_CODE_ERROR
        assert (
            values(outer.attributes)["error.type"] == values(inner.attributes)["error.type"] == "engine_error"
        )
        assert server.chat("hi", model="nobody").status == 404
        refused = collector.until_spans(3)[-1]
        assert refused.status.code == Status.STATUS_CODE_UNSET
        assert values(refused.attributes)["error.type"] == "model_not_found"


def test_content_is_exported_only_when_asked(serve: StartServer) -> None:
    """Prompts and answers, whole and streamed, in the conventions' shape; otherwise nothing of them."""
    with http_collector() as collector:
        server = serve(ECHO + telemetry(collector.endpoint, more="capture_content = true"))
        server.chat("canary-in whole")
        server.chat("canary-in streamed", stream=True)
        spans = [values(span.attributes) for span in collector.until_spans(4)]
        shown = [said for said in spans if "gen_ai.input.messages" in said]
        assert [said["gen_ai.input.messages"] for said in shown] == [
            '[{"role":"user","parts":[{"type":"text","content":"canary-in whole"}]}]',
            '[{"role":"user","parts":[{"type":"text","content":"canary-in streamed"}]}]',
        ]
        for said, words in zip(shown, ("whole", "streamed"), strict=True):
            assert f"canary-in {words}" in said["gen_ai.output.messages"]
            assert '"role":"assistant"' in said["gen_ai.output.messages"]
            assert '"finish_reason":"stop"' in said["gen_ai.output.messages"]
        server.chat("x" * 70_000)
        left_out = values(collector.until_spans(6)[-1].attributes)
        assert left_out["inglenook.content_left_out"] is True
        assert "gen_ai.input.messages" not in left_out


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_bad_collector_costs_nothing(protocol: str, serve: StartServer) -> None:
    """Silent, gone or mad: requests are answered, the log has one line of it, and the server ends in time.

    What did not arrive is counted, and scrapes are not among it.
    """
    with ExitStack() as stack:
        silent, gone, mad = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3))
        ports = [listener.getsockname()[1] for listener in (silent, gone, mad)]
        gone.close()
        servers = [serve(ECHO + telemetry(f"http://127.0.0.1:{port}", protocol)) for port in ports]
        for server in servers:
            assert server.chat("hello").status == 200
        answer_with_garbage(mad)
        for server in servers:
            for _ in range(20):
                assert server.chat("hello again").status == 200
        for server in servers:
            server.until_log("OpenTelemetry collector at 127.0.0.1")
        lost = re.compile(r"^inglenook_traces_dropped_total (?!0)", re.MULTILINE)
        until(lambda: lost.search(servers[1].get("/metrics").body.decode()), "lost traces")
        for server in servers:
            server.signal(signal.SIGTERM)
        for server in servers:
            assert server.wait() == 0
            assert "Traceback" not in server.log
            assert server.log.count("collector at 127.0.0.1") == 1
            assert all(line.startswith("{") for line in server.log.splitlines()), server.log


def answer_with_garbage(listener: socket.socket) -> None:
    listener.settimeout(20)
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"\x00\xff nonsense \r\n\r\n" * 50)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('otlp_endpoint = "127.0.0.1:4317"', "must start with http://"),
        ('otlp_endpoint = "http://user:secret-word@127.0.0.1"', "put a key into telemetry.otlp_headers"),
        ('otlp_endpoint = "http://a"\notlp_headers = {key = "secret-word\\nx"}', "telemetry.otlp_headers"),
    ],
)
def test_settings_that_cannot_work_stop_the_start(lines: str, words: str, serve: StartServer) -> None:
    """With the setting's name, and without what was in it."""
    with pytest.raises(AssertionError) as caught:
        serve(ECHO + f"[telemetry]\n{lines}\n")
    assert words in str(caught.value)
    assert "secret-word" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_missing_extra_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: StartServer
) -> None:
    """In one sentence that says what to install; without an endpoint nothing is missed."""
    hidden = tmp_path / "hidden" / "opentelemetry"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("")
    path = os.pathsep.join([str(hidden.parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    with pytest.raises(AssertionError, match=r"pip install 'inglenook\[otel\]'"):
        serve(ECHO + telemetry("http://127.0.0.1:4318"))
    assert serve(ECHO).get("/health").status == 200


def an_upstream(url: str, more: str = "") -> str:
    return f'[[upstreams]]\nname = "other"\nurl = "{url}"\nmodels = ["far"]\n{more}\n'


def ask(server: Server, headers: dict[str, str]) -> int:
    body = {"model": "far", "messages": [{"role": "user", "content": "hi"}]}
    return server.ask("POST", "/v1/chat/completions", body, headers).status
