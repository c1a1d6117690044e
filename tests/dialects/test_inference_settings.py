"""The LLM Inference API's variables: each does what its README says, and a wrong one stops the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inglenook.config.dialects.dotenv import parse
from inglenook.config.load import SettingsError, load
from inglenook.config.settings import Settings

DOCS = Path(__file__).parents[2] / "docs" / "dialects"
TINY = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
NAMES = (
    *("LLM_ALLOWED_MODELS", "LLM_INFERENCE_HOSTNAME", "LLM_INFERENCE_PORT", "CORS_ALLOWED_ORIGINS"),
    *("LLM_DEFAULT_TEMPERATURE", "LLM_DEFAULT_TOP_P", "LLM_DEFAULT_MAX_TOKENS", "LLM_MAX_TOKENS_LIMIT"),
    *("LLM_MAX_CONCURRENT_REQUESTS", "LLM_MODEL_PATH", "HF_HOME", "HF_ENDPOINT", "CUDA_VISIBLE_DEVICES"),
    *("SERVICE_NAME", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "LOG_FORMAT", "RUST_LOG"),
    *("SERVER_SSL_ENABLED", "TLS_SERVER_CERT_PATH", "TLS_SERVER_KEY_PATH"),
)


def settings(**variables: str) -> Settings:
    return load(None, {"LLM_ALLOWED_MODELS": TINY, **variables}, {"server": {"dialect": "inference"}})


def value(found: Settings, path: str) -> Any:
    for name in path.split("."):
        found = getattr(found, name)
    return found


def test_defaults() -> None:
    """All of them, where only the required one is said."""
    said = settings()
    assert (said.server.host, said.server.port, said.server.wait_for_preload) == ("0.0.0.0", 8091, True)
    assert (said.server.cors_origins, said.server.cors_credentials) == (("*",), True)
    assert (said.server.tls_cert, said.server.tls_key) == ("", "")
    api = said.api
    assert (api.default_temperature, api.default_top_p, api.default_max_tokens) == (0.7, 0.9, 512)
    assert (api.max_tokens_limit, api.max_concurrent_requests) == (4096, 10)
    assert (api.allowed_models, api.model_directory) == ((TINY,), "")
    assert (said.hub.home, said.hub.endpoint) == ("", "")
    telemetry = said.telemetry
    assert (telemetry.service_name, telemetry.log_format) == ("llm-inference-api", "flat")
    assert (telemetry.log_level, telemetry.otlp_optional) == ("info", True)
    assert (telemetry.otlp_endpoint, telemetry.otlp_protocol) == ("http://localhost:4317", "grpc")
    assert telemetry.sample_ratio == 1.0
    (model,) = said.models
    assert (model.id, model.path, model.engine) == (TINY, f"hf:{TINY}", "llamacpp")
    assert (model.tasks, model.preload, model.env) == (("chat",), True, {})
    # None of these was there.
    assert (said.auth.keys, said.cache.enabled, said.limits.requests_per_minute) == ((), False, 0)


@pytest.mark.parametrize(
    ("name", "given", "path", "expected"),
    [
        ("LLM_INFERENCE_HOSTNAME", "127.0.0.1", "server.host", "127.0.0.1"),
        ("LLM_INFERENCE_PORT", "9", "server.port", 9),
        ("LLM_INFERENCE_PORT", "", "server.port", 8091),
        ("CORS_ALLOWED_ORIGINS", "https://a.example, http://b:1/,", "server.cors_origins", ("https://a.example", "http://b:1")),
        ("CORS_ALLOWED_ORIGINS", "https://a.example", "server.cors_credentials", False),
        ("CORS_ALLOWED_ORIGINS", "https://a.example,*", "server.cors_credentials", True),
        ("LLM_DEFAULT_TEMPERATURE", "0", "api.default_temperature", 0.0),
        ("LLM_DEFAULT_TEMPERATURE", "1.5", "api.default_temperature", 1.5),
        ("LLM_DEFAULT_TEMPERATURE", "3", "api.default_temperature", 2.0),
        ("LLM_DEFAULT_TEMPERATURE", "-1", "api.default_temperature", 0.0),
        ("LLM_DEFAULT_TOP_P", "0.5", "api.default_top_p", 0.5),
        ("LLM_DEFAULT_TOP_P", "2", "api.default_top_p", 1.0),
        ("LLM_DEFAULT_MAX_TOKENS", "7", "api.default_max_tokens", 7),
        ("LLM_MAX_TOKENS_LIMIT", "9", "api.max_tokens_limit", 9),
        ("LLM_MAX_CONCURRENT_REQUESTS", "3", "api.max_concurrent_requests", 3),
        ("LLM_MAX_CONCURRENT_REQUESTS", "0", "api.max_concurrent_requests", 1),
        ("LLM_MODEL_PATH", "/models", "api.model_directory", "/models"),
        ("HF_HOME", "/cache", "hub.home", "/cache"),
        ("HF_ENDPOINT", "http://mirror", "hub.endpoint", "http://mirror"),
        ("SERVICE_NAME", "mine", "telemetry.service_name", "mine"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1", "telemetry.otlp_endpoint", "http://c:1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:1/v1/traces", "telemetry.otlp_endpoint", "https://c:1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1/v1/traces/", "telemetry.otlp_endpoint", "http://c:1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:1", "telemetry.otlp_endpoint", "http://c:1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "telemetry.otlp_protocol", "http"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "telemetry.otlp_protocol", "grpc"),
        ("LOG_FORMAT", "Pretty", "telemetry.log_format", "pretty"),
        ("LOG_FORMAT", "json", "telemetry.log_format", "flat"),
        ("LOG_FORMAT", "anything", "telemetry.log_format", "flat"),
        ("RUST_LOG", "DEBUG", "telemetry.log_level", "debug"),
        ("RUST_LOG", "trace", "telemetry.log_level", "debug"),
        ("RUST_LOG", "warn", "telemetry.log_level", "warning"),
        ("RUST_LOG", "error", "telemetry.log_level", "error"),
        ("RUST_LOG", "off", "telemetry.log_level", "off"),
        ("RUST_LOG", "hyper=error, warn", "telemetry.log_level", "warning"),
        ("RUST_LOG", "llm_inference_api=debug,hyper=off", "telemetry.log_level", "debug"),
        ("RUST_LOG", "nonsense", "telemetry.log_level", "info"),
    ],
)  # fmt: skip
def test_each_variable_does_what_it_says(name: str, given: str, path: str, expected: object) -> None:
    """Its value arrives where the server looks for it."""
    assert value(settings(**{name: given}), path) == expected


def test_tls_needs_its_switch_and_both_files() -> None:
    """The files alone do nothing."""
    files = {"TLS_SERVER_CERT_PATH": "/c.pem", "TLS_SERVER_KEY_PATH": "/k.pem"}
    assert settings(**files).server.tls_cert == ""
    secured = settings(SERVER_SSL_ENABLED="true", **files).server
    assert (secured.tls_cert, secured.tls_key) == ("/c.pem", "/k.pem")
    assert settings(SERVER_SSL_ENABLED="false", **files).server.tls_key == ""


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"LLM_ALLOWED_MODELS": ""}, "LLM_ALLOWED_MODELS is required"),
        ({"LLM_ALLOWED_MODELS": " , ,"}, "LLM_ALLOWED_MODELS is required"),
        ({"LLM_INFERENCE_PORT": "http"}, "LLM_INFERENCE_PORT must be a whole number"),
        ({"LLM_INFERENCE_PORT": "70000"}, "LLM_INFERENCE_PORT must be at most 65535"),
        ({"LLM_DEFAULT_TEMPERATURE": "hot"}, "LLM_DEFAULT_TEMPERATURE must be a number"),
        ({"LLM_DEFAULT_TEMPERATURE": "nan"}, "LLM_DEFAULT_TEMPERATURE must be a number"),
        ({"LLM_DEFAULT_TOP_P": "all"}, "LLM_DEFAULT_TOP_P must be a number"),
        ({"LLM_DEFAULT_MAX_TOKENS": "1.5"}, "LLM_DEFAULT_MAX_TOKENS must be a whole number"),
        ({"LLM_MAX_TOKENS_LIMIT": "-1"}, "LLM_MAX_TOKENS_LIMIT must be at least 0"),
        ({"LLM_MAX_CONCURRENT_REQUESTS": "many"}, "LLM_MAX_CONCURRENT_REQUESTS must be a whole number"),
        ({"SERVER_SSL_ENABLED": "perhaps"}, "SERVER_SSL_ENABLED must be true or false"),
        ({"SERVER_SSL_ENABLED": "true"}, "TLS_SERVER_CERT_PATH is required when SERVER_SSL_ENABLED=true"),
        ({"SERVER_SSL_ENABLED": "true", "TLS_SERVER_CERT_PATH": "c"}, "TLS_SERVER_KEY_PATH is required when SERVER_SSL_ENABLED=true"),
        ({"SERVER_SSL_ENABLED": "true", "SERVER_SSL_CERT_PATH": "c"}, "TLS_SERVER_CERT_PATH is required when SERVER_SSL_ENABLED=true"),
        ({"CORS_ALLOWED_ORIGINS": "example.com"}, "CORS_ALLOWED_ORIGINS has 'example.com'"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://x"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be an address"),
    ],
)  # fmt: skip
def test_a_wrong_value_stops_the_start_and_names_the_variable(variables: dict[str, str], says: str) -> None:
    """One sentence, with the mend."""
    with pytest.raises(SettingsError) as caught:
        settings(**variables)
    assert str(caught.value).startswith(says)


def test_the_models_are_the_allowed_ones(tmp_path: Path) -> None:
    """By what the name itself says, unless the directory has a file for it; each is loaded at the start."""
    (tmp_path / "mine.gguf").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.gguf").touch()
    names = [
        "builtin:starter",
        "owner/repo",
        "owner/repo:Q8_0",
        "hf:owner/repo@v1",
        "/models/a.gguf",
        str(folder),
        "somebody/mine",
        "nothing",
    ]
    models = settings(
        LLM_ALLOWED_MODELS=f" {' , '.join(names)},builtin:starter", LLM_MODEL_PATH=str(tmp_path)
    ).models
    assert [model.id for model in models] == names
    assert [model.path for model in models] == [
        "builtin:starter",
        "hf:owner/repo",
        "hf:owner/repo:Q8_0",
        "hf:owner/repo@v1",
        "/models/a.gguf",
        str(folder / "model.gguf"),
        str(tmp_path / "mine.gguf"),
        "nothing",
    ]
    assert {(model.engine, model.tasks, model.preload) for model in models} == {("llamacpp", ("chat",), True)}


def test_all_models_preloads_none(tmp_path: Path) -> None:
    """What is here may be asked for: the package's own and the directory's."""
    (tmp_path / "one.gguf").touch()
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "two.gguf").touch()
    said = settings(LLM_ALLOWED_MODELS="*", LLM_MODEL_PATH=str(tmp_path), CUDA_VISIBLE_DEVICES="1")
    assert said.api.allowed_models == ("*",)
    assert [(model.id, model.path) for model in said.models] == [
        ("builtin:starter", "builtin:starter"),
        ("one", str(tmp_path / "one.gguf")),
        ("owner/two", str(tmp_path / "owner" / "two.gguf")),
    ]
    assert not any(model.preload for model in said.models)
    assert {model.env["CUDA_VISIBLE_DEVICES"] for model in said.models} == {"1"}


def test_what_an_operator_says_stands_above(tmp_path: Path) -> None:
    """File, environment and flags."""
    file = tmp_path / "inglenook.toml"
    file.write_text(
        "[server]\nport = 1\n[api]\nmax_tokens_limit = 5\n[[models]]\nid = 'm'\npath = 'builtin:echo'"
    )
    environ = dict.fromkeys(("LLM_INFERENCE_PORT", "LLM_MAX_TOKENS_LIMIT"), "1")
    environ |= {
        "LLM_ALLOWED_MODELS": TINY,
        "INGLENOOK_API__DEFAULT_TOP_P": "0.25",
        "LLM_DEFAULT_TOP_P": "0.5",
    }
    said = load(file, environ, {"server": {"dialect": "inference", "host": "::1"}})
    assert (said.server.port, said.server.host, said.api.max_tokens_limit) == (1, "::1", 5)
    assert said.api.default_top_p == 0.25
    assert [model.id for model in said.models] == ["m"]


def test_a_dotenv_is_read_below_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its comments taken off."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "LLM_ALLOWED_MODELS=a/b  # one\nLLM_INFERENCE_PORT=1\nexport SERVICE_NAME='it # s'\n"
    )
    said = load(None, {"LLM_INFERENCE_PORT": "2"}, {"server": {"dialect": "inference"}})
    assert (said.models[0].id, said.server.port, said.telemetry.service_name) == ("a/b", 2, "it # s")


def test_the_template_has_every_variable_at_its_default() -> None:
    """``docs/dialects/inference.env`` parses, and changes nothing."""
    text = (DOCS / "inference.env").read_text()
    template = parse(text)
    commented = parse("\n".join(line.removeprefix("# ") for line in text.splitlines() if "=" in line))
    assert set(NAMES) == set(commented) and set(template) <= set(NAMES)
    assert settings(**template) == settings(LLM_ALLOWED_MODELS="builtin:starter")


def test_the_migration_page_has_every_variable() -> None:
    """In its table."""
    page = (DOCS / "inference.md").read_text()
    assert [name for name in NAMES if f"| `{name}` |" not in page] == []
