"""aegis-llm-server (embeddings): its variables as our settings.

All begin with AEGIS_LLM_SERVER_, in any case. It reads no ``.env``.

SERVER__HOST, SERVER__PORT      server.host, server.port; PORT, without the prefix, stands above it
SERVICE_NAME, SERVICE_VERSION   telemetry.service_name, telemetry.service_version
EMBEDDING__ENABLED              whether there is a [[models]] at all
EMBEDDING__BACKEND              models[].engine
EMBEDDING__MODEL_NAME           models[].id, and its path: a directory, else a model at the hub
EMBEDDING__TRUST_REMOTE_CODE    models[].trust_remote_code
EMBEDDING__DIMENSION            models[].dimension, for `deterministic`
EMBEDDING__NORMALIZE            models[].normalize
EMBEDDING__MAX_BATCH_SIZE, __MAX_INPUT_CHARS, __MAX_TOTAL_CHARS, __BACKEND_TIMEOUT_SECONDS      limits.*
TELEMETRY__ENABLED, __OTLP_ENDPOINT, __OTLP_TIMEOUT_SECONDS, __METRICS_EXPORT_INTERVAL_MS, __SAMPLE_RATIO,
__OTLP_HEADERS__<NAME>          telemetry.*
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from inglenook.config.dialects.base import Dialect, Json, VariableError, Variables

PREFIX = "AEGIS_LLM_SERVER_"
ALIASES = (
    "nomic-embed-text",
    "nomic-ai/nomic-embed-text-v1.5",
    "nomic-embed-code",
    "nomic-ai/nomic-embed-code",
    "text-embedding-3-small",
)
"""Names that mean the one model there is, whatever it is."""
BACKENDS = ("deterministic", "sentence_transformers")


def settings(variables: Variables) -> Json:
    """All of them. Raises ``VariableError``."""
    given = variables.in_any_case()
    model = _model(given)
    return {
        "server": _server(given),
        "models": [model] if given.flag(f"{PREFIX}EMBEDDING__ENABLED", True) else [],
        "limits": {
            "max_batch_size": given.whole(f"{PREFIX}EMBEDDING__MAX_BATCH_SIZE", 64, 1, 2048),
            "max_input_chars": given.whole(f"{PREFIX}EMBEDDING__MAX_INPUT_CHARS", 32768, 1, 1_000_000),
            "max_total_chars": given.whole(f"{PREFIX}EMBEDDING__MAX_TOTAL_CHARS", 262144, 1, 5_000_000),
            "embedding_timeout_seconds": _seconds(given, "EMBEDDING__BACKEND_TIMEOUT_SECONDS", 30.0, 600.0),
        },
        "telemetry": _telemetry(given),
    }


DIALECT = Dialect("aegis", settings)


def _server(given: Variables) -> Json:
    port = given.whole(f"{PREFIX}SERVER__PORT", 8181, 0, 65535)
    return {
        "host": given.text(f"{PREFIX}SERVER__HOST", "0.0.0.0"),
        "port": given.whole("PORT", port, 0, 65535),
        # It answered under any name, on loopback too.
        "allowed_hosts": ["*"],
        # Room for the most that MAX_TOTAL_CHARS can be, each character as two escapes of six bytes.
        "max_body_mb": 64,
        "wait_for_preload": True,
    }


def _model(given: Variables) -> Json:
    name = given.text(f"{PREFIX}EMBEDDING__MODEL_NAME", ALIASES[1])
    backend = given.choice(f"{PREFIX}EMBEDDING__BACKEND", "deterministic", BACKENDS)
    trusted = given.flag(f"{PREFIX}EMBEDDING__TRUST_REMOTE_CODE", True)
    # Checked whichever backend there is: a wrong value stopped the old server too.
    dimension = given.whole(f"{PREFIX}EMBEDDING__DIMENSION", 768, 8, 8192)
    model: Json = {
        "id": name,
        "engine": backend,
        "tasks": ["embed"],
        "aliases": [alias for alias in ("", *ALIASES) if alias != name],
        "normalize": given.flag(f"{PREFIX}EMBEDDING__NORMALIZE", True),
        "preload": True,
    }
    if backend == "deterministic":
        return model | {"path": "builtin:deterministic", "dimension": dimension}
    here = os.path.isdir(os.path.expanduser(name))
    return model | {"path": name if here else f"hf:{name}", "trust_remote_code": trusted}


def _telemetry(given: Variables) -> Json:
    telemetry: Json = {
        "service_name": given.text(f"{PREFIX}SERVICE_NAME", "aegis-llm-server"),
        "service_version": given.text(f"{PREFIX}SERVICE_VERSION", "0.1.0"),
        "sample_ratio": given.number(f"{PREFIX}TELEMETRY__SAMPLE_RATIO", 1.0, 0.0, 1.0),
        "otlp_timeout_seconds": _seconds(given, "TELEMETRY__OTLP_TIMEOUT_SECONDS", 10.0, 120.0),
        "metrics_export_seconds": given.whole(
            f"{PREFIX}TELEMETRY__METRICS_EXPORT_INTERVAL_MS", 5000, 250, 60000
        )
        / 1000,
        "otlp_optional": True,
        "log_format": "stamped",
    }
    endpoint = given.address(f"{PREFIX}TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:4318")
    headers = _headers(given.beginning(f"{PREFIX}TELEMETRY__OTLP_HEADERS__"))
    if given.flag(f"{PREFIX}TELEMETRY__ENABLED", False):
        telemetry["otlp_endpoint"] = endpoint.removesuffix("/v1/traces").removesuffix("/v1/metrics")
        telemetry["otlp_headers"] = headers
    return telemetry


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in given.items()}


def _seconds(given: Variables, name: str, default: float, most: float) -> float:
    seconds = given.number(f"{PREFIX}{name}", default, most=most)
    if seconds <= 0:
        raise VariableError(f"{PREFIX}{name} must be more than 0")
    return seconds
