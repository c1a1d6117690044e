"""``Client`` and ``AsyncClient`` against the shipped server, and against servers that answer anything."""

from __future__ import annotations

import asyncio
import base64
import math
import re
import struct
import threading
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest

from inglenook.client import AsyncClient, CallFailed, Client, Ranked, Truncated
from tests.client.test_docs import EXAMPLES, run
from tests.conftest import StartServer
from tests.parts.answering import Answering
from tests.parts.server import Server

Do = Callable[..., Any]


def sync(url: str, name: str, *args: Any, **named: Any) -> Any:
    """One call of ``Client``; those that ``Client()`` takes come as ``made``."""
    with Client(url, **named.pop("made", {})) as client:
        return getattr(client, name)(*args, **named)


def in_a_loop(url: str, name: str, *args: Any, **named: Any) -> Any:
    made = named.pop("made", {})

    async def call() -> Any:
        async with AsyncClient(url, **made) as client:
            return await getattr(client, name)(*args, **named)

    return asyncio.run(call())


@pytest.fixture(params=[sync, in_a_loop], ids=["sync", "async"])
def do(request: pytest.FixtureRequest) -> Do:
    """Each of the twins."""
    twin: Do = request.param
    return twin


def test_rerank(do: Do, vectors: Server) -> None:
    """The best first, with their places and texts; `top_n` and the texts are a choice."""
    documents = ["rocket moon", "the cat", "cat"]
    ranking = do(vectors.url, "rerank", "bert", "the cat", documents)
    assert ranking.results[0].index == 1
    assert {row.document for row in ranking.results} == set(documents)
    assert ranking.results[0].score == pytest.approx(1.0)
    assert (ranking.model, ranking.truncated) == ("bert", [])
    assert ranking.prompt_tokens > 0
    best = do(vectors.url, "rerank", "bert", "the cat", documents, top_n=1, return_documents=False)
    assert best.results == [Ranked(1, ranking.results[0].score, None)]


def test_what_was_cut_is_told(do: Do, vectors: Server) -> None:
    """And nothing is cut unasked."""
    long = "cat " * 600
    with pytest.raises(CallFailed, match="maximum context length is 512") as caught:
        do(vectors.url, "embed", "bert", ["cat", long])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input[1]")
    made = do(vectors.url, "embed", "bert", ["cat", long], truncate=True)
    (cut,) = made.truncated
    assert isinstance(cut, Truncated)
    assert (cut.index, cut.kept) == (1, 512)
    assert cut.tokens > 512


def test_dense_vectors(do: Do, vectors: Server) -> None:
    """One text or several; shortened where that is wished."""
    made = do(vectors.url, "embed", "hash", ["hello world", "a"])
    assert [each.index for each in made.data] == [0, 1]
    assert made.data[0].dense[:2] == pytest.approx([0.26784691, -0.01823026], abs=1e-6)
    assert (made.data[0].sparse, made.data[0].colbert) == (None, None)
    (short,) = do(vectors.url, "embed", "hash", "a", dimensions=4).data
    assert len(short.dense) == 4
    assert math.hypot(*short.dense) == pytest.approx(1.0)


def test_a_kind_that_the_model_has_not(do: Do, vectors: Server) -> None:
    """The server's sentence and field; what is no kind at all never gets there."""
    with pytest.raises(CallFailed, match="makes no sparse embeddings") as caught:
        do(vectors.url, "embed", "hash", "a", kinds=("dense", "sparse"))
    assert (caught.value.status, caught.value.param) == (400, "return_sparse")
    for kinds in ((), "dense", ("dens",)):
        with pytest.raises(ValueError, match="kinds must be some of dense"):
            do("http://127.0.0.1:1", "embed", "hash", "a", kinds=kinds)


@pytest.mark.timeout(240)  # torch is slow to import
def test_all_kinds_of_bge_m3(serve: StartServer, tmp_path: Path) -> None:
    """Together and each for itself, from a model of its layout; the example in the docs too."""
    pytest.importorskip("torch")
    from tests.workers.embedding.tiny import make_bge_m3

    make_bge_m3(tmp_path / "m3")
    server = serve(f'[[models]]\nid = "bge-m3"\npath = "{tmp_path / "m3"}"\nengine = "bge_m3"\n')
    (example,) = [each for each in EXAMPLES if "bge-m3" in each]
    assert re.fullmatch(r"(\d+ \{.*\} \d+\n){2}", run(example, server.url))
    texts = ["river stone", "the garden of winter"]
    with Client(server.url) as client:
        both = client.embed("bge-m3", texts, kinds=("dense", "sparse", "colbert")).data
        for each in both:
            assert each.dense is not None and each.sparse and each.colbert
            assert math.hypot(*each.dense) == pytest.approx(1.0, abs=1e-5)
            assert all(isinstance(token, int) and weight > 0 for token, weight in each.sparse.items())
            assert {len(vector) for vector in each.colbert} == {len(each.dense)}
        assert len(both[1].colbert or ()) > len(both[0].colbert or ())
        for kinds in (("sparse",), ("colbert",), ("sparse", "colbert")):
            for alone, other in zip(client.embed("bge-m3", texts, kinds=kinds).data, both, strict=True):
                assert alone.dense is None
                assert (alone.sparse is None) == ("sparse" not in kinds)
                assert (alone.colbert is None) == ("colbert" not in kinds)
                if alone.sparse is not None:
                    assert alone.sparse == pytest.approx(other.sparse, abs=1e-5)


def test_models_come_and_go(do: Do, serve: StartServer) -> None:
    """And `health` tells their states."""
    server = serve('[[models]]\nid = "e"\npath = "builtin:echo"\n')
    assert do(server.url, "load", "e").state == "ready"
    health = do(f"{server.url}/v1/", "health")
    assert (health.status, health.models) == ("ok", {"e": "ready"})
    gone = do(server.url, "unload", "e")
    assert (gone.model, gone.state) == ("e", "stopped")
    with pytest.raises(CallFailed, match="did you mean 'e'") as caught:
        do(server.url, "load", "ee")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_an_engine_that_does_not_start_has_last_words(do: Do, serve: StartServer) -> None:
    """With when to ask again."""
    server = serve('[[models]]\nid = "e"\npath = "builtin:echo"\nargs = ["--fail-load"]\n')
    with pytest.raises(CallFailed) as caught:
        do(server.url, "load", "e")
    assert (caught.value.status, caught.value.code) == (503, "model_load_failed")
    assert caught.value.retry_after == 10.0
    assert caught.value.engine_log
    assert caught.value.request_id


def test_address_and_key_from_the_environment(
    do: Do, there: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless they are given; an empty key is none."""
    there.say({"status": "ok"})
    monkeypatch.setenv("INGLENOOK_URL", there.url.removeprefix("http://"))
    monkeypatch.setenv("INGLENOOK_API_KEY", "secret")
    do(None, "health")
    do(None, "health", made={"api_key": "mine"})
    do(None, "health", made={"api_key": ""})
    assert [each.headers.get("authorization") for each in there.asked] == [
        "Bearer secret",
        "Bearer mine",
        None,
    ]
    assert {each.path for each in there.asked} == {"/health"}


def test_connections_are_kept(there: Answering) -> None:
    """One for many calls."""
    there.say({"status": "ok"})
    with Client(there.url) as client:
        for _ in range(3):
            client.health()
    assert len(there.asked) == 3
    assert there.connections == 1


@pytest.mark.parametrize(
    ("body", "message", "code", "param"),
    [
        ({"error": {"message": "a\nb", "code": "c", "param": "p"}}, "a b", "c", "p"),
        ({"error": {"message": 1, "code": 2, "param": 3}}, None, "http_429", None),
        ({"error": "words", "error_type": "Overloaded"}, "words", "http_429", None),
        ({"error": "words", "code": "UPPER"}, "words", "UPPER", None),
        ({"detail": "words"}, "words", "http_429", None),
        ({"detail": [{"loc": []}]}, None, "http_429", None),
        (["a"], None, "http_429", None),
    ],
)
def test_errors_of_other_servers(
    do: Do, there: Answering, body: object, message: str | None, code: str, param: str | None
) -> None:
    """Whatever their shape, as one exception."""
    there.say(body, 429, retry_after="3", x_request_id="r1")
    with pytest.raises(CallFailed) as caught:
        do(there.url, "health")
    failed = caught.value
    assert str(failed) == (message or f"{there.url} answered with status 429")
    assert (failed.status, failed.code, failed.param) == (429, code, param)
    assert (failed.retry_after, failed.request_id) == (3.0, "r1")


@pytest.mark.parametrize(
    ("said", "low", "high"), [("soon", None, None), ("-5", 0, 0), ("1.5", 1.5, 1.5), ("date", 50, 61)]
)
def test_when_to_ask_again(
    do: Do, there: Answering, said: str, low: float | None, high: float | None
) -> None:
    """In seconds, also where the server gives a date."""
    there.say({}, 503, retry_after=formatdate(time() + 60, usegmt=True) if said == "date" else said)
    with pytest.raises(CallFailed) as caught:
        do(there.url, "health")
    after = caught.value.retry_after
    assert after == low if low is None or high is None or after is None else low <= after <= high


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": 1}', b'{"data": [{"index": 0}]}'])
def test_an_answer_that_is_none_is_a_failure(do: Do, there: Answering, body: bytes) -> None:
    """Never half a result."""
    there.body = body
    for call, args in (("embed", ("m", "a")), ("rerank", ("m", "q", ["a"])), ("load", ("m",))):
        if call == "rerank" and b'"data": [' not in body and body[:1] == b"{":
            continue
        with pytest.raises(CallFailed) as caught:
            do(there.url, call, *args)
        assert (caught.value.status, caught.value.code) == (0, "invalid_answer")


def test_answers_in_other_forms(do: Do, there: Answering) -> None:
    """Plain numbers, and a rerank of `results` only."""
    packed = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
    rows = [{"index": 0, "embedding": [0.5, -1]}, {"index": 1, "embedding": packed}]
    there.say({"data": rows})
    made = do(there.url, "embed", "m", ["a", "b"])
    assert [each.dense for each in made.data] == [[0.5, -1.0], [0.5, -1.0]]
    assert there.asked[-1].json == {"model": "m", "input": ["a", "b"], "encoding_format": "base64"}
    there.say(
        {
            "results": [
                {"index": 1, "relevance_score": 0.5, "document": {"text": "b"}},
                {"index": 0, "score": 0.1},
            ]
        }
    )
    ranking = do(there.url, "rerank", "m", "q", ["a", "b"])
    assert ranking.results == [Ranked(1, 0.5, "b"), Ranked(0, 0.1, None)]


def test_no_answer_is_a_failure(do: Do, there: Answering) -> None:
    """Nobody there, nobody in time, no address, a key that cannot be sent; without the password."""
    there.dribble = threading.Event()
    for url, made, code in (
        ("http://user:pass@127.0.0.1:1", {}, "unreachable"),
        (there.url, {"timeout": 0.1}, "timeout"),
        ("http://a:b:c", {}, "invalid_address"),
        (there.url, {"api_key": "schl\N{LATIN SMALL LETTER U WITH DIAERESIS}ssel"}, "invalid_key"),
    ):
        with pytest.raises(CallFailed) as caught:
            do(url, "health", made=made)
        assert (caught.value.status, caught.value.code) == (0, code)
        assert "pass" not in str(caught.value)
        assert "ssel" not in str(caught.value)


def test_an_answer_that_breaks_off(do: Do, there: Answering) -> None:
    """Is not an answer."""
    there.headers = {"content-length": "100", "connection": "close"}
    there.body = b'{"status": "ok"}'
    with pytest.raises(CallFailed) as caught:
        do(there.url, "health")
    assert caught.value.code == "connection_lost"
