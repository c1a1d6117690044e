"""What we know of the embedding workers: how they are started, asked, and understood when they fail."""

from __future__ import annotations

import array
import json
import struct
from typing import Any

import pytest
from msgspec.structs import replace

from inglenook.config.settings import EngineSettings, ModelSettings
from inglenook.engines.base import Embedder, Engine
from inglenook.engines.embedding import KINDS, EmbeddingWorker
from inglenook.errors import BadRequest, EngineError, InglenookError, Unavailable
from inglenook.wire.vectors import EmbedJob, RerankJob, TooLong

MODEL = ModelSettings(id="m", path="/models/m", engine="sentence_transformers")
TEXTS: Engine = EmbeddingWorker("python3", "sentence_transformers")
PAIRS: Engine = EmbeddingWorker("python3", "cross_encoder")


def embedder(engine: Engine) -> Embedder:
    assert engine.embedder is not None
    return engine.embedder


def launched(kind: str = "sentence_transformers", **changes: Any) -> str:
    model = replace(MODEL, **changes)
    return " ".join(
        EmbeddingWorker("python3", kind).launch(model, "/models/m", "/e.sock", EngineSettings()).argv
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_one_program(kind: str) -> None:
    """The worker's backends have the engines' names."""
    expected = f"python3 -m inglenook.workers.embedding --socket /e.sock --backend {kind} --model /models/m"
    assert launched(kind).startswith(expected)


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, ""),
        ({"pooling": "cls"}, "--pooling cls"),
        ({"normalize": True}, "--normalize"),
        ({"normalize": False}, "--no-normalize"),
        ({"trust_remote_code": True}, "--trust-remote-code"),
        ({"precision": "bfloat16"}, "--precision bfloat16"),
        ({"batch_tokens": 4096}, "--batch-tokens 4096"),
        ({"threads": 2}, "--threads 2"),
        ({"context": 256}, "--context 256"),
        ({"dimension": 8}, ""),
        ({"args": ("--more",)}, "--more"),
    ],
)
def test_each_setting_becomes_its_flag(changes: dict[str, Any], flags: str) -> None:
    """And what was not said is left to the model."""
    assert launched(**changes) == f"{launched()} {flags}".strip()


def test_only_the_deterministic_engine_has_a_dimension_of_our_choice() -> None:
    """All others say how long their vectors are."""
    assert launched("deterministic", dimension=8).endswith("--dimension 8")


def frame(head: dict[str, Any], numbers: list[float]) -> bytes:
    raw = json.dumps(head).encode()
    return struct.pack("<I", len(raw)) + raw + array.array("f", numbers).tobytes()


VECTOR = frame({"count": 1, "dimension": 2, "tokens": [3], "normalized": True}, [0.6, 0.8])
SCORE = frame({"count": 1, "tokens": [3], "scale": "logit"}, [0.5])


def test_it_is_ready_when_a_vector_comes_out() -> None:
    """Not when its port is open."""
    request = TEXTS.warm_up(MODEL)
    assert request.path == "/embed"
    assert json.loads(request.body)["texts"] == ["a"]
    assert TEXTS.proves(200, VECTOR)
    assert not TEXTS.proves(200, SCORE)
    assert not TEXTS.proves(200, b"{}")
    assert not TEXTS.proves(503, VECTOR)


def test_a_reranker_is_ready_when_a_score_comes_out() -> None:
    """It makes no vectors."""
    assert PAIRS.warm_up(MODEL).path == "/rerank"
    assert PAIRS.proves(200, SCORE)
    assert not PAIRS.proves(200, VECTOR)


def test_a_worker_has_no_slots() -> None:
    """What it holds it computes together, so it may hold a lot."""
    assert TEXTS.turns(replace(MODEL, parallel=4)) == 256


def test_only_bge_m3_makes_all_kinds() -> None:
    """The others are never asked for them."""
    assert [kind for kind in KINDS if "colbert" in embedder(EmbeddingWorker("p", kind)).kinds] == ["bge_m3"]


def test_requests_and_answers() -> None:
    """The frame, both ways."""
    job = EmbedJob(["a"])
    assert embedder(TEXTS).embed(MODEL, job).path == "/embed"
    assert embedder(TEXTS).vectors(MODEL, job, VECTOR).row(0).cast("f").tolist() == pytest.approx([0.6, 0.8])
    pair = RerankJob("q", ["a"])
    assert embedder(PAIRS).rerank(MODEL, pair).path == "/rerank"
    assert embedder(PAIRS).scores(MODEL, pair, SCORE).values == [0.5]


def error(code: int, kind: str, **more: Any) -> bytes:
    return json.dumps({"error": {"code": code, "type": kind, "message": "/secret/path", **more}}).encode()


def test_what_is_too_long_is_understood() -> None:
    """Which input, and both lengths; anything less is another error."""
    long = error(400, "exceed_context_size_error", index=3, n_prompt_tokens=600, n_ctx=512)
    assert embedder(TEXTS).too_long(long) == TooLong(3, 600, 512)
    assert embedder(TEXTS).too_long(error(400, "invalid_request_error")) is None
    assert embedder(TEXTS).too_long(b"") is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "param"),
    [
        (400, error(400, "not_supported_error"), BadRequest, "input"),
        (400, error(400, "invalid_request_error"), BadRequest, "input"),
        (503, error(503, "unavailable_error"), Unavailable, None),
        (500, error(500, "server_error"), EngineError, None),
        (500, b"", EngineError, None),
    ],
)
def test_failures_are_told_in_our_words(
    status: int, body: bytes, kind: type[InglenookError], param: str | None
) -> None:
    """The worker's own text stays here."""
    failure = TEXTS.failure(status, body)
    assert type(failure) is kind
    assert failure.param == param
    assert "secret" not in str(failure)


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("ModuleNotFoundError: No module named 'sentence_transformers'", 1, "pip install 'inglenook[local]'"),
        (
            "ValueError: ... please pass the argument `trust_remote_code=True`",
            1,
            "`trust_remote_code = true`",
        ),
        ("_pickle.UnpicklingError: Weights only load failed", 1, "hold more than numbers"),
        ("E embedding: the model cannot be loaded: precision: this CPU cannot", 1, "exit code 1"),
        ("precision: this CPU cannot compute in bfloat16", 1, "Leave the setting out"),
        ("MemoryError", 1, "not enough memory"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: <path>",
            1,
            "A file of the model is missing",
        ),
        ("safetensors_rust.SafetensorError: HeaderTooLarge", 1, "damaged"),
        ("something else", 3, "exit code 3"),
        ("", None, "no first vector in time"),
        ("", -9, "for lack of memory"),
    ],
)
def test_why_a_start_failed(line: str, code: int | None, says: str) -> None:
    """One sentence, with the mend where there is one."""
    assert says in TEXTS.start_failure([line, "last line"], code)
