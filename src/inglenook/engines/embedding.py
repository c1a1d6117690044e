"""The embedding workers: our own programs around the Python libraries, all asked in the same way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from inglenook.config.settings import EngineSettings, ModelSettings
from inglenook.engines.base import Embedder, EngineRequest, Launch, Shape
from inglenook.engines.openai_failure import error_of, plain_failure
from inglenook.errors import BadRequest, InglenookError
from inglenook.wire import frame
from inglenook.wire.openai import ChatRequest, CompletionRequest
from inglenook.wire.vectors import EmbedJob, Kind, RerankJob, Scores, TooLong, Vectors

AT_ONCE = 256
"""Requests that a worker may hold. It has no slots: what it holds it computes in common batches."""
KINDS = ("deterministic", "static", "sentence_transformers", "bge_m3", "cross_encoder")
_ONE = EmbedJob(("a",))
_PAIR = RerankJob("a", ("a",))

# Searched in the whole log, first match wins.
_CAUSES: tuple[tuple[str, str], ...] = (
    (r"precision: this (CPU|model) cannot compute in bfloat16",
     "Its `precision` is not to be had here. Leave the setting out."),
    (r"No module named '?(torch|sentence_transformers|transformers|safetensors|tokenizers)",
     "The engine's library is not installed. Install it with: pip install 'inglenook[local]'"),
    (r"trust_remote_code",
     "The model brings Python code of its own. If you trust its author, set `trust_remote_code = true`."),
    (r"weights.only|unpickl|WeightsUnpickler",
     "The model's weights hold more than numbers, and are not loaded. Take a model in safetensors."),
    (r"out of memory|bad_alloc|cannot allocate memory|MemoryError",
     "There is not enough memory for the model. Take a smaller one."),
    (r"No such file or directory|does not appear to have a file|FileNotFoundError|not a (local )?folder",
     "A file of the model is missing. Look at its `path`."),
    (r"safetensors|HeaderTooLarge|size mismatch|corrupt",
     "A file of the model is damaged, or is for another model. Fetch it again."),
)  # fmt: skip


@dataclass(frozen=True)
class EmbeddingWorker:
    """Facts about ``workers.embedding`` with one of its backends."""

    python: str
    name: str
    """One of ``KINDS``; the worker's backends have the same names."""
    one_choice: bool = True

    @property
    def embedder(self) -> Embedder | None:
        return self

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return ("dense", "sparse", "colbert") if self.name == "bge_m3" else ("dense",)

    def turns(self, model: ModelSettings) -> int:
        return AT_ONCE

    def launch(self, model: ModelSettings, path: str, socket: str, engines: EngineSettings) -> Launch:
        argv = [self.python, "-m", "inglenook.workers.embedding", "--socket", socket]
        argv += ["--backend", self.name, "--model", path, *_flags(self.name, model)]
        return Launch((*argv, *model.args), model.env)

    def warm_up(self, model: ModelSettings) -> EngineRequest:
        if self.name == "cross_encoder":
            return self.rerank(model, _PAIR)
        return self.embed(model, _ONE)

    def proves(self, status: int, body: bytes) -> bool:
        if status != 200:
            return False
        try:
            if self.name == "cross_encoder":
                frame.read_scores(_PAIR, body)
            else:
                frame.read_vectors(_ONE, body)
        except InglenookError:
            return False
        return True

    def takes_tools(self, properties: bytes) -> bool:
        return False

    def embed(self, model: ModelSettings, job: EmbedJob) -> EngineRequest:
        return EngineRequest("/embed", frame.embed_body(job))

    def vectors(self, model: ModelSettings, job: EmbedJob, body: bytes) -> Vectors:
        return frame.read_vectors(job, body)

    def rerank(self, model: ModelSettings, job: RerankJob) -> EngineRequest:
        return EngineRequest("/rerank", frame.rerank_body(job))

    def scores(self, model: ModelSettings, job: RerankJob, body: bytes) -> Scores:
        return frame.read_scores(job, body)

    def too_long(self, body: bytes) -> TooLong | None:
        error = error_of(body)
        index, given, limit = error.get("index"), error.get("n_prompt_tokens"), error.get("n_ctx")
        if isinstance(index, int) and isinstance(given, int) and isinstance(limit, int):
            return TooLong(index, given, limit)
        return None

    def tokenize(self, text: str, *, special: bool) -> EngineRequest | None:
        return None

    def failure(self, status: int, body: bytes) -> InglenookError:
        kind = error_of(body).get("type")
        if kind == "not_supported_error":
            return BadRequest("This model takes no token ids. Send text.", param="input")
        if kind == "invalid_request_error":
            return BadRequest("The input has token ids that this model does not have.", param="input")
        return plain_failure(status, body)

    def start_failure(self, log: Sequence[str], exit_code: int | None) -> str:
        if exit_code is None:
            return "The engine gave no first vector in time. Raise the model's `start_seconds`."
        if exit_code in (-9, 137):
            return "The engine was killed while it loaded, most likely for lack of memory."
        words = "\n".join(log)
        for pattern, sentence in _CAUSES:
            if re.search(pattern, words, re.IGNORECASE):
                return sentence
        return (
            f"The engine ended before it was ready (exit code {exit_code}). Its last log lines may say why."
        )

    # It does not write.

    def chat(self, model: ModelSettings, request: ChatRequest, body: bytes) -> EngineRequest:
        raise NotImplementedError("the gateway asks only for a model's tasks")

    def completion(self, model: ModelSettings, request: CompletionRequest, body: bytes) -> EngineRequest:
        raise NotImplementedError("the gateway asks only for a model's tasks")

    def completion_shape(self, request: CompletionRequest, echo: str) -> Shape:
        raise NotImplementedError("the gateway asks only for a model's tasks")

    def detokenize(self, tokens: Sequence[int]) -> EngineRequest | None:
        return None


def _flags(backend: str, model: ModelSettings) -> Iterator[str]:
    if backend == "deterministic":
        yield from ("--dimension", str(model.dimension))
    if model.pooling:
        yield from ("--pooling", model.pooling)
    if model.normalize is not UNSET:
        yield "--normalize" if model.normalize else "--no-normalize"
    if model.precision:
        yield from ("--precision", model.precision)
    if model.trust_remote_code:
        yield "--trust-remote-code"
    if model.batch_tokens:
        yield from ("--batch-tokens", str(model.batch_tokens))
    if model.threads:
        yield from ("--threads", str(model.threads))
    if model.context:
        yield from ("--context", str(model.context))
