"""llama.cpp: the built-in engine, or a `llama-server` program in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inglenook.config.settings import EngineSettings, ModelSettings
from inglenook.engines import llamacpp_failures, llamacpp_launch
from inglenook.engines.base import Embedder, EngineRequest, Launch, Shape
from inglenook.engines.llamacpp_requests import FillIn, chat_body, completion_body
from inglenook.engines.llamacpp_shapes import CompletionShape, read_properties
from inglenook.engines.llamacpp_vectors import LlamaCppVectors
from inglenook.errors import InglenookError
from inglenook.wire.openai import ChatRequest, CompletionRequest, read_tail


def _fills_in_nothing(model: ModelSettings) -> FillIn | None:
    return None


def _unknown(model: ModelSettings) -> str:
    return ""


@dataclass(frozen=True)
class LlamaCpp:
    """Facts about llama.cpp's server. The two programs take the same arguments and requests."""

    python: str
    """The interpreter that runs our own workers."""
    fill_in: Callable[[ModelSettings], FillIn | None] = _fills_in_nothing
    """The fill-in tokens of a model, as the header of its file has them; asked for requests with a suffix."""
    architecture: Callable[[ModelSettings], str] = _unknown
    """The architecture of a model, as the header of its file has it; asked for rerankers."""
    name: str = "llamacpp"
    one_choice: bool = True

    def launch(self, model: ModelSettings, path: str, socket: str, engines: EngineSettings) -> Launch:
        """``model.context`` has been worked out by the caller; 0 counts as 8192."""
        return llamacpp_launch.plan(model, path, socket, engines, self.python)

    @property
    def embedder(self) -> Embedder | None:
        return LlamaCppVectors(self.architecture)

    def turns(self, model: ModelSettings) -> int:
        return model.parallel

    def warm_up(self, model: ModelSettings) -> EngineRequest:
        if "embed" in model.tasks and "chat" not in model.tasks:
            return EngineRequest("/v1/embeddings", b'{"input":"a"}')
        if "rerank" in model.tasks:
            return EngineRequest("/v1/rerank", b'{"query":"a","documents":["a"]}')
        return EngineRequest("/completion", b'{"prompt":"a","n_predict":1,"cache_prompt":false}')

    def proves(self, status: int, body: bytes) -> bool:
        tail = read_tail(body)
        return status == 200 and tail is not None and tail.error is None

    def takes_tools(self, properties: bytes) -> bool:
        said = read_properties(properties)
        return said is None or said.takes_tools

    def chat(self, model: ModelSettings, request: ChatRequest, body: bytes) -> EngineRequest:
        wanted = chat_body(model, request, body)
        return EngineRequest("/v1/chat/completions", wanted, tools=bool(request.tools))

    def completion(self, model: ModelSettings, request: CompletionRequest, body: bytes) -> EngineRequest:
        fill_in = self.fill_in(model) if request.suffix else None
        return EngineRequest("/v1/completions", completion_body(model, request, body, fill_in))

    def completion_shape(self, request: CompletionRequest, echo: str) -> Shape:
        return CompletionShape(logprobs=request.logprobs, echo=echo).rewrite

    def detokenize(self, tokens: Sequence[int]) -> EngineRequest | None:
        body = '{"tokens":[' + ",".join(map(str, tokens)) + "]}"
        return EngineRequest("/detokenize", body.encode())

    def failure(self, status: int, body: bytes) -> InglenookError:
        return llamacpp_failures.failure(status, body)

    def start_failure(self, log: Sequence[str], exit_code: int | None) -> str:
        return llamacpp_launch.start_failure(log, exit_code)
