"""llama.cpp as a maker of vectors and scores, as tables: flags, requests, answers, refusals."""

from __future__ import annotations

import array
import base64
import json
from typing import Any

import pytest
from msgspec.structs import replace

from inglenook.config.settings import EngineSettings, ModelSettings
from inglenook.engines.base import Embedder
from inglenook.engines.llamacpp import LlamaCpp
from inglenook.errors import EngineError
from inglenook.wire.vectors import EmbedJob, RerankJob, TooLong

TEXTS = ModelSettings(id="m", path="m.gguf", context=512, parallel=2, tasks=("embed",))
PAIRS = replace(TEXTS, tasks=("rerank",))
JOB = EmbedJob(["a", "b"])
PAIR = RerankJob("q", ["a", "b", "c"])


def embedder(architecture: str = "bert") -> Embedder:
    made = LlamaCpp("python3", architecture=lambda model: architecture).embedder
    assert made is not None
    return made


def flags(model: ModelSettings) -> str:
    return " ".join(LlamaCpp("python3").launch(model, "/m.gguf", "/e.sock", EngineSettings()).argv)


def test_a_step_is_as_long_as_the_context() -> None:
    """An encoder reads a text in one step: with a shorter one, a long text would be an error of the server."""
    said = flags(TEXTS)
    assert "--ctx-size 1024 --parallel 2" in said
    assert "--batch-size 512 --ubatch-size 512 --embeddings" in said
    assert "--pooling" not in said
    assert "--pooling last" in flags(replace(TEXTS, pooling="last"))
    assert "--batch-size 2048 --ubatch-size 2048" in flags(replace(TEXTS, batch=2048))


def test_a_reranker_is_told_to_rerank() -> None:
    """Without the flag the server refuses the path."""
    assert "--rerank" in flags(PAIRS).split()
    assert "--embeddings" not in flags(PAIRS)


def test_a_chat_model_stays_one() -> None:
    """Whether its tasks are known or not."""
    for model in (replace(TEXTS, tasks=()), replace(TEXTS, tasks=("chat",))):
        assert "--batch-size 512 --ubatch-size 512 --cache-ram" in flags(model)


@pytest.mark.parametrize(
    ("model", "path"),
    [(TEXTS, "/v1/embeddings"), (PAIRS, "/v1/rerank"), (replace(TEXTS, tasks=("chat",)), "/completion")],
)
def test_it_proves_itself_by_what_it_is_for(model: ModelSettings, path: str) -> None:
    """An embedding model has no first token."""
    assert LlamaCpp("python3").warm_up(model).path == path


def test_requests() -> None:
    """Numbers travel packed; the server's own bodies otherwise."""
    body = json.loads(embedder().embed(TEXTS, JOB).body)
    assert body == {"input": ["a", "b"], "encoding_format": "base64"}
    assert json.loads(embedder().embed(replace(TEXTS, normalize=False), JOB).body)["embd_normalize"] == -1
    assert json.loads(embedder().rerank(PAIRS, PAIR).body) == {"query": "q", "documents": ["a", "b", "c"]}


def packed(*numbers: float) -> str:
    return base64.b64encode(array.array("f", numbers).tobytes()).decode()


def embedded(*rows: Any, tokens: int = 5) -> bytes:
    data = [{"embedding": row, "index": at, "object": "embedding"} for at, row in enumerate(rows)]
    return json.dumps({"data": data, "usage": {"prompt_tokens": tokens}}).encode()


def test_vectors() -> None:
    """One after another, of length 1 unless the settings say otherwise."""
    made = embedder().vectors(TEXTS, JOB, embedded(packed(1, 2), packed(3, 4)))
    assert (made.count, made.dimension, made.tokens, made.normalized) == (2, 2, 5, True)
    assert made.row(1).cast("f").tolist() == [3, 4]
    assert (
        not embedder()
        .vectors(replace(TEXTS, normalize=False), JOB, embedded(packed(1), packed(2)))
        .normalized
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "cannot be read"),
        (b"[[[[", "cannot be read"),
        (embedded(packed(1, 2)), "mismatched vector count"),
        (embedded(packed(1, 2), packed(1)), "index 1: expected 2, got 1"),
        (embedded("", ""), "index 0: expected 0, got 0"),
        (embedded("AAA=", "AAA="), "invalid vector dimension"),
        (embedded("?", "?"), "cannot be read"),
        (embedded([1.0], [None]), "cannot be read"),
        (embedded(packed(1, 2), packed(1, float("nan"))), "non-finite vector values at index 1"),
    ],
)
def test_a_wrong_answer_is_an_error(body: bytes, says: str) -> None:
    """Never passed on."""
    with pytest.raises(EngineError, match=says):
        embedder().vectors(TEXTS, JOB, body)


def scored(*pairs: tuple[int, Any]) -> bytes:
    results = [{"index": index, "relevance_score": score} for index, score in pairs]
    return json.dumps({"results": results, "usage": {"prompt_tokens": 9}}).encode()


def test_scores_come_back_in_the_order_of_the_texts() -> None:
    """The server sorts them."""
    made = embedder().scores(PAIRS, PAIR, scored((2, 3.5), (0, 1.0), (1, -2.0)))
    assert (made.values, made.scale, made.tokens) == ([1.0, -2.0, 3.5], "logit", 9)


def test_qwen3_gives_probabilities() -> None:
    """Its engine has put them through a softmax."""
    for architecture, scale in (("qwen3", "unit"), ("bert", "logit"), ("", "logit")):
        made = embedder(architecture).scores(PAIRS, PAIR, scored((0, 0.1), (1, 0.2), (2, 0.3)))
        assert made.scale == scale


@pytest.mark.parametrize(
    "body",
    [
        scored((0, 1.0)),
        scored((0, 1.0), (1, 1.0), (1, 1.0)),
        scored((0, 1.0), (1, 1.0), (3, 1.0)),
        scored((0, 1.0), (1, 1.0), (2, None)),
        b"{}",
    ],
)
def test_wrong_scores(body: bytes) -> None:
    """One for each text, and a number."""
    with pytest.raises(EngineError):
        embedder().scores(PAIRS, PAIR, body)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            {
                "message": "input (602 tokens) is too large to process. increase the physical batch size "
                "(current batch size: 512)",
                "code": 500,
            },
            TooLong(None, 602, 512),
        ),
        ({"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}, TooLong(None, 9, 8)),
        ({"message": "Prompt contains invalid tokens"}, None),
        ({}, None),
    ],
)
def test_what_is_too_long_is_understood(error: dict[str, Any], found: TooLong | None) -> None:
    """It says how long, not which."""
    assert embedder().too_long(json.dumps({"error": error}).encode()) == found


def test_texts_can_be_counted() -> None:
    """To find out which."""
    request = embedder().tokenize("a", special=True)
    assert request is not None
    assert (request.path, json.loads(request.body)) == ("/tokenize", {"content": "a", "add_special": True})
