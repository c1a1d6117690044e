"""Vectors and scores from llama.cpp's server. Pure.

It takes the API's own bodies, but names no input that is too long, and its scores are bare logits.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from inglenook.config.settings import ModelSettings
from inglenook.engines.base import EngineRequest
from inglenook.engines.openai_failure import error_of
from inglenook.errors import EngineError
from inglenook.wire.vectors import (
    FLOAT,
    EmbedJob,
    Kind,
    RerankJob,
    Scores,
    TooLong,
    Vectors,
    check_finite,
    mismatched_count,
    wrong_dimension,
)

_TOO_LARGE = re.compile(r"input \((\d+) tokens\) is too large to process.*batch size: (\d+)")
# Their two classes go through a softmax in the engine: a score is a probability already.
_UNIT = re.compile("qwen3")


class _Usage(Struct):
    prompt_tokens: int


class _Vector(Struct):
    embedding: str
    index: int


class _Embeddings(Struct):
    data: list[_Vector]
    usage: _Usage


class _Score(Struct):
    index: int
    relevance_score: float


class _Ranking(Struct):
    results: list[_Score]
    usage: _Usage


@dataclass(frozen=True)
class LlamaCppVectors:
    """How llama.cpp's server embeds and reranks."""

    architecture: Callable[[ModelSettings], str]
    """The architecture of a model, as the header of its file has it."""

    kinds: tuple[Kind, ...] = ("dense",)

    def embed(self, model: ModelSettings, job: EmbedJob) -> EngineRequest:
        wanted: dict[str, Any] = {"input": job.inputs, "encoding_format": "base64"}
        if model.normalize is False:
            wanted["embd_normalize"] = -1
        return EngineRequest("/v1/embeddings", msgspec.json.encode(wanted))

    def vectors(self, model: ModelSettings, job: EmbedJob, body: bytes) -> Vectors:
        answer = _decoded(body, _Embeddings)
        if [each.index for each in answer.data] != list(range(len(job.inputs))):
            raise mismatched_count()
        rows = [_packed(each.embedding) for each in answer.data]
        size = len(rows[0])
        for at, row in enumerate(rows):
            if not row or len(row) != size or size % FLOAT:
                raise wrong_dimension(at, size // FLOAT, len(row) // FLOAT)
        numbers = memoryview(b"".join(rows))
        check_finite(numbers, size // FLOAT)
        normalized = model.normalize is not False
        return Vectors(len(rows), size // FLOAT, answer.usage.prompt_tokens, normalized, numbers)

    def rerank(self, model: ModelSettings, job: RerankJob) -> EngineRequest:
        wanted = {"query": job.query, "documents": job.texts}
        return EngineRequest("/v1/rerank", msgspec.json.encode(wanted))

    def scores(self, model: ModelSettings, job: RerankJob, body: bytes) -> Scores:
        answer = _decoded(body, _Ranking)
        by_index = {each.index: each.relevance_score for each in answer.results}
        if len(answer.results) != len(job.texts) or set(by_index) != set(range(len(job.texts))):
            raise EngineError("The reranker answered with a wrong number of scores.")
        values = [by_index[index] for index in range(len(by_index))]
        is_unit = _UNIT.match(self.architecture(model)) is not None
        return Scores(values, "unit" if is_unit else "logit", answer.usage.prompt_tokens)

    def too_long(self, body: bytes) -> TooLong | None:
        error = error_of(body)
        given, limit = error.get("n_prompt_tokens"), error.get("n_ctx")
        if isinstance(given, int) and isinstance(limit, int):
            return TooLong(None, given, limit)
        said = _TOO_LARGE.search(str(error.get("message")))
        return TooLong(None, int(said[1]), int(said[2])) if said else None

    def tokenize(self, text: str, *, special: bool) -> EngineRequest | None:
        return EngineRequest("/tokenize", msgspec.json.encode({"content": text, "add_special": special}))


def _decoded(body: bytes, shape: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # llama.cpp writes null for a number that JSON cannot hold.
        raise EngineError("The engine's answer cannot be read.") from None


def _packed(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise EngineError("The engine's answer cannot be read.") from None
