"""AWA's LLM microservice: its variables as our settings. It reads no ``.env``.

LLM_GGUF_PATH       api.llm_gguf, and the one [[models]], which answers on /v1 to any name
LLM_BIN_PATH        api.llm_binary: a llama.cpp program, run once for each request to /llm
LLM_API_KEY         auth.keys

Without a program the model of /v1 answers /llm too. LLM_PROVIDER, LLM_BASE_URL,
LLM_TIMEOUT_SECS and LLM_PROVIDER_FALLBACK are its clients': ``inglenook.client.generate`` reads them.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import PurePath

from inglenook.config.dialects.base import Dialect, Json, VariableError, Variables

BINARY = "/llama/main"
GGUF = "/models/llama3-q4_K_M.gguf"
_ELSEWHERE = ("builtin:", "hf:")

log = logging.getLogger("inglenook.settings")


def settings(variables: Variables) -> Json:
    """All of them. Raises ``VariableError``."""
    gguf = os.path.expanduser(variables.text("LLM_GGUF_PATH", GGUF))
    binary = _binary(variables, gguf)
    return {
        # It answered under any name, on loopback too.
        "server": {"host": "0.0.0.0", "port": 8001, "allowed_hosts": ["*"]},
        "models": [_model(gguf, preload=not binary)],
        "api": {"llm_binary": binary, "llm_gguf": gguf},
        "auth": _auth(variables),
        "telemetry": {"log_format": "text"},
    }


DIALECT = Dialect("awa", settings)


def _binary(variables: Variables, gguf: str) -> str:
    """The program for /llm: that which was named, there or not, else the container image's where it is.

    Empty: the default model answers.
    """
    named = os.path.expanduser(variables.text("LLM_BIN_PATH"))
    if gguf.startswith(_ELSEWHERE):
        if named:
            raise VariableError("LLM_GGUF_PATH must be a file for the program of LLM_BIN_PATH")
        return ""
    return named or (BINARY if shutil.which(BINARY) else "")


def _model(gguf: str, *, preload: bool) -> Json:
    name = gguf.rpartition(":")[2] if gguf.startswith(_ELSEWHERE) else gguf
    if not gguf.startswith(_ELSEWHERE) and not os.path.isfile(gguf):
        log.warning("LLM_GGUF_PATH: there is no file at this path, so its model cannot be loaded")
    return {
        "id": PurePath(name).name.removesuffix(".gguf") or "default",
        "path": gguf,
        "engine": "llamacpp",
        "tasks": ["chat"],
        "preload": preload,
    }


def _auth(variables: Variables) -> Json:
    key = variables.text("LLM_API_KEY")
    if not key:
        return {"database": "none"}
    log.warning("LLM_API_KEY is set: every inference route needs it, as `Authorization: Bearer KEY`")
    return {"database": "none", "keys": [{"key": key, "client": "awa"}]}
