"""aegis-llm-server: every statement and example of its README, against the dialect.

Contract: README and the golden values of the deterministic backend.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from inglenook.config.dialects.aegis import ALIASES, PREFIX
from inglenook.config.dialects.dotenv import parse
from inglenook.config.load import SettingsError, load
from inglenook.config.settings import Settings
from tests.parts.bert import write_bert
from tests.parts.collector import http_collector
from tests.parts.dialect import environment, refused_start, start_dialect
from tests.parts.odd_llama_server import program
from tests.parts.server import Answer, Server, until

HELLO = [0.26784691, -0.01823026, 0.30878732, 0.25869733, 0.30027407, -0.57882291, -0.42123741, -0.40374544]
RAW_HELLO = [
    0.33289126,
    -0.02265733,
    0.38377368,
    0.32151979,
    0.37319309,
    -0.71938509,
    -0.52353132,
    -0.50179160,
]
DOCS = Path(__file__).parents[2] / "docs" / "dialects"


def variables(**given: str) -> dict[str, str]:
    return {f"{PREFIX}{name}": value for name, value in given.items()}


@contextmanager
def speaking(directory: Path, given: dict[str, str], *flags: str) -> Iterator[Server]:
    """A server of the dialect on a free port."""
    server = start_dialect("aegis", directory, given, "--port", "0", *flags)
    try:
        yield server
    finally:
        server.end()


def settings(given: dict[str, str]) -> Settings:
    return load(None, given, {"server": {"dialect": "aegis"}})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Small vectors, small limits; all else as it comes."""
    given = variables(
        SERVER__HOST="127.0.0.1",
        EMBEDDING__DIMENSION="8",
        EMBEDDING__MAX_BATCH_SIZE="3",
        EMBEDDING__MAX_INPUT_CHARS="20",
        EMBEDDING__MAX_TOTAL_CHARS="30",
    )
    with speaking(tmp_path_factory.mktemp("aegis"), given) as running:
        yield running


def embed(server: Server, **body: Any) -> Answer:
    return server.ask("POST", "/v1/embeddings", body, {"content-type": "application/json"})


def test_health_has_the_five_fields(server: Server) -> None:
    """What its README's probe reads."""
    answer = server.get("/health")
    assert answer.status == 200
    assert answer.json == {
        "status": "ok",
        "service": "aegis-llm-server",
        "version": "0.1.0",
        "backend": "deterministic",
        "embedding_enabled": True,
    }


def test_models_are_the_five_aliases_in_their_order(server: Server) -> None:
    data = server.get("/v1/models").json["data"]
    assert [model["id"] for model in data] == list(ALIASES)
    assert {model["owned_by"] for model in data} == {"aegis-llm-server"}


def test_another_model_name_stands_behind_the_aliases(tmp_path: Path) -> None:
    """`EMBEDDING__MODEL_NAME`, `SERVICE_NAME` and `SERVICE_VERSION` are shown."""
    given = variables(EMBEDDING__MODEL_NAME="mine", SERVICE_NAME="team", SERVICE_VERSION="9")
    with speaking(tmp_path, given, "--host", "127.0.0.1") as server:
        assert [model["id"] for model in server.get("/v1/models").json["data"]] == [*ALIASES, "mine"]
        assert embed(server, model="mine", input="a").status == 200
        health = server.get("/health").json
        assert (health["service"], health["version"]) == ("team", "9")


def test_the_readmes_curl_answers(server: Server) -> None:
    """The example as it stands, but for the port."""
    command = f"""curl -sS -X POST {server.url}/v1/embeddings -H 'content-type: application/json' \\
        -d '{{"model":"nomic-embed-text","input":"hello world"}}'"""
    told = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=10, check=True)
    assert '"object":"list"' in told.stdout


def test_the_readmes_benchmark_runs_as_our_command(server: Server, tmp_path: Path) -> None:
    """Its flags, but for less of it; the report is printed and written, its directory made."""
    file = tmp_path / "docs" / "perf" / "local-baseline.json"
    flags = f"--base-url {server.url} --model nomic-embed-text --requests 12 --warmup 2 --concurrency 4"
    flags += f" --batch-size 1 --input-chars 16 --output {file}"
    command = [sys.executable, "-P", "-m", "inglenook", "bench", "embeddings", *flags.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, f"Wrote benchmark report: {file}\n")
    assert done.stdout == file.read_text()
    results = json.loads(done.stdout)["results"]
    assert (results["success_requests"], results["error_breakdown"]) == (12, {})


def test_its_app_is_a_library_too(tmp_path: Path) -> None:
    """`create_app()`, of the environment, under uvicorn as the README has it."""
    given = variables(EMBEDDING__DIMENSION="8") | {"INGLENOOK_SERVER__DIALECT": "aegis"}
    log = tmp_path / "log.txt"
    command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "inglenook:create_app", "--port", "0"]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, stdout=stream, text=True, env=environment(given))
    try:
        until(lambda: "running on" in log.read_text() or process.poll() is not None, "uvicorn to listen")
        found = re.search(r"http://\S+:\d+", log.read_text())
        assert found is not None, log.read_text()
        running = Server(process, found[0], log)
        assert running.get("/health").json["service"] == "aegis-llm-server"
        assert embed(running, input="hello world").json["data"][0]["embedding"] == pytest.approx(
            HELLO, abs=1e-6
        )
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("model", ["", *ALIASES])
def test_every_alias_gives_the_golden_vector_and_is_echoed(server: Server, model: str) -> None:
    answer = embed(server, model=model, input="hello world")
    assert answer.status == 200
    body = answer.json
    assert body["model"] == model
    assert body["data"][0]["embedding"] == pytest.approx(HELLO, abs=1e-6)
    assert body["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


def test_without_normalising_the_vector_is_the_raw_one(tmp_path: Path) -> None:
    given = variables(EMBEDDING__NORMALIZE="false", EMBEDDING__DIMENSION="8", SERVER__HOST="127.0.0.1")
    with speaking(tmp_path, given) as server:
        found = embed(server, input="hello world").json["data"][0]["embedding"]
        assert found == pytest.approx(RAW_HELLO, abs=1e-6)


def test_words_are_the_tokens_and_what_it_does_not_know_is_ignored(server: Server) -> None:
    answer = embed(server, input=["a b", "c d e"], dimensions=3, user="x", other=1)
    assert answer.json["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert [len(row["embedding"]) for row in answer.json["data"]] == [8, 8]


def test_an_empty_text_is_the_zero_vector(server: Server) -> None:
    answer = embed(server, input="")
    assert answer.json["data"][0]["embedding"] == [0.0] * 8
    assert answer.json["usage"]["prompt_tokens"] == 0


def test_base64_and_the_official_client_agree_with_the_floats(server: Server) -> None:
    packed = embed(server, input="hello world", encoding_format="base64").json["data"][0]["embedding"]
    assert struct.unpack("<8f", base64.b64decode(packed)) == pytest.approx(HELLO, abs=1e-6)
    with OpenAI(base_url=f"{server.url}/v1", api_key="-") as client:
        found = client.embeddings.create(model="text-embedding-3-small", input=["hello world"])
    assert found.data[0].embedding == pytest.approx(HELLO, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": "zz", "input": "a"}, "Unsupported embedding model 'zz'."),
        ({"model": "it's", "input": "a"}, "Unsupported embedding model 'it's'."),
        ({"input": []}, "Embedding input list cannot be empty."),
        ({"input": ["a"] * 4}, "Embedding input batch size 4 exceeds configured limit 3."),
        ({"input": ["a", "b" * 21]}, "Embedding input at index 1 exceeds configured character limit 20."),
        (
            {"input": ["a" * 20, "b" * 20]},
            "Total embedding input size 40 exceeds configured character limit 30.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_the_exact_words(server: Server, body: Any, message: str) -> None:
    answer = embed(server, **body)
    assert answer.status == 400
    assert answer.json == {"error": {"code": "invalid_request", "message": message}}


def test_what_is_far_too_long_is_told_in_the_same_words(server: Server) -> None:
    """Its limits are in characters; none of ours stands before them."""
    answer = embed(server, input="b" * 12_000_000)
    assert answer.status == 400
    assert answer.error["message"] == "Embedding input at index 0 exceeds configured character limit 20."


@pytest.mark.parametrize("body", [b"x", b"{}", b'{"input": 5}', b'{"input": "a", "encoding_format": "hex"}'])
def test_a_malformed_body_is_a_400_of_two_keys(server: Server, body: bytes) -> None:
    answer = server.ask("POST", "/v1/embeddings", body)
    assert answer.status == 400
    assert set(answer.error) == {"code", "message"}
    assert answer.error["code"] == "invalid_request"


def test_unknown_paths_and_verbs_answer_as_fastapi_does(server: Server) -> None:
    assert (server.get("/nope").status, server.get("/nope").json) == (404, {"detail": "Not Found"})
    wrong = server.get("/v1/embeddings")
    assert (wrong.status, wrong.json) == (405, {"detail": "Method Not Allowed"})
    assert wrong.headers["allow"] == "POST"


def test_switched_off_it_says_so_before_anything_else(tmp_path: Path) -> None:
    given = variables(EMBEDDING__ENABLED="false", SERVER__HOST="127.0.0.1")
    with speaking(tmp_path, given) as server:
        health = server.get("/health")
        assert (health.status, health.json["status"]) == (200, "error")
        assert (health.json["backend"], health.json["embedding_enabled"]) == ("none", False)
        assert server.get("/v1/models").json == {"object": "list", "data": []}
        answer = embed(server, model="zz", input="a")
        assert answer.status == 503
        assert answer.json == {"error": {"code": "upstream_error", "message": "Embeddings are disabled."}}


def test_a_backend_that_cannot_start_leaves_a_server_that_says_so(tmp_path: Path) -> None:
    """Degraded, not dead: the wrong directory is no model."""
    (tmp_path / "empty").mkdir()
    given = variables(
        EMBEDDING__BACKEND="sentence_transformers",
        EMBEDDING__MODEL_NAME=str(tmp_path / "empty"),
        SERVER__HOST="127.0.0.1",
    )
    with speaking(tmp_path, given) as server:
        until(lambda: server.get("/health").status == 200, "health")
        assert server.get("/health").json["backend"] == "none"
        assert server.get("/health").json["embedding_enabled"] is True
        assert server.get("/v1/models").json["data"] == []
        assert embed(server, model="zz", input="a").status == 400
        answer = embed(server, input="a")
        assert answer.status == 503
        assert answer.error == {"code": "upstream_error", "message": "Embedding backend is unavailable."}


def test_a_backend_that_is_too_slow_is_a_504(tmp_path: Path) -> None:
    with speaking(tmp_path, variables(EMBEDDING__BACKEND_TIMEOUT_SECONDS="0.000001")) as server:
        answer = embed(server, input="a")
        assert (answer.status, answer.json) == (
            504,
            {"error": {"code": "upstream_timeout", "message": "Embedding backend timed out."}},
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nan", "Embedding backend returned non-finite vector values at index 1."),
        ("short", "Embedding backend returned invalid vector dimension at index 1: expected 2, got 1."),
        ("few", "Embedding backend returned mismatched vector count."),
        ("rubbish", "Embedding generation failed."),
    ],
)
def test_what_a_backend_does_wrong_is_a_500_in_the_exact_words(odd: Server, text: str, message: str) -> None:
    answer = embed(odd, input=["a", text], model="odd")
    assert (answer.status, answer.json) == (500, {"error": {"code": "internal", "message": message}})


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A backend with every fault that a text may ask for."""
    place = tmp_path_factory.mktemp("odd")
    file = place / "inglenook.toml"
    path = write_bert(place / "bert.gguf")
    file.write_text(f'[[models]]\nid = "odd"\npath = "{path}"\nengine_binary = "{program(place)}"')
    with speaking(place, {}, "--config", str(file)) as server:
        yield server


def test_a_text_longer_than_the_model_reads_is_cut_as_it_was(tmp_path: Path) -> None:
    """But no longer in silence."""
    file = tmp_path / "inglenook.toml"
    file.write_text(f'[[models]]\nid = "bert"\npath = "{write_bert(tmp_path / "bert.gguf", context=64)}"')
    with speaking(tmp_path, {}, "--config", str(file)) as server:
        long = embed(server, input=["cat", "cat " * 100], model="bert")
        assert long.status == 200
        assert long.json["usage"]["prompt_tokens"] == 101
        assert [cut["index"] for cut in long.json["truncated"]] == [1]
        assert "truncated" not in embed(server, input="cat", model="bert").json


def test_lines_have_a_timestamp_a_level_and_words(tmp_path: Path) -> None:
    """Python's own timestamp, for the server's lines and for each request."""
    stamp = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO "
    with speaking(tmp_path, {}) as server:
        embed(server, input="a")
        server.until_log("POST /v1/embeddings 200")
        assert re.search(stamp + "model nomic-ai/nomic-embed-text-v1.5 is ready$", server.log, re.MULTILINE)
        assert re.search(stamp + r"POST /v1/embeddings 200 [\d.]+ ms ", server.log, re.MULTILINE)


def test_it_answers_under_any_name(tmp_path: Path) -> None:
    """On loopback too: behind a proxy that passes on the name it was called by."""
    with speaking(tmp_path, variables(SERVER__HOST="127.0.0.1")) as server:
        assert server.ask("GET", "/health", headers={"host": "llm.example.com"}).status == 200


def test_every_request_is_one_record_of_the_four_metrics(tmp_path: Path) -> None:
    """Names, attributes, headers and traces of "Telemetry Output Contract"."""
    with http_collector() as collector:
        given = variables(
            SERVER__HOST="127.0.0.1",
            TELEMETRY__ENABLED="true",
            TELEMETRY__OTLP_ENDPOINT=f"{collector.endpoint}/v1/traces/",
            TELEMETRY__METRICS_EXPORT_INTERVAL_MS="250",
            TELEMETRY__OTLP_HEADERS__AUTHORIZATION="Bearer tok",
        )
        with speaking(tmp_path, given) as server:
            embed(server, model="nomic-embed-text", input=["a b", "c"])
            embed(server, model="zz", input="a")
            embed(server, model="z" * 257, input="a")
            spans = collector.until_spans(3)
        durations = collector.points("aegis_llm_server_embeddings_duration_ms")
        tokens = collector.points("aegis_llm_server_embeddings_prompt_tokens")
    told = {(labels["model"], labels["status"]): point.count for labels, point in durations}
    assert told == {
        ("nomic-embed-text", "ok"): 1,
        ("zz", "invalid_request"): 1,
        ("other", "invalid_request"): 1,
    }
    assert [(labels["status"], point.sum) for labels, point in tokens] == [("ok", 3.0)]
    for name in ("requests_total", "input_texts_total"):
        assert f"aegis_llm_server_embeddings_{name}".encode() in collector.metrics[-1]
    assert {headers["authorization"] for headers in collector.headers} == {"Bearer tok"}
    assert "POST /v1/embeddings" in [span.name for span in spans]


def test_a_dead_collector_does_not_stop_it(tmp_path: Path) -> None:
    given = variables(
        SERVER__HOST="127.0.0.1", TELEMETRY__ENABLED="true", TELEMETRY__OTLP_ENDPOINT="http://127.0.0.1:9"
    )
    with speaking(tmp_path, given) as server:
        assert embed(server, input="a").status == 200


# Variables, without a server.


def test_defaults_are_those_of_the_readme() -> None:
    said = settings({})
    model, limits = said.models[0], said.limits
    assert (said.server.host, said.server.port) == ("0.0.0.0", 8181)
    assert (model.id, model.engine, model.dimension) == (
        "nomic-ai/nomic-embed-text-v1.5",
        "deterministic",
        768,
    )
    assert model.normalize is True
    assert (limits.max_batch_size, limits.max_input_chars, limits.max_total_chars) == (64, 32768, 262144)
    assert limits.embedding_timeout_seconds == 30
    assert said.telemetry.otlp_endpoint == ""


def test_port_stands_above_its_own_port_and_names_are_of_any_case() -> None:
    assert settings(variables(SERVER__PORT="9000")).server.port == 9000
    assert settings({**variables(SERVER__PORT="9000"), "PORT": "9001"}).server.port == 9001
    assert settings({f"{PREFIX}server__host".lower(): "127.0.0.3"}).server.host == "127.0.0.3"


def test_the_real_backend_takes_its_own_variables(tmp_path: Path) -> None:
    given = variables(EMBEDDING__BACKEND="sentence_transformers", EMBEDDING__TRUST_REMOTE_CODE="false")
    model = settings(given).models[0]
    assert (model.engine, model.path) == ("sentence_transformers", "hf:nomic-ai/nomic-embed-text-v1.5")
    assert model.trust_remote_code is False
    assert settings(variables(EMBEDDING__BACKEND="sentence_transformers")).models[0].trust_remote_code is True
    here = variables(EMBEDDING__BACKEND="sentence_transformers", EMBEDDING__MODEL_NAME=str(tmp_path))
    assert settings(here).models[0].path == str(tmp_path)


def test_telemetry_variables_become_settings() -> None:
    given = variables(
        TELEMETRY__ENABLED="1",
        TELEMETRY__OTLP_ENDPOINT="http://collector:4318/v1/metrics",
        TELEMETRY__OTLP_TIMEOUT_SECONDS="2.5",
        TELEMETRY__METRICS_EXPORT_INTERVAL_MS="1000",
        TELEMETRY__SAMPLE_RATIO="0.25",
        TELEMETRY__OTLP_HEADERS__X_SCOPE_ORGID="team",
    )
    telemetry = settings(given).telemetry
    assert telemetry.otlp_endpoint == "http://collector:4318"
    assert (telemetry.otlp_timeout_seconds, telemetry.metrics_export_seconds) == (2.5, 1.0)
    assert (telemetry.sample_ratio, telemetry.otlp_headers) == (0.25, {"x_scope_orgid": "team"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVER__PORT", "x"),
        ("EMBEDDING__ENABLED", "perhaps"),
        ("EMBEDDING__BACKEND", "gpu"),
        ("EMBEDDING__TRUST_REMOTE_CODE", "2"),
        ("EMBEDDING__DIMENSION", "7"),
        ("EMBEDDING__DIMENSION", "8193"),
        ("EMBEDDING__NORMALIZE", "x"),
        ("EMBEDDING__MAX_BATCH_SIZE", "2049"),
        ("EMBEDDING__MAX_INPUT_CHARS", "0"),
        ("EMBEDDING__MAX_TOTAL_CHARS", "5000001"),
        ("EMBEDDING__BACKEND_TIMEOUT_SECONDS", "0"),
        ("EMBEDDING__BACKEND_TIMEOUT_SECONDS", "601"),
        ("TELEMETRY__ENABLED", "x"),
        ("TELEMETRY__OTLP_TIMEOUT_SECONDS", "121"),
        ("TELEMETRY__METRICS_EXPORT_INTERVAL_MS", "249"),
        ("TELEMETRY__SAMPLE_RATIO", "1.1"),
        ("TELEMETRY__OTLP_ENDPOINT", "otel-collector:4318"),
    ],
)
def test_a_wrong_value_stops_the_start_and_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{PREFIX}{name} "):
        settings(variables(**{name: value}))


def test_a_wrong_value_is_one_sentence_and_exit_status_2(tmp_path: Path) -> None:
    said = refused_start("aegis", tmp_path, variables(EMBEDDING__DIMENSION="x"))
    assert said == f"{PREFIX}EMBEDDING__DIMENSION must be a whole number"


def test_what_the_operator_says_stands_above_the_variables() -> None:
    given = {**variables(EMBEDDING__MAX_BATCH_SIZE="5"), "INGLENOOK_LIMITS__MAX_BATCH_SIZE": "7"}
    assert settings(given).limits.max_batch_size == 7


def test_it_reads_no_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("AEGIS_LLM_SERVER_SERVER__PORT=9\n")
    monkeypatch.chdir(tmp_path)
    assert settings({}).server.port == 8181


def test_without_the_dialect_its_variables_have_no_effect() -> None:
    given = {**variables(SERVER__PORT="9", EMBEDDING__DIMENSION="nonsense"), "PORT": "8"}
    assert load(None, given, {}) == load(None, {}, {})


def test_the_template_is_all_defaults() -> None:
    """`docs/dialects/aegis.env` names every variable, and changes nothing."""
    template = parse((DOCS / "aegis.env").read_text())
    assert settings(template) == settings({})
    assert len(template) >= 20
