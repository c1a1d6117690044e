"""The LLM Inference API: every statement and example of its README, against the dialect.

Contract: its README, and where that says nothing, what was observed of it. The shapes of ``/api`` are those of
the plain server, so most of them are in ``tests/http/test_native.py``.
"""

from __future__ import annotations

import gzip
import http.client
import json
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

import inglenook
from tests.parts.collector import Collector, grpc_collector
from tests.parts.dialect import environment, refused_start, start_dialect
from tests.parts.hub import Hub
from tests.parts.server import Server, start, until

TINY = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
LLAMA = "meta-llama/Llama-2-7b-chat-hf"
STARTER = Path(inglenook.__file__).parent / "models" / "starter.gguf"
JSON = {"content-type": "application/json"}
ORIGIN = {"origin": "https://page.example"}
README = {
    "generate": """curl -X POST http://localhost:8091/api/generate \\
  -H "Content-Type: application/json" \\
  -d '{
    "prompt": "Explain machine learning in simple terms.",
    "model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "max_tokens": 256,
    "temperature": 0.7
  }'""",
    "generate/stream": """curl -X POST http://localhost:8091/api/generate/stream \\
  -H "Content-Type: application/json" \\
  -d '{
    "prompt": "Write a haiku about coding.",
    "model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
  }'""",
    "chat": """curl -X POST http://localhost:8091/api/chat \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "messages": [
      {"role": "user", "content": "Hello!"}
    ]
  }'""",
    "live": "curl http://localhost:8091/health/live",
    "ready": "curl http://localhost:8091/health/ready",
}


@dataclass
class Place:
    """A server of the dialect with all that it talks to."""

    server: Server
    hub: Hub
    collector: Collector
    directory: Path

    def curl(self, example: str) -> str:
        """What the README's command prints."""
        command = README[example].replace("localhost:8091", f"127.0.0.1:{self.server.port}")
        done = subprocess.run(
            ["sh", "-c", f"{command} -sS --max-time 30"], capture_output=True, text=True, timeout=40
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@contextmanager
def speaking(directory: Path, variables: dict[str, str], *flags: str) -> Iterator[Server]:
    """A server of the dialect; where nothing else is said it takes a free port and traces nobody."""
    quiet = {"LLM_INFERENCE_PORT": "0", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    server = start_dialect("inference", directory, quiet | variables, *flags)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """TinyLlama as a file of LLM_MODEL_PATH, a GGUF and another model of a mirror; the rest in a ``.env``."""
    directory = tmp_path_factory.mktemp("inference")
    models = directory / "models"
    models.mkdir()
    shutil.copy(STARTER, models / "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf")
    with Hub() as hub, grpc_collector() as collector:
        hub.commit("team/tiny-GGUF", {"tiny-Q8_0.gguf": STARTER.read_bytes(), "README.md": b"tiny"})
        hub.commit(LLAMA, {"config.json": b"{}", "model.safetensors": b"weights" * 1000})
        (directory / ".env").write_text(
            f"LLM_ALLOWED_MODELS={TINY}, team/tiny-GGUF,{LLAMA}   # three of them\n"
            f"LLM_MODEL_PATH={models}\n"
            f"HF_HOME={directory / 'hf'}\n"
            f"HF_ENDPOINT={hub.address}\n"
            "LLM_DEFAULT_TEMPERATURE=0\n"
            "LLM_DEFAULT_MAX_TOKENS=1\n"
            "LLM_MAX_TOKENS_LIMIT=4\n"
        )
        variables = {
            "LLM_DEFAULT_MAX_TOKENS": "3",  # stands above the file
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.endpoint}/v1/traces",
            "SERVICE_NAME": "my-llms",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        with speaking(directory, variables) as server:
            yield Place(server, hub, collector, directory)


def post(server: Server, path: str, **body: Any) -> Any:
    return server.ask("POST", path, {"model": TINY, **body}, JSON)


def test_models_are_loaded_before_anything_is_answered(place: Place) -> None:
    """What could be is ready with the first answer; what could not is in the log, and does no harm."""
    states = place.server.get("/health").json["models"]
    assert (states[TINY], states["team/tiny-GGUF"]) == ("ready", "ready")
    assert states[LLAMA] != "ready"
    assert f"model {LLAMA} failed" in place.server.log


def test_health(place: Place) -> None:
    """The README's two commands."""
    assert place.curl("live") == '{"status":"ok"}'
    assert place.curl("ready") == '{"status":"ok","llm_models_loaded":true}'


def test_generate_example(place: Place) -> None:
    """The README's command; 256 tokens are more than the limit, 4."""
    said = json.loads(place.curl("generate"))
    assert list(said) == ["text", "model", "tokens_generated", "finish_reason"]
    assert said["text"] and said["model"] == TINY
    assert (said["tokens_generated"], said["finish_reason"]) == (4, "length")


def test_chat_example(place: Place) -> None:
    """The README's command."""
    said = json.loads(place.curl("chat"))
    assert list(said) == ["message", "model", "tokens_generated", "finish_reason"]
    assert said["message"]["role"] == "assistant" and said["message"]["content"]


def test_generate_stream_example(place: Place) -> None:
    """The README's command: events of text, as many as the default has tokens."""
    events = [event for event in place.curl("generate/stream").split("\n\n") if event]
    assert events and all(event.startswith("data: ") for event in events)
    assert "[DONE]" not in events[-1] and "{" not in events[0]


def test_chat_stream(place: Place) -> None:
    """The same answer, in pieces."""
    messages = [{"role": "user", "content": "Hello!"}]
    whole = post(place.server, "/api/chat", messages=messages).json["message"]["content"]
    told = post(place.server, "/api/chat/stream", messages=messages)
    assert told.headers["content-type"] == "text/event-stream"
    assert "".join(event["content"] for event in told.events) == whole


def test_defaults_are_those_of_the_variables(place: Place) -> None:
    """Temperature 0: the same each time; three tokens, the environment's word against the file's."""
    answers = [post(place.server, "/api/generate", prompt="Tell me something.").json for _ in range(3)]
    assert len({answer["text"] for answer in answers}) == 1
    assert {answer["tokens_generated"] for answer in answers} == {3}


def test_the_mirror_is_asked_and_its_files_are_kept(place: Place) -> None:
    """HF_ENDPOINT and HF_HOME, from the ``.env``."""
    assert post(place.server, "/api/generate", prompt="Hello", model="team/tiny-GGUF").status == 200
    assert list((place.directory / "hf").rglob("tiny-Q8_0.gguf"))


def test_a_model_without_a_gguf_says_what_to_install(place: Place) -> None:
    """503, however often; nothing of it was downloaded."""
    for _ in range(5):
        answer = post(place.server, "/api/generate", prompt="Hello", model=LLAMA)
        assert (answer.status, answer.json["code"]) == (503, "MODEL_LOAD_ERROR")
        assert answer.json["error"].startswith("Failed to load model: ")
        assert "inglenook pull hf:OWNER/NAME-GGUF" in answer.json["error"]
    assert place.hub.gets("model.safetensors") == []


def test_llms(place: Place) -> None:
    """Those of the catalogue with what it knows of them, and every other allowed one."""
    answer = place.server.get("/api/llms")
    assert [model["id"] for model in answer.json] == [LLAMA, TINY, "team/tiny-GGUF"]
    tiny = answer.json[1]
    assert (tiny["name"], tiny["size"]) == ("TinyLlama 1.1B Chat", "1.1B")
    assert tiny["capabilities"] == ["text-generation", "chat"] and tiny["description"]
    assert "size" not in answer.json[2]


@pytest.mark.parametrize("name", ["X", TINY.lower(), "*", "gpt-4o-mini"])
def test_other_models_are_unsupported(place: Place, name: str) -> None:
    """The list is exact, capitals too."""
    answer = post(place.server, "/api/chat", messages=[{"role": "user", "content": "a"}], model=name)
    assert (answer.status, answer.json) == (
        400,
        {
            "error": f"Unsupported model: Model {name} is not in the allowed models list",
            "code": "UNSUPPORTED_MODEL",
        },
    )


def test_errors_elsewhere(place: Place) -> None:
    """Its own shape where nothing else is due, OpenAI's on OpenAI's routes."""
    nowhere = place.server.get("/nothing")
    assert (nowhere.status, nowhere.json["code"], nowhere.json["detail"]) == (404, "NOT_FOUND", "Not Found")
    otherwise = place.server.ask("POST", "/health/live")
    assert (otherwise.status, otherwise.json["detail"]) == (405, "Method Not Allowed")
    assert otherwise.headers["allow"] == "GET" and isinstance(otherwise.json["error"], str)
    messages = [{"role": "user", "content": "a"}]
    openai = place.server.ask("POST", "/v1/chat/completions", {"model": "x", "messages": messages})
    assert (openai.status, openai.error["code"]) == (404, "model_not_found")


def test_the_openai_api_has_the_same_models(place: Place) -> None:
    """No route is taken away."""
    with OpenAI(base_url=f"http://127.0.0.1:{place.server.port}/v1", api_key="-") as client:
        assert [model.id for model in client.models.list()] == [TINY, "team/tiny-GGUF", LLAMA]
        said = client.chat.completions.create(model=TINY, messages=[{"role": "user", "content": "Hello!"}])
        assert said.choices[0].message.content


def test_documentation(place: Place) -> None:
    """With and without a slash; the description has the routes, for a client who takes it compressed too."""
    for path in ("/swagger-ui", "/swagger-ui/"):
        page = place.server.get(path)
        assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    packed = place.server.ask("GET", "/api/openapi.json", headers={"accept-encoding": "gzip"})
    described = json.loads(gzip.decompress(packed.body))
    assert {"/api/llms", "/api/generate", "/api/chat/stream"} <= set(described["paths"])


def test_answers_are_compressed_for_who_asks(place: Place) -> None:
    """Small ones too, below ``/api``."""
    asks = {**JSON, "accept-encoding": "gzip"}
    answer = place.server.ask("POST", "/api/generate", {"model": TINY, "prompt": "Hello"}, asks)
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.body))["model"] == TINY


def test_pages_of_every_origin_may_call(place: Place) -> None:
    """By their own name, with credentials, errors and preflights included."""
    for answer in (
        place.server.ask("GET", "/api/llms", headers=ORIGIN),
        place.server.ask("POST", "/api/chat", {}, ORIGIN),
        place.server.ask("OPTIONS", "/api/chat", headers={**ORIGIN, "access-control-request-method": "POST"}),
    ):
        assert answer.headers["access-control-allow-origin"] == ORIGIN["origin"]
        assert answer.headers["access-control-allow-credentials"] == "true"


def test_pages_of_a_list_of_origins_may_call(tmp_path: Path) -> None:
    """They alone, with what a preflight was told there."""
    variables = {
        "LLM_ALLOWED_MODELS": "*",
        "CORS_ALLOWED_ORIGINS": "https://other.example, https://page.example",
    }
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    with speaking(tmp_path, variables) as server:
        told = server.ask("OPTIONS", "/api/chat", headers={**ORIGIN, **asks}).headers
        assert told["access-control-allow-origin"] == ORIGIN["origin"]
        assert told["access-control-allow-credentials"] == "true"
        assert told["access-control-allow-methods"] == "GET, POST, OPTIONS"
        assert told["access-control-allow-headers"] == "content-type, authorization"
        assert told["access-control-max-age"] == "3600"
        stranger = server.ask("GET", "/api/llms", headers={"origin": "https://evil.example"})
        assert stranger.status == 200 and "access-control-allow-origin" not in stranger.headers


def metrics(server: Server) -> dict[str, float]:
    answer = server.ask("GET", "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_metrics(place: Place) -> None:
    """HTTP by route and status; generations by model, streams and failures included."""
    before = metrics(place.server)
    for path in ("/health/live", "/health/ready", "/swagger-ui"):
        place.server.get(path)
    tokens = post(place.server, "/api/generate", prompt="Hello").json["tokens_generated"]
    post(place.server, "/api/generate/stream", prompt="Hello")
    post(place.server, "/api/generate", prompt="Hello", model=LLAMA)
    post(place.server, "/api/generate", prompt="Hello", model="X")
    after = metrics(place.server)

    def more(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    of = 'endpoint="/api/generate",method="POST",status="%d"'
    assert more("llm_inference_http_requests_total{" + of % 200 + "}") == 1
    assert more("llm_inference_http_requests_total{" + of % 503 + "}") == 1
    assert more("llm_inference_http_requests_total{" + of % 400 + "}") == 1
    assert more("llm_inference_http_requests_duration_seconds_count{" + of % 200 + "}") == 1
    bounds = {
        name.split('le="')[1].split('"')[0]
        for name in after
        if name.startswith("llm_inference_http_requests_duration_seconds_bucket")
    }
    assert bounds == {
        "0.005",
        "0.01",
        "0.025",
        "0.05",
        "0.1",
        "0.25",
        "0.5",
        "1.0",
        "2.5",
        "5.0",
        "10.0",
        "+Inf",
    }
    assert not [
        name
        for name in after
        if name.startswith("llm_inference")
        and ("/health" in name or "/metrics" in name or "/swagger" in name)
    ]
    assert more(f'inference_llm_requests_total{{model="{TINY}",status="success"}}') == 2
    assert more(f'inference_llm_requests_total{{model="{LLAMA}",status="error"}}') == 1
    assert more(f'inference_llm_duration_seconds_count{{model="{TINY}"}}') == 2
    assert more(f'inference_llm_tokens_generated_total{{model="{TINY}"}}') == 2 * tokens
    assert more(f'inference_llm_tokens_per_second_count{{model="{TINY}"}}') == 2
    assert "process_resident_memory_bytes" in after and any(name.startswith("inglenook_") for name in after)


def test_traces_reach_the_collector(place: Place) -> None:
    """Over gRPC, as a part of the caller's trace, under the service's name, without the prompt."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {**JSON, "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    place.server.ask("POST", "/api/generate", {"model": TINY, "prompt": "A secret word: xyzzy"}, headers)
    until(lambda: any(span.trace_id.hex() == trace for span in place.collector.spans), "the trace")
    spans = {span.name: span for span in place.collector.spans if span.trace_id.hex() == trace}
    assert spans.keys() == {"generate", f"text_completion {TINY}"}
    said = {each.key: each.value.string_value for each in spans["generate"].attributes}
    assert (said["model"], said["http.route"]) == (TINY, "/api/generate")
    assert b"my-llms" in place.collector.everything
    assert b"xyzzy" not in place.collector.everything and "xyzzy" not in place.server.log


def test_the_log_is_json(place: Place) -> None:
    """Each line of it, flat: when, how bad, what and where, and of a request its model, tokens and time."""
    tokens = post(place.server, "/api/generate", prompt="Hello").json["tokens_generated"]
    place.server.until_log('"route":"/api/generate"')
    lines = [json.loads(line) for line in place.server.log.splitlines()]
    assert all({"timestamp", "level", "message", "target", "filename"} <= set(line) for line in lines)
    (last,) = [line for line in lines if line.get("route") == "/api/generate" and line.get("tokens")][-1:]
    assert (last["message"], last["model"], last["tokens"]) == ("POST /api/generate 200", TINY, tokens)
    assert 0 < last["duration_secs"] < 60
    assert {line["level"] for line in lines} >= {"INFO", "ERROR"}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
def test_tls_and_pretty_warnings_alone(tmp_path: Path) -> None:
    """SERVER_SSL_ENABLED with its files, LOG_FORMAT, RUST_LOG and the hostname."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [*("openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=localhost".split()),
         "-addext", "subjectAltName=DNS:localhost", "-days", "2", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    variables = {
        "LLM_ALLOWED_MODELS": "builtin:starter",
        "LLM_INFERENCE_HOSTNAME": "127.0.0.1",
        "SERVER_SSL_ENABLED": "true",
        "TLS_SERVER_CERT_PATH": str(cert),
        "TLS_SERVER_KEY_PATH": str(key),
        "LOG_FORMAT": "pretty",
        "RUST_LOG": "warn",
    }
    with speaking(tmp_path / "server", variables) as server:
        assert server.url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("localhost", server.port, timeout=20, context=trust)
        connection.request("GET", "/health/ready")
        assert connection.getresponse().status == 200
        connection.close()
    assert "/health/ready" not in server.log and "{" not in server.log


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "LLM_ALLOWED_MODELS is required"),
        ({"LLM_ALLOWED_MODELS": "a", "SERVER_SSL_ENABLED": "true"}, "TLS_SERVER_CERT_PATH is required when SERVER_SSL_ENABLED=true"),
    ],
)  # fmt: skip
def test_a_start_that_has_to_fail(tmp_path: Path, variables: dict[str, str], says: str) -> None:
    """Without models, or half secured."""
    assert refused_start("inference", tmp_path, variables).startswith(says)


def test_all_models_are_loaded_on_demand(tmp_path: Path) -> None:
    """``*``: none at the start; one of the hub when it is asked for; no file by its path."""
    with Hub() as hub:
        hub.commit("team/tiny-GGUF", {"tiny-Q8_0.gguf": STARTER.read_bytes()})
        hub.commit(LLAMA, {"config.json": b"{}", "model.safetensors": b"weights" * 1000})
        variables = {"LLM_ALLOWED_MODELS": "*", "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"),
                     "NO_PROXY": "127.0.0.1,localhost", "LLM_MODEL_PATH": str(tmp_path)}  # fmt: skip
        shutil.copy(STARTER, tmp_path / "mine-f16.gguf")
        with speaking(tmp_path / "server", variables) as server:
            assert server.engines() == []
            assert server.get("/health/ready").status == 200
            listed = [model["id"] for model in server.get("/api/llms").json]
            assert len(listed) == 10 and listed[-2:] == ["builtin:starter", "mine-f16"]
            for name in ("team/tiny-GGUF", "somebody/mine"):
                answer = post(server, "/api/generate", prompt="Hello", model=name, max_tokens=2)
                assert (answer.status, answer.json["model"]) == (200, name)
            # One file is one engine, by however many names.
            assert (
                post(server, "/api/generate", prompt="Hello", model="others/mine", max_tokens=1).status == 200
            )
            assert len(server.engines()) == 2
            for name in (LLAMA, "team/none", str(STARTER), f"hf:{STARTER}", "../none", ""):
                answer = post(server, "/api/generate", prompt="Hello", model=name)
                assert (answer.status, answer.json["code"]) == (503, "MODEL_LOAD_ERROR"), name
            assert "team/tiny-GGUF" in [model["id"] for model in server.get("/v1/models").json["data"]]
            assert hub.gets("model.safetensors") == []
            server.signal(signal.SIGTERM)
            assert server.wait() == 0


@pytest.mark.timeout(240)  # a machine that is busy with something else starts two programs slowly
def test_the_concurrent_limit_holds_until_a_streams_end(tmp_path: Path) -> None:
    """LLM_MAX_CONCURRENT_REQUESTS=1, on an engine that never comes to an end."""
    (tmp_path / "inglenook.toml").write_text(
        '[[models]]\nid = "mute"\npath = "builtin:echo"\nargs = ["--hang-after-tokens", "2"]'
    )
    variables = {"LLM_ALLOWED_MODELS": "mute", "LLM_MAX_CONCURRENT_REQUESTS": "1"}
    with speaking(tmp_path / "server", variables, "--config", str(tmp_path / "inglenook.toml")) as server:
        connection = server.connect(timeout=100)
        connection.request(
            "POST", "/api/generate/stream", json.dumps({"model": "mute", "prompt": "a b c d e"}), JSON
        )
        response = connection.getresponse()
        first = b":"
        while first.strip() == b"" or first.startswith(b":"):  # it says that it waits for the engine
            first = response.readline()
            assert first, "the stream ended before its first token"
        assert first == b"data: a\n"
        refused = post(server, "/api/chat", messages=[])
        assert (refused.status, refused.headers["retry-after"]) == (503, "10")
        assert refused.json["retry_after_seconds"] == 10
        response.close()
        connection.close()
        until(lambda: post(server, "/api/chat", messages=[]).status == 400, "a free place", seconds=100)


def test_two_servers_side_by_side(place: Place, tmp_path: Path) -> None:
    """The plain one beside it has none of its ways."""
    plain = start("", tmp_path, ())
    try:
        messages = [{"role": "user", "content": "Hello!"}]
        assert plain.chat("Hello!", "starter").status == 200
        assert plain.ask("POST", "/api/chat", {"model": "starter", "messages": messages}, JSON).status == 200
        assert post(place.server, "/api/chat", messages=messages).status == 200
        assert plain.get("/nothing").error["code"] == "not_found"
        assert b"llm_inference_http" not in plain.get("/metrics").body
    finally:
        plain.end()


def test_it_starts_without_opentelemetrys_packages(tmp_path: Path) -> None:
    """One line of the log says what is missing; what was asked for in a file of settings is an error."""
    script = (
        "import sys; sys.modules['opentelemetry.exporter'] = None\n"
        "from inglenook.config.load import load\n"
        "from inglenook.http.app import create_app\n"
        "import os\n"
        "print(create_app(load(None, os.environ, {'server': {'dialect': sys.argv[1]}})).seen.lacking)\n"
    )
    variables = environment({"LLM_ALLOWED_MODELS": "builtin:starter"})
    done = subprocess.run(
        [sys.executable, "-c", script, "inference"],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "pip install 'inglenook[otel]'" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
    variables["INGLENOOK_TELEMETRY__OTLP_ENDPOINT"] = "http://localhost:4317"
    refused = subprocess.run(
        [sys.executable, "-c", script, ""],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert refused.returncode != 0 and "NotInstalled: telemetry.otlp_endpoint: needs" in refused.stderr
