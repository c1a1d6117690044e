"""Reranking on a running server: by a reranker and by similarity, in the shapes of three APIs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.parts.bert import RANK, write_bert
from tests.parts.server import Answer, Server

DOCUMENTS = ["rocket moon orbit", "the cat sat on the mat", "the dog ran", "the cat sat on the mat"]


def rerank(
    server: Server,
    documents: Any = DOCUMENTS,
    model: str | None = "rank",
    path: str = "/v1/rerank",
    **fields: Any,
) -> Answer:
    asked = {"query": "the cat", "documents": documents, "model": model, **fields}
    return server.ask("POST", path, {name: value for name, value in asked.items() if value is not None})


def test_a_reranker_gives_what_its_library_gives(vectors: Server, tmp_path: Path) -> None:
    """The same file, loaded directly; its logits through a sigmoid."""
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(write_bert(tmp_path / "rank.gguf", pooling=RANK))
    params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    params.n_ctx = params.n_ubatch = params.n_batch = 512
    own = xllamacpp.Server(params).handle_rerank({"query": "the cat", "documents": DOCUMENTS})
    theirs = {each["index"]: each["relevance_score"] for each in own["results"]}
    raw = {each["index"]: each["score"] for each in rerank(vectors, raw_scores=True).json["data"]}
    assert raw == pytest.approx(theirs, abs=1e-4)
    for each in rerank(vectors).json["data"]:
        assert each["score"] == pytest.approx(1 / (1 + math.exp(-theirs[each["index"]])), abs=1e-4)


def test_the_answer_has_both_shapes(vectors: Server) -> None:
    """Descending, with the places and texts of the request; equals in their order."""
    body = rerank(vectors).json
    scores = [each["score"] for each in body["data"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert [each["document"] for each in body["data"]] == [DOCUMENTS[each["index"]] for each in body["data"]]
    assert [each["index"] for each in body["results"]] == [each["index"] for each in body["data"]]
    places = [each["index"] for each in body["data"]]
    assert places.index(1) < places.index(3)
    assert body["model"] == "rank"
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 20


def test_any_embedding_model_reranks_by_similarity(vectors: Server) -> None:
    """The query's own text is the most similar of all."""
    for model in ("bert", "hash"):
        body = rerank(vectors, [*DOCUMENTS, "the cat"], model=model, top_n=1).json
        assert [(each["index"], each["score"]) for each in body["data"]] == [(4, pytest.approx(1, abs=1e-6))]


def test_similarities_may_be_negative_when_raw(vectors: Server) -> None:
    """And are 0 otherwise."""
    raw = [each["score"] for each in rerank(vectors, model="hash", raw_scores=True).json["data"]]
    shown = [each["score"] for each in rerank(vectors, model="hash").json["data"]]
    assert min(raw) < 0
    assert shown == [max(0.0, score) for score in raw]


def test_cohere(vectors: Server) -> None:
    """Their path, their shape."""
    body = rerank(vectors, path="/v2/rerank", top_n=2).json
    assert list(body) == ["id", "results", "meta"]
    assert len(body["results"]) == 2
    assert set(body["results"][0]) == {"index", "relevance_score"}


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
def test_tei(vectors: Server, path: str) -> None:
    """A bare list; no model has to be named: the reranker is taken."""
    answer = rerank(vectors, None, path=path, model=None, texts=DOCUMENTS, return_text=True)
    own = rerank(vectors).json["data"]
    assert answer.json == [
        {"index": each["index"], "score": each["score"], "text": each["document"]} for each in own
    ]


def test_tei_errors(vectors: Server) -> None:
    """Their shape, our status."""
    for body in ({"query": "q", "texts": []}, {"query": "q", "texts": 5}, {"texts": ["a"]}):
        answer = vectors.ask("POST", "/rerank", body)
        assert answer.status == 400
        assert set(answer.json) == {"error", "error_type"}
        assert answer.json["error_type"] == "Validation"
    long = vectors.ask("POST", "/rerank", {"query": "q", "texts": ["cat " * 600]})
    assert (long.status, long.json["error_type"]) == (400, "Tokenizer")


def test_the_path_of_tei_takes_documents_too(vectors: Server) -> None:
    """Then it is Jina's."""
    assert rerank(vectors, path="/rerank").json == rerank(vectors).json


def test_too_long_names_the_document(vectors: Server) -> None:
    """With both lengths; a query that leaves no room is named itself."""
    for model in ("rank", "bert"):
        answer = rerank(vectors, ["a", "cat " * 600], model=model)
        assert (answer.status, answer.error["param"]) == (400, "documents[1]")
        assert answer.error["prompt_tokens"] > answer.error["context_length"] == 512
        query = rerank(vectors, ["a"], model=model, query="cat " * 600)
        assert (query.status, query.error["param"]) == (400, "query")


def test_truncate_cuts_and_says_so(vectors: Server) -> None:
    """In each API's own way."""
    documents = ["dog", "cat " * 600]
    for model in ("rank", "bert"):
        (cut,) = rerank(vectors, documents, model=model, truncate=True).json["truncated"]
        assert cut["index"] == 1 and cut["tokens"] > cut["kept"] == 512
    cohere = rerank(vectors, documents, path="/v2/rerank", max_tokens_per_doc=512).json
    assert cohere["meta"]["warnings"][0].startswith("documents[1] was cut")
    tei = rerank(vectors, None, model=None, texts=documents, truncate=True).json
    assert [each.get("truncated", False) for each in sorted(tei, key=lambda each: int(each["index"]))] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"documents": ["a", 5]}, "documents[1]"),
        ({"top_n": 0}, "top_n"),
        ({"model": "chat"}, "model"),
        ({"query": "a" * 1_000_001}, "query"),
    ],
)
def test_what_is_wrong_is_named(vectors: Server, fields: dict[str, Any], param: str) -> None:
    """A 400 with the field."""
    answer = vectors.ask("POST", "/v1/rerank", {"query": "q", "documents": ["a"], "model": "rank", **fields})
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "fields"),
    [("/v1/rerank", {}), ("/v2/rerank", {}), ("/rerank", {"documents": None, "texts": DOCUMENTS})],
)
def test_an_upstream_answers_for_itself(
    serve: StartServer, vectors: Server, path: str, fields: dict[str, Any]
) -> None:
    """On the path that was called, whatever the shape."""
    front = serve(f'upstreams = [{{name = "back", url = "{vectors.url}", models = ["rank"]}}]')
    ours, theirs = rerank(front, path=path, **fields).json, rerank(vectors, path=path, **fields).json
    if path == "/v2/rerank":
        ours.pop("id"), theirs.pop("id")
    assert ours == theirs


def test_half_a_surrogate_is_named(vectors: Server) -> None:
    """As everywhere."""
    body = json.dumps({"query": "q", "model": "rank", "documents": ["a", "\ud800"]}).encode()
    assert vectors.ask("POST", "/v1/rerank", body).error["param"] == "documents[1]"
