"""Who may answer ``generate()``: from the environment of this moment to a request, and from an answer to its
text. Contract: the AWA helper that this takes the place of (its variables, bodies and order).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from inglenook.client.exchange import Answered, Asked, bearer
from inglenook.client.failure import CallFailed, shown

LAN, OPENAI, LOCAL, STUB = PROVIDERS = ("lan", "openai", "local", "stub")
NO_FALLBACK = "none"
STUB_CHARS = 64
TIMEOUT_SECONDS = 60.0
OPENAI_FAILED = "openai provider call failed"

Environ = Mapping[str, str]


@dataclass(frozen=True)
class Wish:
    """What ``generate()`` was called with."""

    prompt: str
    temperature: float
    max_tokens: int


def chosen(provider: str | None, environ: Environ) -> str:
    """The name that was asked for, which may be unknown; ``lan`` when there is none."""
    return _name(provider or environ.get("LLM_PROVIDER", "")) or LAN


def order(name: str, environ: Environ) -> list[str]:
    """Who is asked, one after the other: ``name``, or ``lan`` in the place of one that we do not know, then
    ``LLM_PROVIDER_FALLBACK``, which may name several, with commas between.
    """
    said = [_name(part) for part in environ.get("LLM_PROVIDER_FALLBACK", "").split(",")]
    fallbacks = [part for part in said if part in PROVIDERS]
    if not fallbacks and NO_FALLBACK not in said:
        fallbacks = [STUB]
    return list(dict.fromkeys([name if name in PROVIDERS else LAN, *fallbacks]))


def timeout_seconds(given: float | None, environ: Environ) -> float:
    """How long one provider may take. What is no time in the environment counts as not said.

    Raises ``ValueError`` for a ``given`` one that is none.
    """
    if given is not None:
        if not _is_time(given):
            raise ValueError("timeout must be a number of seconds above 0")
        return given
    try:
        said = float(environ.get("LLM_TIMEOUT_SECS", ""))
    except ValueError:
        return TIMEOUT_SECONDS
    return said if _is_time(said) else TIMEOUT_SECONDS


def stub(wish: Wish) -> str:
    """The answer of nobody: it says so, and is never an error."""
    return f"[stub] {wish.prompt[:STUB_CHARS]}"


def request(provider: str, wish: Wish, environ: Environ) -> Asked:
    """What ``lan``, ``openai`` or ``local`` is asked. Raises ``CallFailed`` when it cannot be."""
    if provider == LOCAL:
        url = environ.get("LLM_REMOTE_URL") or environ.get("LLM_URL") or "http://llm:8000/llm"
        said = {"prompt": wish.prompt, "temperature": wish.temperature, "max_tokens": wish.max_tokens}
        return Asked(url, msgspec.json.encode(said))
    body: dict[str, Any] = {
        "model": environ.get("OPENAI_MODEL") or "gpt-4o-mini",
        "messages": [{"role": "user", "content": wish.prompt}],
        "max_tokens": wish.max_tokens,
    }
    if provider == LAN:
        # Its server has always chosen the temperature itself.
        base = _base(environ.get("LLM_BASE_URL") or "http://localhost:8000")
        url = environ.get("LLM_REMOTE_URL") or f"{base}/v1/chat/completions"
        return Asked(url, msgspec.json.encode(body), bearer(environ.get("LLM_API_KEY", "").strip()))
    # A process that is a server too has its own key in OPENAI_API_KEY, and this one for OpenAI.
    key = (environ.get("OPENAI_UPSTREAM_API_KEY") or environ.get("OPENAI_API_KEY", "")).strip()
    if not key:
        raise CallFailed("OPENAI_API_KEY is not set", code="missing_key")
    base = _base(environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1")
    body["temperature"] = wish.temperature
    return Asked(f"{base}/v1/chat/completions", msgspec.json.encode(body), bearer(key))


def text(provider: str, answered: Answered) -> str:
    """The generated text, without the space around it. Raises ``CallFailed``."""
    if provider == LOCAL:
        is_json = "json" in answered.headers.get("content-type", "").lower()
        said = _json(answered.body) if is_json else None
        found = _first_text(said, "completion", "text", "content")
    else:
        said = _json(answered.body)
        found = _content(said)
        if found is None and provider == OPENAI:
            raise CallFailed(f"{shown(answered.url)} answered without a text", code="invalid_answer")
        if found is None:
            found = _first_text(said, "text", "content")
    if found is None:
        found = answered.body.decode(errors="replace")
    return found.strip()


def failed(provider: str, problem: CallFailed) -> CallFailed:
    """The failure as the caller gets it: those of ``openai`` have one sentence, with the cause behind it."""
    if provider != OPENAI:
        return problem
    told = CallFailed(
        OPENAI_FAILED,
        status=problem.status,
        code=problem.code,
        param=problem.param,
        retry_after=problem.retry_after,
    )
    told.request_id = problem.request_id
    told.__cause__ = problem
    return told


def _name(text: str) -> str:
    return text.strip().lower()


def _is_time(seconds: float) -> bool:
    return seconds > 0 and math.isfinite(seconds)


def _base(url: str) -> str:
    return url.strip().rstrip("/").removesuffix("/v1")


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _content(said: Any) -> str | None:
    try:
        content = said["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        return None
    return content if isinstance(content, str) else None


def _first_text(said: Any, *names: str) -> str | None:
    if not isinstance(said, dict):
        return None
    return next((said[name] for name in names if isinstance(said.get(name), str)), None)
