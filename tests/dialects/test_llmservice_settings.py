"""simple-llm-service's variables: each does what its documentation says, and a wrong one stops the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inglenook.config.dialects.dotenv import parse
from inglenook.config.dialects.llmservice import TIERS
from inglenook.config.load import SettingsError, load
from inglenook.config.settings import ModelSettings, Settings

DOCS = Path(__file__).parents[2] / "docs" / "dialects"
OF_A_TIER = (
    *("MODEL_PATH", "BACKEND", "N_CTX", "N_BATCH", "N_THREADS", "N_GPU_LAYERS", "TEMPERATURE", "TOP_P"),
    *("TOP_K", "MAX_TOKENS", "REPEAT_PENALTY", "USE_MMAP", "USE_MLOCK", "EMBEDDING_MODE"),
    "EMBEDDING_DIMENSION",
)
NAMES = (
    *("PORT", "HOST", "LOG_LEVEL", "SHUTDOWN_TIMEOUT", "RELOAD"),
    *("ENABLE_CACHE", "CACHE_MAX_SIZE", "CACHE_TTL_SECONDS", "CACHE_PERSIST_TO_DISK", "CACHE_DIR"),
    *(f"{tier}_{name}" for tier in TIERS for name in OF_A_TIER),
)
STARTER = "builtin:starter"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(**variables: str) -> Settings:
    return load(None, variables, {"server": {"dialect": "llmservice"}})


def light(**variables: str) -> ModelSettings:
    given = {f"LIGHT_{name}": value for name, value in variables.items()}
    (model,) = settings(**{"LIGHT_MODEL_PATH": STARTER, **given}).models
    return model


def value(found: Any, path: str) -> Any:
    for name in path.split("."):
        found = getattr(found, name)
    return found


def test_defaults() -> None:
    """All of them, where nothing is said."""
    said = settings()
    server = said.server
    assert (server.host, server.port, server.port_file) == ("0.0.0.0", 8000, ".port")
    assert (server.idle_shutdown_seconds, server.cors_origins) == (600, ("*",))
    assert server.cors_credentials
    cache = said.cache
    assert (cache.enabled, cache.max_entries, cache.ttl_seconds, cache.directory) == (True, 1000, 3600, "")
    assert cache.sampled and cache.shared
    assert (said.telemetry.log_level, said.telemetry.log_format) == ("info", "dashed")
    assert (said.models, said.auth.keys, said.auth.database) == ((), (), "none")


def test_defaults_of_a_tier() -> None:
    """What a model has about which only its path is said."""
    model = light()
    assert (model.id, model.tier, model.path) == ("light/starter", "light", STARTER)
    assert (model.context, model.batch, model.threads, model.gpu_layers) == (0, 512, 0, -1)
    assert (model.mmap, model.mlock, model.default_dimensions) == (True, False, 0)
    given = model.defaults
    assert (given.temperature, given.top_p, given.top_k) == (0.7, 0.95, 40)
    assert (given.max_tokens, given.repeat_penalty) == (1000, 1.1)


@pytest.mark.parametrize(
    ("name", "given", "path", "expected"),
    [
        ("PORT", "8080", "server.port", 8080),
        ("HOST", "127.0.0.1", "server.host", "127.0.0.1"),
        ("LOG_LEVEL", "DEBUG", "telemetry.log_level", "debug"),
        ("LOG_LEVEL", "warning", "telemetry.log_level", "warning"),
        ("LOG_LEVEL", "CRITICAL", "telemetry.log_level", "error"),
        ("SHUTDOWN_TIMEOUT", "30", "server.idle_shutdown_seconds", 30),
        ("SHUTDOWN_TIMEOUT", "0", "server.idle_shutdown_seconds", 0),
        ("RELOAD", "true", "server.port", 8000),
        ("ENABLE_CACHE", "false", "cache.enabled", False),
        ("CACHE_MAX_SIZE", "7", "cache.max_entries", 7),
        ("CACHE_TTL_SECONDS", "60", "cache.ttl_seconds", 60),
        ("CACHE_PERSIST_TO_DISK", "true", "cache.directory", ".cache/llm_responses"),
        ("CACHE_DIR", "elsewhere", "cache.directory", ""),
    ],
)
def test_a_variable_of_the_server(name: str, given: str, path: str, expected: object) -> None:
    """Each variable reaches its setting."""
    assert value(settings(**{name: given}), path) == expected


@pytest.mark.parametrize(
    ("name", "given", "path", "expected"),
    [
        ("BACKEND", "llamacpp", "path", STARTER),
        ("N_CTX", "4096", "context", 4096),
        ("N_BATCH", "256", "batch", 256),
        ("N_THREADS", "3", "threads", 3),
        ("N_GPU_LAYERS", "0", "gpu_layers", 0),
        ("TEMPERATURE", "0.1", "defaults.temperature", 0.1),
        ("TOP_P", "0.5", "defaults.top_p", 0.5),
        ("TOP_K", "5", "defaults.top_k", 5),
        ("MAX_TOKENS", "9", "defaults.max_tokens", 9),
        ("REPEAT_PENALTY", "1.0", "defaults.repeat_penalty", 1.0),
        ("USE_MMAP", "false", "mmap", False),
        ("USE_MLOCK", "true", "mlock", True),
        ("EMBEDDING_DIMENSION", "256", "default_dimensions", 256),
    ],
)
def test_a_variable_of_a_tier(name: str, given: str, path: str, expected: object) -> None:
    """The same for those that every tier has."""
    assert value(light(**{name: given}), path) == expected


def test_text_models_that_embed() -> None:
    """Those that are told to, and all where there is no tier for embeddings."""
    of_two = {"LIGHT_MODEL_PATH": STARTER, "MEDIUM_MODEL_PATH": STARTER, "MEDIUM_EMBEDDING_MODE": "true"}
    light, medium = settings(**of_two).models
    assert (light.embeddings, medium.embeddings) == (True, True)
    found = settings(**of_two, EMBEDDING_MODEL_PATH="builtin:starter-embed", EMBEDDING_EMBEDDING_MODE="true")
    assert [model.embeddings for model in found.models] == [False, True, False]


def test_where_the_cache_is_kept() -> None:
    """The directory counts once the cache is to be kept at all."""
    kept = settings(CACHE_PERSIST_TO_DISK="true", CACHE_DIR="/tmp/answers")
    assert kept.cache.directory == "/tmp/answers"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("PORT", wrong) for wrong in ("http", "70000", "-1")),
        ("SHUTDOWN_TIMEOUT", "soon"),
        ("SHUTDOWN_TIMEOUT", "-1"),
        ("LOG_LEVEL", "loud"),
        ("RELOAD", "perhaps"),
        ("ENABLE_CACHE", "perhaps"),
        ("CACHE_MAX_SIZE", "0"),
        ("CACHE_TTL_SECONDS", "0"),
        ("CACHE_PERSIST_TO_DISK", "2"),
        *((f"{tier}_{name}", "x") for tier in TIERS for name in OF_A_TIER if name != "MODEL_PATH"),
        ("LIGHT_TEMPERATURE", "2.1"),
        ("LIGHT_TOP_P", "1.1"),
        ("LIGHT_TOP_K", "0"),
        ("LIGHT_MAX_TOKENS", "0"),
        ("LIGHT_REPEAT_PENALTY", "-1"),
        ("LIGHT_N_CTX", "-1"),
        ("LIGHT_N_BATCH", "0"),
        ("LIGHT_N_GPU_LAYERS", "-2"),
    ],
)
def test_a_wrong_value_is_named(name: str, wrong: str) -> None:
    """Of a tier without a model too."""
    with pytest.raises(SettingsError, match=f"^{name} must be "):
        settings(**{name: wrong})


@pytest.mark.parametrize("said", [{"BACKEND": "mlx"}, {"MODEL_PATH": "qwen.mlx"}])
def test_mlx_is_a_later_piece_of_work(said: dict[str, str]) -> None:
    """By its name or by the path's; for a tier that is there."""
    Path("qwen.mlx").mkdir()
    with pytest.raises(SettingsError, match="LIGHT_BACKEND: the mlx engine is a later piece of work; name a"):
        light(**said)
    assert settings(LIGHT_BACKEND="mlx").models == ()


def test_a_tier_is_there_when_its_file_is(caplog: pytest.LogCaptureFixture) -> None:
    """In the order of the tiers; one whose path leads nowhere is told of."""
    Path("qwen-0.5b.gguf").touch()
    Path("bge-m3").mkdir()
    found = settings(
        EMBEDDING_MODEL_PATH="bge-m3", LIGHT_MODEL_PATH="qwen-0.5b.gguf", HEAVY_MODEL_PATH="nowhere.gguf"
    )
    assert [(model.id, model.tier) for model in found.models] == [
        ("light/qwen-0.5b", "light"),
        ("embedding/bge-m3", "embedding"),
    ]
    assert [model.engine for model in found.models] == ["llamacpp", "bge_m3"]
    assert "HEAVY_MODEL_PATH: there is nothing at this path" in caplog.text


def test_names_of_a_tiers_model() -> None:
    """Tier, stem and file; what two could be called is the first one's, a tier's name always the tier's."""
    for name in ("one.gguf", "heavy.gguf"):
        Path(name).touch()
    found = settings(
        LIGHT_MODEL_PATH="one.gguf", MEDIUM_MODEL_PATH="one.gguf", RERANKER_MODEL_PATH="heavy.gguf"
    )
    assert [model.aliases for model in found.models] == [
        ("light", "one", "one.gguf"),
        ("medium",),
        ("reranker", "heavy.gguf"),
    ]


def test_a_dotenv_with_comments(tmp_path: Path) -> None:
    """The block of the documentation as it stands there; the environment is above it."""
    (tmp_path / ".env").write_text(
        "PORT=8001                    # API port\n"
        "HOST=127.0.0.1                # Host address\n"
        "LOG_LEVEL=ERROR              # Logging level\n"
        "SHUTDOWN_TIMEOUT=60        # Auto-shutdown after inactivity (seconds)\n"
        "CACHE_PERSIST_TO_DISK=false # Persist cache to disk\n"
        "LIGHT_N_GPU_LAYERS=-1                # GPU layers (-1 for all)\n"
    )
    found = settings(HOST="::1")
    assert (found.server.port, found.server.host) == (8001, "::1")
    assert (found.telemetry.log_level, found.server.idle_shutdown_seconds) == ("error", 60)


def test_settings_stand_above_variables(tmp_path: Path) -> None:
    """A file of settings, and flags above it."""
    file = tmp_path / "more.toml"
    file.write_text("[server]\nport = 1\nidle_shutdown_seconds = 5\n[cache]\nttl_seconds = 9\n")
    flags = {"server": {"dialect": "llmservice", "port": 2}}
    found = load(file, {"PORT": "3", "CACHE_MAX_SIZE": "4"}, flags)
    assert (found.server.port, found.server.idle_shutdown_seconds) == (2, 5)
    assert (found.cache.ttl_seconds, found.cache.max_entries) == (9, 4)


def test_without_the_dialect_no_variable_counts(tmp_path: Path) -> None:
    """Neither the environment's nor a ``.env`` file's."""
    (tmp_path / ".env").write_text("PORT=1\n")
    assert load(None, dict.fromkeys(NAMES, "7"), {}) == load(None, {}, {})


def test_the_template_has_every_variable() -> None:
    """And nothing but their defaults."""
    text = (DOCS / "llmservice.env").read_text()
    said = parse("\n".join(line.removeprefix("# ") if "=" in line else "" for line in text.splitlines()))
    assert set(said) == set(NAMES)
    assert settings(**{name: value for name, value in said.items() if not name.endswith("_MODEL_PATH")}) == (
        settings()
    )
    page = (DOCS / "llmservice.md").read_text()
    assert [name for name in (*NAMES[:10], *OF_A_TIER) if name not in page] == []
