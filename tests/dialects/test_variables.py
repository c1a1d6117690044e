"""The variables of all five systems together: without a dialect none of them has any effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from inglenook.config.dialects.dotenv import parse
from inglenook.config.dialects.table import DIALECTS
from inglenook.config.load import load
from tests.parts.dialect import start_dialect

DOCS = Path(__file__).parents[2] / "docs" / "dialects"
FURTHER = (
    *(
        "AEGIS_LLM_SERVER_TELEMETRY__OTLP_HEADERS__AUTHORIZATION",
        "SERVER_SSL_CERT_PATH",
        "SERVER_SSL_KEY_PATH",
    ),
    *(
        "LLM_PROVIDER",
        "LLM_PROVIDER_FALLBACK",
        "LLM_BASE_URL",
        "LLM_URL",
        "LLM_REMOTE_URL",
        "LLM_TIMEOUT_SECS",
    ),
    *("OPENAI_MODEL", "OPENAI_ENDPOINT", "OPENAI_CHAT_MODEL", "HUGGING_FACE_TOKEN", "INFERENCE_BACKEND"),
)
"""What their documents name beside what their servers read: headers' names, other files', their clients'."""
TELLING = {
    "PORT": "1",
    "API_PORT": "1",
    "HOST": "0.0.0.0",
    "LLM_INFERENCE_PORT": "1",
    "AEGIS_LLM_SERVER_SERVER__PORT": "1",
    "OPENAI_API_KEY": "k",
    "OPENAI_API_KEYS": "a:b",
    "LLM_API_KEY": "k",
    "RATE_LIMIT_RPM": "1",
    "CORS_ALLOWED_ORIGINS": "*",
    "ENABLE_CACHE": "true",
    "SHUTDOWN_TIMEOUT": "1",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "debug",
    "SERVER_SSL_ENABLED": "true",
    "MODEL_UPSTREAMS": "up=http://127.0.0.1:9",
    "LLM_ALLOWED_MODELS": "team/one",
    "LIGHT_MODEL_PATH": "builtin:starter",
    "LLM_GGUF_PATH": "builtin:starter",
    "LLM_MAX_CONCURRENT_REQUESTS": "1",
    "AEGIS_LLM_SERVER_EMBEDDING__MAX_BATCH_SIZE": "1",
}
"""Values of which a server would show that it had read them."""


def variables() -> list[str]:
    """Every one that the templates have, which the tests beside this one hold to be all; and the others."""
    lines = "\n".join((DOCS / f"{dialect.name}.env").read_text() for dialect in DIALECTS).splitlines()
    return [*parse("\n".join(line.removeprefix("# ") for line in lines)), *FURTHER]


@pytest.mark.parametrize("value", ["x", "7", "true", "http://127.0.0.1:9", "a=builtin:starter"])
def test_without_a_dialect_no_variable_is_a_setting(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the environment, in a `.env` and in a file of variables."""
    monkeypatch.chdir(tmp_path)
    given = dict.fromkeys(variables(), value)
    file = tmp_path / ".env"
    file.write_text("\n".join(f"{name}={text}" for name, text in given.items()))
    assert len(DIALECTS) == 5 and len(given) > 150 and given.keys() > TELLING.keys()
    assert load(None, given, {}) == load(None, {}, {}) == load(None, {}, {}, file)


@pytest.mark.parametrize("dialect", [dialect.name for dialect in DIALECTS])
def test_a_dialect_answers_to_any_host(dialect: str) -> None:
    """These systems stood behind others that passed on the name they were called by."""
    required = {"LLM_ALLOWED_MODELS": "a"}
    assert "*" in load(None, required, {"server": {"dialect": dialect}}).server.allowed_hosts


def test_a_server_without_a_dialect_shows_nothing_of_them(tmp_path: Path) -> None:
    """It is the plain one: open, unlimited, without a cache, on the port and with the models of its own."""
    (tmp_path / ".env").write_text("\n".join(f"{name}={value}" for name, value in TELLING.items()))
    server = start_dialect("", tmp_path, dict.fromkeys(variables(), "x") | TELLING, "--port", "0")
    try:
        assert server.url.startswith("http://127.0.0.1:") and server.port != 1
        assert sorted(server.get("/health").json["models"]) == ["starter", "starter-embed"]
        ask = ("POST", "/v1/embeddings", {"model": "starter-embed", "input": ["a", "b"]})
        for _ in range(2):
            answer = server.ask(*ask)
            assert answer.status == 200
            named = [name for name in answer.headers if name.startswith(("x-ratelimit", "x-inglenook"))]
            assert named == []
        assert server.ask(*ask, {"origin": "http://page.example"}).status == 403  # as for every page
        assert server.get("/nothing").error["code"] == "not_found"
        assert not (tmp_path / ".port").exists() and '{"' not in server.log
    finally:
        server.end()
