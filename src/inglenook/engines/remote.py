"""An upstream: any server that speaks the OpenAI API. Bytes go to it as they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inglenook.config.settings import EngineSettings, ModelSettings
from inglenook.engines.base import Embedder, EngineRequest, Launch, Shape
from inglenook.engines.openai_failure import error_of, too_long
from inglenook.errors import EngineError, EngineTimeout, InglenookError, Unavailable, UpstreamRefused
from inglenook.wire.openai import ChatRequest, CompletionRequest

UPSTREAM_SLOTS = 1 << 20
"""An upstream queues by itself; its turns only count."""
LONGEST_MESSAGE = 2000
LONGEST_WORD = 100
"""Characters of an upstream's error that are passed on: of its message, and of its other fields."""


class Remote:
    """Facts about an upstream. It is never started, so the facts about starting are never asked."""

    name = "remote"
    one_choice = False

    embedder: Embedder | None = None

    def __init__(self, key: str = "") -> None:
        """``key`` is what the upstream knows us by: taken out of whatever it says of it."""
        self._key = key

    def launch(self, model: ModelSettings, path: str, socket: str, engines: EngineSettings) -> Launch:
        raise NotImplementedError("an upstream is not ours to start")

    def turns(self, model: ModelSettings) -> int:
        return UPSTREAM_SLOTS

    def warm_up(self, model: ModelSettings) -> EngineRequest:
        raise NotImplementedError("an upstream is not ours to start")

    def proves(self, status: int, body: bytes) -> bool:
        raise NotImplementedError("an upstream is not ours to start")

    def takes_tools(self, properties: bytes) -> bool:
        return True

    def chat(self, model: ModelSettings, request: ChatRequest, body: bytes) -> EngineRequest:
        return EngineRequest("/v1/chat/completions", body)

    def completion(self, model: ModelSettings, request: CompletionRequest, body: bytes) -> EngineRequest:
        return EngineRequest("/v1/completions", body)

    def completion_shape(self, request: CompletionRequest, echo: str) -> Shape:
        raise NotImplementedError("an upstream makes every choice itself")

    def detokenize(self, tokens: Sequence[int]) -> EngineRequest | None:
        return None

    def failure(self, status: int, body: bytes) -> InglenookError:
        error = error_of(body)
        if long := too_long(error):
            return long
        if 300 <= status < 400:
            return EngineError("The model's server answered with a redirect, and none is ever followed.")
        if status in (401, 402, 407):
            # About our key, which is not the client's affair; such messages like to quote it.
            return EngineError(
                "The model's server does not serve us. Whoever runs this server has to see why."
            )
        if status in (408, 504):
            return EngineTimeout("The model's server took too long to answer.")
        if 400 <= status < 500 and (status != 404 or error):
            return UpstreamRefused(status, self._passed_on(status, error))
        if status == 503:
            return Unavailable("The model's server cannot take this request now. Ask again in a few seconds.")
        return EngineError("The model's server failed to answer this request.")

    def _passed_on(self, status: int, error: Mapping[str, Any]) -> dict[str, Any]:
        """The upstream's own error object, bounded; in our words where it is none of OpenAI's."""
        kind = "rate_limit_error" if status == 429 else "invalid_request_error"
        return {
            "message": self._text(error.get("message"), LONGEST_MESSAGE)
            or "The model's server refused this request.",
            "type": self._text(error.get("type"), LONGEST_WORD) or kind,
            "param": self._text(error.get("param"), LONGEST_WORD),
            "code": self._text(error.get("code"), LONGEST_WORD),
        }

    def _text(self, said: object, most: int) -> str | None:
        if isinstance(said, int) and not isinstance(said, bool):
            said = str(said)  # OpenRouter's codes are numbers; the API's are words
        if not isinstance(said, str):
            return None
        return (said.replace(self._key, "***") if self._key else said)[:most]

    def start_failure(self, log: Sequence[str], exit_code: int | None) -> str:
        raise NotImplementedError("an upstream is not ours to start")
