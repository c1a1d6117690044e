"""The engine without a model: ``workers.echo``, for tests, demos and faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inglenook.config.settings import EngineSettings, ModelSettings
from inglenook.engines.base import Embedder, EngineRequest, Launch, Shape
from inglenook.engines.llamacpp_failures import failure
from inglenook.engines.llamacpp_shapes import CompletionShape
from inglenook.errors import InglenookError
from inglenook.wire.openai import ChatRequest, CompletionRequest, read_tail


@dataclass(frozen=True)
class Echo:
    """Facts about ``workers.echo``. Its faults are asked for in the model's ``args``."""

    python: str
    name: str = "echo"
    one_choice: bool = True

    def launch(self, model: ModelSettings, path: str, socket: str, engines: EngineSettings) -> Launch:
        argv = [self.python, "-m", "inglenook.workers.echo", "--socket", socket]
        argv += ["--slots", str(model.parallel)]
        if model.context:
            argv += ["--context", str(model.context)]
        return Launch((*argv, *model.args), model.env)

    @property
    def embedder(self) -> Embedder | None:
        return None

    def turns(self, model: ModelSettings) -> int:
        return model.parallel

    def warm_up(self, model: ModelSettings) -> EngineRequest:
        return EngineRequest("/completion", b'{"prompt":"a","n_predict":1}')

    def proves(self, status: int, body: bytes) -> bool:
        tail = read_tail(body)
        return status == 200 and tail is not None and tail.error is None

    def takes_tools(self, properties: bytes) -> bool:
        return True

    def chat(self, model: ModelSettings, request: ChatRequest, body: bytes) -> EngineRequest:
        return EngineRequest("/v1/chat/completions", body)

    def completion(self, model: ModelSettings, request: CompletionRequest, body: bytes) -> EngineRequest:
        return EngineRequest("/v1/completions", body)

    def completion_shape(self, request: CompletionRequest, echo: str) -> Shape:
        return CompletionShape(logprobs=request.logprobs, echo=echo).rewrite

    def detokenize(self, tokens: Sequence[int]) -> EngineRequest | None:
        body = '{"tokens":[' + ",".join(map(str, tokens)) + "]}"
        return EngineRequest("/detokenize", body.encode())

    def failure(self, status: int, body: bytes) -> InglenookError:
        return failure(status, body)  # it answers in llama-server's words

    def start_failure(self, log: Sequence[str], exit_code: int | None) -> str:
        if exit_code is None:
            return "The echo engine came up but gave no first token in time."
        return f"The echo engine ended before it was ready (exit code {exit_code})."
