"""The LLM Inference API (mistral.rs): its variables as our settings.

LLM_ALLOWED_MODELS              api.allowed_models, and a [[models]] with preload for each; required
LLM_INFERENCE_HOSTNAME, _PORT   server.host, server.port
CORS_ALLOWED_ORIGINS            server.cors_origins, server.cors_credentials
LLM_DEFAULT_TEMPERATURE, _TOP_P, _MAX_TOKENS, LLM_MAX_TOKENS_LIMIT, LLM_MAX_CONCURRENT_REQUESTS     api.*
LLM_MODEL_PATH                  api.model_directory; models[].path of a GGUF file in it
HF_HOME, HF_ENDPOINT            hub.home, hub.endpoint
CUDA_VISIBLE_DEVICES            models[].env
SERVICE_NAME, OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL, LOG_FORMAT, RUST_LOG      telemetry.*
SERVER_SSL_ENABLED, TLS_SERVER_CERT_PATH, TLS_SERVER_KEY_PATH       server.tls_cert, server.tls_key

A number out of its range is moved into it, as it always was there; a word in its place stops the start.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from inglenook.config.dialects.base import Dialect, Json, VariableError, Variables, is_address
from inglenook.config.model_directory import find_gguf, gguf_names

ALL = "*"
STARTER = "builtin:starter"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[^/].*)?", re.ASCII)
_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "off": "off",
}
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+|null|\*", re.IGNORECASE)


def settings(variables: Variables) -> Json:
    """All of them. Raises ``VariableError``."""
    allowed = _allowed(variables)
    return {
        "server": _server(variables),
        "models": _models(variables, allowed),
        "api": {
            "allowed_models": allowed,
            "default_temperature": min(max(variables.number("LLM_DEFAULT_TEMPERATURE", 0.7), 0.0), 2.0),
            "default_top_p": min(max(variables.number("LLM_DEFAULT_TOP_P", 0.9), 0.0), 1.0),
            "default_max_tokens": _count(variables, "LLM_DEFAULT_MAX_TOKENS", 512),
            "max_tokens_limit": _count(variables, "LLM_MAX_TOKENS_LIMIT", 4096),
            "max_concurrent_requests": _count(variables, "LLM_MAX_CONCURRENT_REQUESTS", 10),
            "model_directory": variables.text("LLM_MODEL_PATH"),
        },
        "hub": {"home": variables.text("HF_HOME"), "endpoint": variables.text("HF_ENDPOINT")},
        "telemetry": _telemetry(variables),
    }


DIALECT = Dialect("inference", settings, reads_dotenv=True)


def _count(variables: Variables, name: str, default: int) -> int:
    return max(1, variables.whole(name, default, least=0))


def _allowed(variables: Variables) -> list[str]:
    allowed = list(dict.fromkeys(variables.listed("LLM_ALLOWED_MODELS")))
    if not allowed:
        raise VariableError(
            "LLM_ALLOWED_MODELS is required: name the models, with commas between them, or write * for all"
        )
    return allowed


def _server(variables: Variables) -> Json:
    origins = [origin.rstrip("/") for origin in variables.listed("CORS_ALLOWED_ORIGINS")] or [ALL]
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise VariableError(
                f"CORS_ALLOWED_ORIGINS has {origin!r}, which is no origin; write it like https://example.com"
            )
    server: Json = {
        "host": variables.text("LLM_INFERENCE_HOSTNAME", "0.0.0.0"),
        "port": variables.whole("LLM_INFERENCE_PORT", 8091, least=0, most=65535),
        "cors_origins": origins,
        "cors_credentials": ALL in origins,
        "allowed_hosts": ["*"],  # called by any name, behind other servers
        "wait_for_preload": True,
    }
    if variables.flag("SERVER_SSL_ENABLED", False):
        server["tls_cert"] = _required_for_tls(variables, "TLS_SERVER_CERT_PATH")
        server["tls_key"] = _required_for_tls(variables, "TLS_SERVER_KEY_PATH")
    return server


def _required_for_tls(variables: Variables, name: str) -> str:
    path = variables.text(name)
    if not path:
        raise VariableError(f"{name} is required when SERVER_SSL_ENABLED=true")
    return path


# Models.


def _models(variables: Variables, allowed: list[str]) -> list[Json]:
    directory = variables.text("LLM_MODEL_PATH")
    named = [name for name in allowed if name != ALL]
    models = [_model(name, _path(name, directory), preload=True) for name in named]
    if ALL in allowed:
        # What is here already, to be loaded when somebody asks for it.
        here = {STARTER: STARTER} | {name: str(file) for name, file in gguf_names(directory).items()}
        models += [_model(name, path, preload=False) for name, path in here.items() if name not in named]
    if devices := variables.text("CUDA_VISIBLE_DEVICES"):
        for model in models:
            model["env"] = {"CUDA_VISIBLE_DEVICES": devices}
    return models


def _model(name: str, path: str, *, preload: bool) -> Json:
    return {"id": name, "path": path, "engine": "llamacpp", "tasks": ["chat"], "preload": preload}


def _path(name: str, directory: str) -> str:
    """Where the model ``name`` is: in the directory, else what the name itself says, else at the hub."""
    if file := find_gguf(directory, name):
        return str(file)
    if name.startswith(("builtin:", "hf:")):
        return name
    place = Path(os.path.expanduser(name))
    if place.is_dir():
        inside = list(gguf_names(name).values())
        return str(inside[0]) if len(inside) == 1 else name
    is_path = name.startswith((".", "/", "~")) or place.exists()
    return f"hf:{name}" if not is_path and _HUB_ID.fullmatch(name) else name


# Telemetry.


def _telemetry(variables: Variables) -> Json:
    protocol = variables.text("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").lower()
    return {
        "log_format": "pretty" if variables.text("LOG_FORMAT").lower() == "pretty" else "flat",
        "log_level": _level(variables.text("RUST_LOG")),
        "service_name": variables.text("SERVICE_NAME", "llm-inference-api"),
        "otlp_endpoint": _collector(variables),
        "otlp_protocol": "http" if protocol.startswith("http") else "grpc",
        "otlp_optional": True,
    }


def _collector(variables: Variables) -> str:
    name = "OTEL_EXPORTER_OTLP_ENDPOINT"
    endpoint = variables.text(name, "http://localhost:4317").rstrip("/").removesuffix("/v1/traces")
    if "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    if not is_address(endpoint):
        raise VariableError(f"{name} must be an address like http://localhost:4317")
    return endpoint


def _level(said: str) -> str:
    """The level of a list of directives such as ``warn,hyper=off``: that without a name, else the first.

    What is no level is passed over, as it was there.
    """
    directives = [part.strip().lower().partition("=") for part in said.split(",") if part.strip()]
    bare = [_LEVELS[name] for name, equals, _ in directives if not equals and name in _LEVELS]
    own = [_LEVELS[level] for _, equals, level in directives if equals and level in _LEVELS]
    return (bare or own or ["info"])[0]
