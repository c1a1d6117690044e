"""An upstream: any server that speaks the OpenAI API. Bytes go to it as they came."""

from __future__ import annotations

from collections.abc import Sequence

from inglenook.config.settings import EngineSettings, ModelSettings
from inglenook.engines.base import Embedder, EngineRequest, Launch, Shape
from inglenook.engines.openai_failure import plain_failure
from inglenook.errors import InglenookError
from inglenook.wire.openai import ChatRequest, CompletionRequest

UPSTREAM_SLOTS = 1 << 20
"""An upstream queues by itself; its turns only count."""


class Remote:
    """Facts about an upstream. It is never started, so the facts about starting are never asked."""

    name = "remote"
    one_choice = False

    embedder: Embedder | None = None

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
        return plain_failure(status, body)

    def start_failure(self, log: Sequence[str], exit_code: int | None) -> str:
        raise NotImplementedError("an upstream is not ours to start")
