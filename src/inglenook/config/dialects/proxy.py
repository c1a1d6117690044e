"""The llama.cpp OpenAI-compatible proxy and its start scripts: their variables as our settings.

API_HOST, API_PORT              server.host, server.port
OPENAI_API_KEY, OPENAI_API_KEYS auth.keys
RATE_LIMIT_RPM                  limits.requests_per_minute
CORS_ALLOWED_ORIGINS            server.cors_origins, server.cors_credentials
LOG_LEVEL                       telemetry.log_level
LLAMA_CPP_BASE_URL              an upstream for every model name, while MODEL_UPSTREAMS is empty
MODEL_UPSTREAMS                 an [[upstreams]] for each name
MAX_RETRIES, RETRY_BACKOFF_S    upstreams[].retries, upstreams[].backoff_seconds
CONNECT_TIMEOUT_S, TIMEOUT_CHAT_S, _COMPLETIONS_S, _EMBEDDINGS_S, _MODELS_S     upstreams[].timeouts
MODEL_PATHS, ENABLED_MODELS     a [[models]] in the upstream's place, for each name whose file is there
LLAMA_MODEL                     one [[models]] for every name, where LLAMA_CPP_BASE_URL means its server
LLAMA_CTX, LLAMA_N_BATCH, LLAMA_THREADS, LLAMA_THREADS_BATCH, LLAMA_EMBEDDINGS  models[].context and so on
LLAMA_CPP_BIN                   models[].engine_binary, if there is such a file
LLAMA_HOST, LLAMA_PORT          only say which address is that of LLAMA_MODEL: engines need no port
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import PurePath
from typing import NamedTuple
from urllib.parse import urlsplit

from inglenook.config.dialects.base import Dialect, Json, VariableError, Variables, is_address

log = logging.getLogger("inglenook.settings")

BASE_URL = "http://127.0.0.1:8080"
MODEL = "./models/llama.gguf"
BINARY = "./llama.cpp/build/bin/llama-server"
ANY = "*"
LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "warn": "warning",
    "error": "error",
    "critical": "error",
    "fatal": "error",
}
_ELSEWHERE = ("builtin:", "hf:")
_HERE = ("127.0.0.1", "localhost", "0.0.0.0", "::1")


class _Defaults(NamedTuple):
    """What a start script took where nothing was said."""

    batch: int
    threads: int


SINGLE, MULTI = _Defaults(512, 0), _Defaults(1024, 20)


def settings(variables: Variables) -> Json:
    """All of them. Raises ``VariableError``."""
    models, upstreams = _models_and_upstreams(variables)
    return {
        "server": _server(variables),
        "models": models,
        "upstreams": upstreams,
        "auth": {"database": "none", "keys": _keys(variables)},
        "limits": {"requests_per_minute": max(1, variables.whole("RATE_LIMIT_RPM", 120))},
        "telemetry": {
            "log_level": LEVELS[variables.choice("LOG_LEVEL", "info", tuple(LEVELS))],
            "log_format": "json",
        },
    }


DIALECT = Dialect("proxy", settings, reads_dotenv=True)


def _server(variables: Variables) -> Json:
    origins = [origin.rstrip("/") for origin in variables.listed("CORS_ALLOWED_ORIGINS")]
    for origin in origins:
        if origin != ANY and not (urlsplit(origin).scheme and urlsplit(origin).netloc):
            raise VariableError(
                f"CORS_ALLOWED_ORIGINS has {origin!r}, which is no origin; write it like https://example.com"
            )
    return {
        "host": variables.text("API_HOST", "127.0.0.1"),
        "port": variables.whole("API_PORT", 8000, 0, 65535),
        "cors_origins": origins,
        "cors_credentials": ANY in origins,
        # It stood behind other proxies under any name, and bounded no body.
        "allowed_hosts": [ANY],
        "max_body_mb": 64,
    }


# Keys.


def _keys(variables: Variables) -> list[Json]:
    clients: dict[str, str] = {}
    for item in variables.listed("OPENAI_API_KEYS"):
        key, _, client = (part.strip() for part in item.partition(":"))
        if key:
            clients[key] = client or client_id(_checked(key, "OPENAI_API_KEYS"))
    if alone := variables.text("OPENAI_API_KEY"):
        clients.setdefault(alone, client_id(_checked(alone, "OPENAI_API_KEY")))
    for key in clients:
        _checked(key, "OPENAI_API_KEYS")
    if clients:
        given = " and ".join(name for name in ("OPENAI_API_KEY", "OPENAI_API_KEYS") if variables.text(name))
        log.warning("every inference route needs a key of %s, as `Authorization: Bearer KEY`", given)
    return [{"key": key, "client": client} for key, client in clients.items()]


def client_id(key: str) -> str:
    """The name of a key's client, where nobody gave it one."""
    return f"client-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _checked(key: str, name: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise VariableError(f"{name} must have printable ASCII characters without spaces")
    if key.startswith(("env:", "file:")):
        raise VariableError(f"{name} must be a key itself; in a settings file auth.keys may name a place")
    return key


# Where requests go.


def _models_and_upstreams(variables: Variables) -> tuple[list[Json], list[Json]]:
    mapped, paths = _map(variables, "MODEL_UPSTREAMS"), _map(variables, "MODEL_PATHS")
    enabled = variables.listed("ENABLED_MODELS") or tuple(paths)
    urls = {name: _address("MODEL_UPSTREAMS", url) for name, url in mapped.items()}
    ours = {
        name: path
        for name, path in paths.items()
        if name in enabled and (name not in urls or (_is_here(path) and _is_plain(urls[name])))
    }
    for name in enabled:
        if name not in paths:
            log.warning("ENABLED_MODELS: %s has no path in MODEL_PATHS, so no engine is started for it", name)
        elif name in urls and not _is_here(paths[name]):
            log.warning(
                "MODEL_PATHS: there is no file for %s, so its address in MODEL_UPSTREAMS is asked", name
            )
    shared = _shared(variables)
    models = _models(variables, ours)
    upstreams = [_upstream(name, url, [name], shared) for name, url in urls.items() if name not in ours]
    if not urls:
        base = _address("LLAMA_CPP_BASE_URL", variables.text("LLAMA_CPP_BASE_URL", BASE_URL))
        alone = None if ours else _alone(variables, base)
        if alone:
            models.append(alone)
        elif not ours or variables.text("LLAMA_CPP_BASE_URL"):
            upstreams.append(_upstream("llama.cpp", base, [ANY], shared))
    return models, upstreams


def _map(variables: Variables, name: str) -> dict[str, str]:
    """``a=x,b=y``; what is no such pair is passed over, as it always was."""
    pairs = (item.partition("=") for item in variables.listed(name))
    return {left.strip(): right.strip() for left, _, right in pairs if left.strip() and right.strip()}


def _address(name: str, url: str) -> str:
    if not is_address(url):
        raise VariableError(f"{name} must have addresses like http://127.0.0.1:8081")
    return url.rstrip("/")


def _is_plain(url: str) -> bool:
    """Without a path: the start script took no other, so such an upstream is somebody else's."""
    return urlsplit(url).path == ""


def _is_here(path: str) -> bool:
    return path.startswith(_ELSEWHERE) or os.path.isfile(os.path.expanduser(path))


def _shared(variables: Variables) -> Json:
    return {
        "retries": variables.whole("MAX_RETRIES", 2, 0, 10),
        "backoff_seconds": variables.number("RETRY_BACKOFF_S", 0.35, least=0),
        "timeouts": {
            "connect": _seconds(variables, "CONNECT_TIMEOUT_S", 5),
            "chat": _seconds(variables, "TIMEOUT_CHAT_S", 120),
            "completions": _seconds(variables, "TIMEOUT_COMPLETIONS_S", 120),
            "embeddings": _seconds(variables, "TIMEOUT_EMBEDDINGS_S", 60),
            "models": _seconds(variables, "TIMEOUT_MODELS_S", 10),
        },
        # Every request was tried, however many had failed before.
        "breaker_failures": 0,
    }


def _seconds(variables: Variables, name: str, default: float) -> float:
    seconds = variables.number(name, default)
    if seconds <= 0:
        raise VariableError(f"{name} must be more than 0")
    return seconds


def _upstream(name: str, url: str, models: list[str], shared: Json) -> Json:
    return {"name": name, "url": url, "models": models, **shared}


# Engines of our own, where scripts started them.


def _models(variables: Variables, paths: dict[str, str]) -> list[Json]:
    engine = _engine(variables, MULTI)
    return [{"id": name, "path": path, **engine} for name, path in paths.items()]


def _alone(variables: Variables, base: str) -> Json | None:
    """The model of the script for one server; ``None`` where requests go elsewhere, or there is no file."""
    host = variables.text("LLAMA_HOST", "127.0.0.1")
    port = variables.whole("LLAMA_PORT", 8080, 1, 65535)
    engine = _engine(variables, SINGLE)
    path = variables.text("LLAMA_MODEL", MODEL)
    at = urlsplit(base)
    means_ours = (at.port or 80) == port and at.path == "" and at.hostname in (host, *_HERE)
    if variables.text("LLAMA_CPP_BASE_URL") and not means_ours:
        return None
    if not _is_here(path):
        return None
    name = PurePath(path.rpartition(":")[2] if path.startswith(_ELSEWHERE) else path).name
    return {"id": name.removesuffix(".gguf"), "path": path, "aliases": [ANY], **engine}


def _engine(variables: Variables, default: _Defaults) -> Json:
    # Threads of which most wait for a core cost more than they do; who writes a number gets it.
    threads = variables.whole("LLAMA_THREADS", min(default.threads, _cores()), least=0)
    for_batches = variables.whole("LLAMA_THREADS_BATCH", min(default.threads, _cores()), least=0)
    binary = os.path.expanduser(variables.text("LLAMA_CPP_BIN", BINARY))
    return {
        "engine": "llamacpp",
        "context": variables.whole("LLAMA_CTX", 4096, least=0),
        "batch": variables.whole("LLAMA_N_BATCH", default.batch, least=1),
        "threads": threads,
        "args": ["--threads-batch", str(for_batches)] if for_batches else [],
        "embeddings": variables.text("LLAMA_EMBEDDINGS", "1") == "1",
        "engine_binary": os.path.abspath(binary) if os.path.isfile(binary) else "",
        # Memory for one context, as it was.
        "parallel": 1,
        "preload": True,
    }


def _cores() -> int:
    return os.cpu_count() or 1
