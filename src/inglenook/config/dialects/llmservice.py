"""simple-llm-service ("LLM Service"): its variables as our settings. It reads ``.env``.

PORT, HOST                      server.port, server.host
LOG_LEVEL                       telemetry.log_level
SHUTDOWN_TIMEOUT                server.idle_shutdown_seconds
ENABLE_CACHE, CACHE_MAX_SIZE, CACHE_TTL_SECONDS         cache.enabled, cache.max_entries, cache.ttl_seconds
CACHE_PERSIST_TO_DISK, CACHE_DIR                        cache.directory
<TIER>_MODEL_PATH               a [[models]] with `tier`, if there is anything at that path
<TIER>_BACKEND                  llamacpp; mlx stops the start
<TIER>_N_CTX, _N_BATCH, _N_THREADS, _N_GPU_LAYERS, _USE_MMAP, _USE_MLOCK
                                models[].context, batch, threads, gpu_layers, mmap, mlock
<TIER>_TEMPERATURE, _TOP_P, _TOP_K, _MAX_TOKENS, _REPEAT_PENALTY       models[].defaults
<TIER>_EMBEDDING_MODE           models[].embeddings, of a model that writes text
<TIER>_EMBEDDING_DIMENSION      models[].default_dimensions

TIER is LIGHT, MEDIUM, HEAVY, EMBEDDING or RERANKER.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from inglenook.config.dialects.base import Dialect, Json, VariableError, Variables

TEXT_TIERS = ("LIGHT", "MEDIUM", "HEAVY")
TIERS = (*TEXT_TIERS, "EMBEDDING", "RERANKER")
BACKENDS = ("llamacpp", "mlx")
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "warn": "warning",
    "error": "error",
    "critical": "error",
}
_ELSEWHERE = ("builtin:", "hf:")

log = logging.getLogger("inglenook.settings")


def settings(variables: Variables) -> Json:
    """All of them. Raises ``VariableError``."""
    variables.flag("RELOAD", False)  # for those who developed it: taken, and without effect
    return {
        "server": {
            "host": variables.text("HOST", "0.0.0.0"),
            "port": variables.whole("PORT", 8000, 0, 65535),
            "port_file": ".port",
            "idle_shutdown_seconds": variables.number("SHUTDOWN_TIMEOUT", 600, least=0),
            "cors_origins": ["*"],
            "cors_credentials": True,
            "allowed_hosts": ["*"],  # called by any name, behind other servers
        },
        "models": _models(variables),
        # It knew no keys: whatever a client sends as one is good.
        "auth": {"database": "none"},
        "cache": _cache(variables),
        "telemetry": {
            "log_level": LEVELS[variables.choice("LOG_LEVEL", "info", tuple(LEVELS))],
            "log_format": "dashed",
        },
    }


DIALECT = Dialect("llmservice", settings, reads_dotenv=True)


def _cache(variables: Variables) -> Json:
    seconds = variables.number("CACHE_TTL_SECONDS", 3600)
    if seconds <= 0:
        raise VariableError("CACHE_TTL_SECONDS must be more than 0")
    directory = variables.text("CACHE_DIR", ".cache/llm_responses")
    return {
        "enabled": variables.flag("ENABLE_CACHE", True),
        "max_entries": variables.whole("CACHE_MAX_SIZE", 1000, least=1),
        "ttl_seconds": seconds,
        "directory": directory if variables.flag("CACHE_PERSIST_TO_DISK", False) else "",
        # It kept every answer, whatever the temperature, and gave it to whoever asked.
        "sampled": True,
        "shared": True,
    }


def _models(variables: Variables) -> list[Json]:
    found = [(tier, _tier(variables, tier)) for tier in TIERS]
    models = [model | {"tier": tier.lower()} for tier, model in found if model]
    taken = {tier.lower() for tier in TIERS}
    embeds = any(model["tier"] == "embedding" for model in models)
    for model in models:
        if not embeds and "embeddings" in model:
            model["embeddings"] = True  # it stands in for the tier that is not there
        # A stem that two have, or that is a tier's name, means the first of them, or the tier.
        names = {model["tier"]: None} | dict.fromkeys(_stems(model["path"]))
        model["aliases"] = [name for name in names if name == model["tier"] or name not in taken]
        taken |= {*names, model["id"]}
    return models


def _stems(path: str) -> tuple[str, ...]:
    name = path.rstrip("/").rpartition("/")[2]
    if path.startswith(_ELSEWHERE):
        name = name.rpartition(":")[2]
    return (Path(name).stem, name)


def _tier(variables: Variables, tier: str) -> Json | None:
    """Its model; ``None`` where it has none. Wrong values are told of in either case."""
    path = os.path.expanduser(variables.text(f"{tier}_MODEL_PATH"))
    backend = variables.choice(f"{tier}_BACKEND", "llamacpp", BACKENDS)
    model = _loading(variables, tier) | {"path": path, "defaults": _defaults(variables, tier)}
    embeds = variables.flag(f"{tier}_EMBEDDING_MODE", False)
    if tier in TEXT_TIERS:
        model["embeddings"] = embeds
    if not path:
        return None
    if not path.startswith(_ELSEWHERE) and not os.path.exists(path):
        log.warning(
            "%s_MODEL_PATH: there is nothing at this path, so there is no %s tier", tier, tier.lower()
        )
        return None
    if backend == "mlx" or path.lower().endswith(".mlx"):
        raise VariableError(
            f"{tier}_BACKEND: the mlx engine is a later piece of work; name a GGUF file in {tier}_MODEL_PATH "
            f"and write {tier}_BACKEND=llamacpp"
        )
    if os.path.isdir(path) and "bge-m3" in path.lower():
        model["engine"] = "bge_m3"
    return model | {"id": f"{tier.lower()}/{_stems(path)[0]}"}


def _loading(variables: Variables, tier: str) -> Json:
    return {
        # 0 leaves it to the model, at most the 8192 that were the default.
        "context": variables.whole(f"{tier}_N_CTX", 0, least=0),
        "batch": variables.whole(f"{tier}_N_BATCH", 512, least=1),
        "threads": variables.whole(f"{tier}_N_THREADS", 0, least=0),
        "gpu_layers": variables.whole(f"{tier}_N_GPU_LAYERS", -1, least=-1),
        "mmap": variables.flag(f"{tier}_USE_MMAP", True),
        "mlock": variables.flag(f"{tier}_USE_MLOCK", False),
        "default_dimensions": variables.whole(f"{tier}_EMBEDDING_DIMENSION", 0, least=0),
        # It answered one request at a time, and so had memory for one context.
        "parallel": 1,
    }


def _defaults(variables: Variables, tier: str) -> Json:
    return {
        "temperature": variables.number(f"{tier}_TEMPERATURE", 0.7, 0.0, 2.0),
        "top_p": variables.number(f"{tier}_TOP_P", 0.95, 0.0, 1.0),
        "top_k": variables.whole(f"{tier}_TOP_K", 40, least=1),
        "max_tokens": variables.whole(f"{tier}_MAX_TOKENS", 1000, least=1),
        "repeat_penalty": variables.number(f"{tier}_REPEAT_PENALTY", 1.1, least=0.0),
    }
