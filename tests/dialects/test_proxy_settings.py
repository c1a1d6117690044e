"""The llama.cpp proxy's variables as settings, and the engines that its start scripts ran."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

import inglenook
from inglenook.config.dialects import proxy
from inglenook.config.dialects.dotenv import parse
from inglenook.config.load import SettingsError, load
from inglenook.config.settings import Settings
from tests.parts.dialect import refused_start, start_dialect
from tests.parts.server import Server
from tests.parts.upstream import scripted

DOCS = Path(__file__).parents[2] / "docs" / "dialects"
STARTER = Path(inglenook.__file__).parent / "models" / "starter.gguf"
VARIABLES = (
    "API_HOST API_PORT OPENAI_API_KEY OPENAI_API_KEYS RATE_LIMIT_RPM CORS_ALLOWED_ORIGINS LOG_LEVEL "
    "LLAMA_CPP_BASE_URL MODEL_UPSTREAMS MAX_RETRIES RETRY_BACKOFF_S CONNECT_TIMEOUT_S TIMEOUT_CHAT_S "
    "TIMEOUT_COMPLETIONS_S TIMEOUT_EMBEDDINGS_S TIMEOUT_MODELS_S MODEL_PATHS ENABLED_MODELS LLAMA_MODEL "
    "LLAMA_CTX LLAMA_N_BATCH LLAMA_THREADS LLAMA_THREADS_BATCH LLAMA_EMBEDDINGS LLAMA_CPP_BIN LLAMA_HOST "
    "LLAMA_PORT"
).split()


@pytest.fixture(autouse=True)
def in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(**given: str) -> Settings:
    return load(None, given, {"server": {"dialect": "proxy"}})


def test_the_defaults_are_its_own() -> None:
    said = settings()
    (upstream,) = said.upstreams
    assert (said.server.host, said.server.port, said.server.cors_origins) == ("127.0.0.1", 8000, ())
    assert (said.limits.requests_per_minute, said.auth.keys, said.auth.database) == (120, (), "none")
    assert (said.telemetry.log_level, said.telemetry.log_format) == ("info", "json")
    assert (upstream.url, upstream.models) == ("http://127.0.0.1:8080", ("*",))
    assert (upstream.retries, upstream.backoff_seconds) == (2, 0.35)
    waits = upstream.timeouts
    assert (waits.connect, waits.chat, waits.completions, waits.embeddings, waits.models) == (
        *(5, 120, 120),
        *(60, 10),
    )
    assert said.models == ()


def test_every_variable_has_its_place() -> None:
    said = settings(
        API_HOST="0.0.0.0",
        API_PORT="9000",
        RATE_LIMIT_RPM="7",
        LOG_LEVEL="WARNING",
        CORS_ALLOWED_ORIGINS="http://a.example, http://b.example/",
        LLAMA_CPP_BASE_URL="http://10.0.0.1:1/",
        MAX_RETRIES="4",
        RETRY_BACKOFF_S="0.5",
        CONNECT_TIMEOUT_S="1",
        TIMEOUT_CHAT_S="2",
        TIMEOUT_COMPLETIONS_S="3",
        TIMEOUT_EMBEDDINGS_S="4",
        TIMEOUT_MODELS_S="5",
    )
    (upstream,) = said.upstreams
    assert (said.server.host, said.server.port) == ("0.0.0.0", 9000)
    assert said.server.cors_origins == ("http://a.example", "http://b.example")
    assert (said.limits.requests_per_minute, said.telemetry.log_level) == (7, "warning")
    assert (upstream.url, upstream.retries, upstream.backoff_seconds) == ("http://10.0.0.1:1", 4, 0.5)
    waits = upstream.timeouts
    assert (waits.connect, waits.chat, waits.completions, waits.embeddings, waits.models) == (1, 2, 3, 4, 5)


def test_empty_is_the_default_and_a_limit_is_at_least_one() -> None:
    assert settings(API_PORT="", MODEL_UPSTREAMS="", LLAMA_CPP_BASE_URL="") == settings()
    assert settings(RATE_LIMIT_RPM="0").limits.requests_per_minute == 1


def test_keys_have_clients() -> None:
    said = settings(OPENAI_API_KEYS="key_a:team_a, key_c,:x,key_d:", OPENAI_API_KEY="local")
    assert [(key.key, key.client) for key in said.auth.keys] == [
        ("key_a", "team_a"),
        ("key_c", "client-c5dcc2e8971b"),
        ("key_d", proxy.client_id("key_d")),
        ("local", "client-25bf8e1a2393"),
    ]
    both = settings(OPENAI_API_KEYS="local:me", OPENAI_API_KEY="local").auth.keys
    assert [(key.key, key.client) for key in both] == [("local", "me")]


def test_names_are_mapped_and_what_is_no_pair_is_passed_over() -> None:
    said = settings(MODEL_UPSTREAMS="a=http://h:1/, b, =http://h:2,c=,d=http://h:3")
    assert [(each.name, each.url, each.models) for each in said.upstreams] == [
        ("a", "http://h:1", ("a",)),
        ("d", "http://h:3", ("d",)),
    ]


def test_paths_become_engines_in_their_upstreams_place(tmp_path: Path) -> None:
    for name in ("a", "b", "d"):
        (tmp_path / f"{name}.gguf").touch()
    said = settings(
        MODEL_UPSTREAMS="a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3,d=http://h:4/deep",
        MODEL_PATHS="a=./a.gguf,b=b.gguf,c=missing.gguf,d=d.gguf",
        ENABLED_MODELS="a,c,d",
    )
    (model,) = said.models
    assert (model.id, model.path, model.preload, model.embeddings) == ("a", "./a.gguf", True, True)
    assert (model.context, model.batch) == (4096, 1024)
    assert model.threads == min(20, os.cpu_count() or 1)
    assert model.args == ("--threads-batch", str(model.threads))
    assert [each.name for each in said.upstreams] == ["b", "c", "d"]


def test_what_is_not_as_meant_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Which variable asks for keys, and which models have no engine of ours; never a key."""
    caplog.set_level("WARNING", "inglenook.settings")
    settings(
        OPENAI_API_KEYS="s3cr3t:a",
        MODEL_UPSTREAMS="a=http://127.0.0.1:1",
        MODEL_PATHS="a=missing.gguf,b=builtin:starter",
        ENABLED_MODELS="a,b,c",
    )
    told = [record.getMessage() for record in caplog.records]
    assert [words.partition(":")[0] for words in told[:2]] == ["MODEL_PATHS", "ENABLED_MODELS"]
    assert "a key of OPENAI_API_KEYS," in told[2] and "s3cr3t" not in caplog.text
    caplog.clear()
    settings(OPENAI_API_KEY="s3cr3t")
    assert "a key of OPENAI_API_KEY," in caplog.text


def test_an_empty_list_enables_all_and_the_engines_take_what_is_said(tmp_path: Path) -> None:
    binary = tmp_path / "llama-server"
    binary.touch()
    said = settings(
        MODEL_PATHS="a=builtin:starter,b=builtin:starter",
        LLAMA_CTX="1024",
        LLAMA_N_BATCH="64",
        LLAMA_THREADS="3",
        LLAMA_THREADS_BATCH="5",
        LLAMA_EMBEDDINGS="0",
        LLAMA_CPP_BIN="./llama-server",
    )
    assert [model.id for model in said.models] == ["a", "b"] and not said.upstreams
    for model in said.models:
        assert (model.context, model.batch, model.threads) == (1024, 64, 3)
        assert (model.args, model.embeddings) == (("--threads-batch", "5"), False)
        assert model.engine_binary == str(binary)


def test_the_single_model_has_its_scripts_defaults_and_answers_to_any_name(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "llama.gguf").touch()
    (model,) = settings().models
    assert (model.id, model.aliases, model.path) == ("llama", ("*",), "./models/llama.gguf")
    assert (model.context, model.batch, model.threads, model.args) == (4096, 512, 0, ())
    assert model.engine_binary == ""
    assert not settings().upstreams
    assert settings(LLAMA_CPP_BASE_URL="http://localhost:8080").models
    assert settings(LLAMA_PORT="81", LLAMA_HOST="lan", LLAMA_CPP_BASE_URL="http://lan:81").models


@pytest.mark.parametrize(
    "given",
    [
        {"LLAMA_CPP_BASE_URL": "http://10.0.0.1:8080"},
        {"LLAMA_CPP_BASE_URL": "http://127.0.0.1:8082"},
        {"LLAMA_PORT": "81", "LLAMA_CPP_BASE_URL": "http://127.0.0.1:8080"},
        {"LLAMA_MODEL": "not-here.gguf"},
    ],
)
def test_an_address_elsewhere_or_no_file_leaves_the_upstream(given: dict[str, str]) -> None:
    said = settings(**{"LLAMA_MODEL": "builtin:starter", **given})
    assert not said.models and len(said.upstreams) == 1


def test_a_file_of_settings_and_flags_stand_above(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[server]\ndialect = 'proxy'\nallowed_hosts = ['a']\n[limits]\nrequests_per_minute = 5\n")
    said = load(file, {"RATE_LIMIT_RPM": "9", "API_PORT": "9"}, {"server": {"port": 10}})
    assert (said.server.port, said.limits.requests_per_minute) == (10, 5)
    assert said.server.allowed_hosts == ("a",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "x"),
        ("API_PORT", "70000"),
        ("RATE_LIMIT_RPM", "many"),
        ("LOG_LEVEL", "loud"),
        ("CORS_ALLOWED_ORIGINS", "localhost"),
        ("OPENAI_API_KEY", "a b"),
        ("OPENAI_API_KEYS", "ü:a"),
        ("LLAMA_CPP_BASE_URL", "localhost:8080"),
        ("MODEL_UPSTREAMS", "a=ftp://b"),
        ("MAX_RETRIES", "-1"),
        ("RETRY_BACKOFF_S", "soon"),
        ("CONNECT_TIMEOUT_S", "0"),
        ("TIMEOUT_CHAT_S", "nan"),
        ("TIMEOUT_COMPLETIONS_S", "-1"),
        ("TIMEOUT_EMBEDDINGS_S", "x"),
        ("TIMEOUT_MODELS_S", "x"),
        ("LLAMA_CTX", "x"),
        ("LLAMA_N_BATCH", "0"),
        ("LLAMA_THREADS", "-1"),
        ("LLAMA_THREADS_BATCH", "x"),
        ("LLAMA_PORT", "0"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name} "):
        settings(**{"LLAMA_MODEL": "builtin:starter", name: value})


def test_a_wrong_value_stops_the_start(tmp_path: Path) -> None:
    assert (
        refused_start("proxy", tmp_path, {"RATE_LIMIT_RPM": "x"}) == "RATE_LIMIT_RPM must be a whole number"
    )


def test_the_template_has_every_variable_and_its_default() -> None:
    text = (DOCS / "proxy.env").read_text()
    given = parse(text)
    told = parse("\n".join(line.removeprefix("# ") for line in text.splitlines()))
    assert set(VARIABLES) <= told.keys()
    assert load(None, given, {"server": {"dialect": "proxy"}}) == settings()
    page = (DOCS / "proxy.md").read_text()
    assert [name for name in VARIABLES if name not in page] == []


# Engines that the server starts by itself.


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`.env` as in the README: one model whose file is here, one whose is not enabled."""
    place = tmp_path_factory.mktemp("supervised")
    (place / "models").mkdir()
    shutil.copy(STARTER, place / "models" / "small.gguf")
    with scripted() as other:
        (place / ".env").write_text(
            "API_PORT=0\nOPENAI_API_KEY=local  # one key\nENABLED_MODELS=small\nLLAMA_CTX=512\n"
            f"MODEL_UPSTREAMS=small=http://127.0.0.1:9,big={other.url}\n"
            "MODEL_PATHS=small=./models/small.gguf,big=./models/big.gguf\n"
        )
        running = start_dialect("proxy", place, {})
        try:
            yield running
        finally:
            running.end()


def test_a_model_with_a_path_is_run_here_and_the_other_is_passed_on(supervised: Server) -> None:
    with OpenAI(base_url=f"{supervised.url}/v1", api_key="local", max_retries=0) as client:
        told = client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "hello"}], max_tokens=8
        )
        assert told.usage is not None and told.usage.completion_tokens > 0
        streamed = client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "hello"}], max_tokens=8, stream=True
        )
        assert list(streamed)[-1].choices[0].finish_reason is not None
        assert len(client.embeddings.create(model="small", input=["a", "b"]).data) == 2
        passed = client.chat.completions.create(model="big", messages=[{"role": "user", "content": "x"}])
        assert passed.choices[0].message.content == "hello"
    assert len(supervised.engines()) == 1


def test_the_list_has_both_under_their_names(supervised: Server) -> None:
    answer = supervised.ask("GET", "/v1/models", None, {"authorization": "Bearer local"}).json
    assert [(each["id"], each["upstream_model_id"]) for each in answer["data"]] == [
        ("big", "m"),
        ("small", "small.gguf"),
    ]
    assert answer["models"] == answer["data"]


def test_the_single_model_answers_to_any_name(tmp_path: Path) -> None:
    """Run by the program of `LLAMA_CPP_BIN`, with the script's flags."""
    program = tmp_path / "llama-server"
    worker = f'exec {sys.executable} -m inglenook.workers.llamacpp "$@"'
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/flags\n{worker}\n')
    program.chmod(0o755)
    given = {"API_PORT": "0", "LLAMA_MODEL": str(STARTER), "LLAMA_CTX": "512", "LLAMA_THREADS_BATCH": "2"}
    given |= {"LLAMA_CPP_BIN": "./llama-server", "LLAMA_THREADS": "1", "LLAMA_N_BATCH": "64"}
    server = start_dialect("proxy", tmp_path, given)
    try:
        answer = server.chat("hello", "gpt-whatever", max_tokens=4)
        assert answer.status == 200 and answer.json["choices"][0]["message"]["content"]
        assert [each["id"] for each in server.get("/v1/models").json["data"]] == ["starter"]
        embedded = server.ask("POST", "/v1/embeddings", {"model": "llama", "input": ["hello world"]})
        assert embedded.status == 200
        flags = (tmp_path / "flags").read_text()
        for flag in (f"--model {STARTER}", "--ctx-size 512", "--batch-size 64", "--embeddings"):
            assert f"{flag} " in flags
        assert "--threads 1" in flags and "--threads-batch 2" in flags
    finally:
        server.end()


def test_two_dialects_stand_side_by_side(tmp_path: Path) -> None:
    aegis = start_dialect(
        "aegis", tmp_path / "aegis", {"PORT": "0", "AEGIS_LLM_SERVER_SERVER__HOST": "127.0.0.1"}
    )
    try:
        up = {"API_PORT": "0", "LLAMA_CPP_BASE_URL": aegis.url, "MAX_RETRIES": "0"}
        server = start_dialect("proxy", tmp_path / "proxy", up)
        try:
            answer = server.ask("POST", "/v1/embeddings", {"model": "nomic-embed-text", "input": "a"})
            assert answer.status == 200 and len(answer.json["data"][0]["embedding"]) == 768
            assert server.get("/health").json != aegis.get("/health").json
        finally:
            server.end()
    finally:
        aegis.end()
