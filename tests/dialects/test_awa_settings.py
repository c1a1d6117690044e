"""AWA's variables: each does what its README says, and without the dialect none does anything."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import inglenook
from inglenook.config.dialects.awa import BINARY, GGUF
from inglenook.config.dialects.dotenv import parse
from inglenook.config.load import SettingsError, load
from inglenook.config.settings import Settings

DOCS = Path(__file__).parents[2] / "docs" / "dialects"
STARTER = Path(inglenook.__file__).parent / "models" / "starter.gguf"
NAMES = ("LLM_BIN_PATH", "LLM_GGUF_PATH", "LLM_API_KEY")
CLIENTS = ("LLM_PROVIDER", "LLM_PROVIDER_FALLBACK", "LLM_BASE_URL", "LLM_URL", "LLM_TIMEOUT_SECS")


def settings(**variables: str) -> Settings:
    return load(None, variables, {"server": {"dialect": "awa"}})


def test_defaults() -> None:
    """Nothing said, nothing there: one model, which /llm and /v1 say is not there."""
    said = settings()
    assert (said.server.host, said.server.port) == ("0.0.0.0", 8001)
    assert (said.api.llm_binary, said.api.llm_gguf) == ("", GGUF)
    (model,) = said.models
    assert (model.id, model.path, model.engine) == ("llama3-q4_K_M", GGUF, "llamacpp")
    assert (model.tasks, model.preload) == (("chat",), True)
    assert (said.auth.keys, said.auth.database) == ((), "none")
    assert (said.telemetry.log_format, said.cache.enabled) == ("text", False)
    assert (said.server.cors_origins, said.limits.requests_per_minute) == ((), 0)
    assert said.server.allowed_hosts == ("*",)


def test_a_program_that_is_named_is_meant() -> None:
    """There or not."""
    said = settings(LLM_BIN_PATH="/nowhere/main", LLM_GGUF_PATH=str(STARTER))
    assert (said.api.llm_binary, said.api.llm_gguf) == ("/nowhere/main", str(STARTER))
    assert said.models[0].preload is False


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (str(STARTER), "starter"),
        ("/nowhere/other.gguf", "other"),
        ("builtin:starter", "starter"),
        ("hf:owner/repo:file-q4.gguf", "file-q4"),
    ],
)
def test_a_model_alone_is_the_default_model(path: str, model: str) -> None:
    """``LLM_GGUF_PATH`` without a program: no program is run."""
    said = settings(LLM_GGUF_PATH=path)
    assert said.api.llm_binary == ""
    assert (said.models[0].id, said.models[0].path, said.models[0].preload) == (model, path, True)


def test_a_program_needs_a_file() -> None:
    """It cannot be given what only we know how to find."""
    with pytest.raises(SettingsError, match="LLM_GGUF_PATH must be a file"):
        settings(LLM_BIN_PATH="/bin/main", LLM_GGUF_PATH="builtin:starter")


def test_a_key_is_the_one_key(caplog: pytest.LogCaptureFixture) -> None:
    """Said loudly, but never what it is; a blank one is none."""
    with caplog.at_level(logging.WARNING):
        (key,) = settings(LLM_API_KEY=" s3cr3t ").auth.keys
    assert (key.key, key.client) == ("s3cr3t", "awa")
    assert "LLM_API_KEY is set" in caplog.text and "s3cr3t" not in caplog.text
    assert settings(LLM_API_KEY="  ").auth.keys == ()


def test_what_an_operator_says_stands_above(tmp_path: Path) -> None:
    """A file's words over the variables'."""
    file = tmp_path / "inglenook.toml"
    file.write_text('[server]\nport = 9000\n[api]\nllm_binary = "other"\nllm_parallel = 1')
    said = load(file, {"LLM_BIN_PATH": "/bin/main"}, {"server": {"dialect": "awa"}})
    assert (said.server.port, said.server.host) == (9000, "0.0.0.0")
    assert (said.api.llm_binary, said.api.llm_parallel, said.api.llm_gguf) == ("other", 1, GGUF)


def test_a_dotenv_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one that is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("LLM_BIN_PATH=/elsewhere")
    assert settings() == load(None, {}, {"server": {"dialect": "awa"}})
    named = load(None, {}, {"server": {"dialect": "awa"}}, tmp_path / ".env")
    assert named.api.llm_binary == "/elsewhere"


def test_without_the_dialect_no_variable_has_any_effect() -> None:
    """Nor have its clients' ones with it."""
    assert load(None, dict.fromkeys((*NAMES, *CLIENTS), "x"), {}) == load(None, {}, {})
    assert settings(**dict.fromkeys(CLIENTS, "x")) == settings()


def test_the_template_has_every_variable_at_its_default() -> None:
    """``docs/dialects/awa.env`` parses, and changes nothing."""
    text = (DOCS / "awa.env").read_text()
    commented = parse("\n".join(line.removeprefix("# ") for line in text.splitlines()))
    assert commented == {"LLM_BIN_PATH": BINARY, "LLM_GGUF_PATH": GGUF, "LLM_API_KEY": ""}
    assert settings(**parse(text)) == settings()


def test_the_migration_page_has_every_variable() -> None:
    """In its table."""
    page = (DOCS / "awa.md").read_text()
    assert [name for name in NAMES if f"| `{name}` |" not in page] == []
