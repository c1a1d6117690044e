"""Reranking without a server: three APIs in, three shapes out."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from inglenook.errors import (
    BadRequest,
    ContextLengthExceeded,
    EngineError,
    InglenookError,
    QueueFull,
)
from inglenook.wire.rerank import Flavour, answer, is_tei, read_rerank, tei_error
from inglenook.wire.vectors import Cut, Scale, Scores

Json = Any
DOCUMENTS = ["a", "b", "c"]


def body_of(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "query": "q", **fields}).encode()


def ranked(
    values: list[float],
    scale: Scale = "unit",
    flavour: Flavour = "jina",
    cut: tuple[Cut, ...] = (),
    **fields: Any,
) -> Json:
    sent = fields if "texts" in fields else {"documents": DOCUMENTS[: len(values)], **fields}
    asked = read_rerank(body_of(**sent), flavour)
    return json.loads(answer(asked, "m", Scores(values, scale, 9, cut), "id-1"))


def order(body: Json) -> list[int]:
    return [each["index"] for each in body["data"]]


def test_jinas_answer_and_ours_in_one_body() -> None:
    """`data` and `results` say the same, best first, with the places of the request."""
    body = ranked([0.1, 0.9, 0.5])
    assert body == {
        "object": "list",
        "model": "m",
        "data": [
            {"index": 1, "score": 0.9, "document": "b"},
            {"index": 2, "score": 0.5, "document": "c"},
            {"index": 0, "score": 0.1, "document": "a"},
        ],
        "results": [
            {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
            {"index": 2, "relevance_score": 0.5, "document": {"text": "c"}},
            {"index": 0, "relevance_score": 0.1, "document": {"text": "a"}},
        ],
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }


def test_documents_can_be_left_out_of_the_answer() -> None:
    """Null in ours, missing in Jina's."""
    body = ranked([0.1], return_documents=False)
    assert body["data"] == [{"index": 0, "score": 0.1, "document": None}]
    assert body["results"] == [{"index": 0, "relevance_score": 0.1}]


def test_documents_as_objects() -> None:
    """Jina's and Cohere's clients may send them so."""
    body = ranked([0.2, 0.1], documents=[{"text": "x", "title": "t"}, "y"])
    assert [each["document"] for each in body["data"]] == ["x", "y"]


def test_ties_keep_the_order_of_the_request() -> None:
    """So that the same request has the same answer."""
    assert order(ranked([0.5, 0.5, 0.5])) == [0, 1, 2]
    assert order(ranked([0.1, 0.5, 0.5])) == [1, 2, 0]


@pytest.mark.parametrize(
    ("fields", "count"),
    [({"top_n": 2}, 2), ({"top_k": 1}, 1), ({"top_n": 9}, 3), ({"top_n": 1, "top_k": 2}, 1), ({}, 3)],
)
def test_only_the_best(fields: Json, count: int) -> None:
    """By either name; more than there are is all of them."""
    assert len(ranked([0.1, 0.2, 0.3], **fields)["data"]) == count


def test_a_logit_goes_through_a_sigmoid() -> None:
    """0 to 1 for whatever the model says, without an overflow."""
    body = ranked([0.0, 800.0, -800.0], "logit")
    assert [each["score"] for each in body["data"]] == [1.0, 0.5, 0.0]
    assert ranked([1.5], "logit")["data"][0]["score"] == pytest.approx(1 / (1 + math.exp(-1.5)))


def test_very_good_ones_are_still_told_apart() -> None:
    """Both are 1 after the sigmoid, but not before."""
    assert order(ranked([500.0, 700.0], "logit")) == [1, 0]


def test_a_cosine_is_held_to_its_range() -> None:
    """Opposite is as bad as unrelated; rounding does not pass 1."""
    body = ranked([-0.5, 1.0000001, 0.25], "cosine")
    assert [each["score"] for each in body["data"]] == [1.0, 0.25, 0.0]


@pytest.mark.parametrize("scale", ["logit", "unit", "cosine"])
def test_raw_scores_are_the_models_own(scale: Scale) -> None:
    """As they came."""
    body = ranked([-3.5, 2.5], scale, raw_scores=True)
    assert [each["score"] for each in body["data"]] == [2.5, -3.5]


def test_cohere() -> None:
    """No documents, an id, and what their clients read in `meta`."""
    body = ranked([0.1, 0.9], flavour="cohere", cut=(Cut(1, 900, 512), Cut(None, 600, 512)))
    assert body["id"] == "id-1"
    assert body["results"] == [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    assert body["meta"]["billed_units"] == {"search_units": 1}
    assert body["meta"]["tokens"]["input_tokens"] == 9
    assert body["meta"]["warnings"] == [
        "documents[1] was cut from 900 tokens to 512",
        "query was cut from 600 tokens to 512",
    ]


@pytest.mark.parametrize("flavour", ["jina", "cohere"])
def test_texts_make_it_tei_on_any_path(flavour: Flavour) -> None:
    """A bare list; text only when asked for; the model may be left out."""
    assert ranked([0.1, 0.9], flavour=flavour, texts=["x", "y"]) == [
        {"index": 1, "score": 0.9},
        {"index": 0, "score": 0.1},
    ]
    told = ranked([0.1], texts=["x"], return_text=True, cut=(Cut(0, 900, 512),))
    assert told == [{"index": 0, "score": 0.1, "text": "x", "truncated": True}]
    assert read_rerank(b'{"query": "q", "texts": ["x"]}', "jina").request.model is None


def test_cut_documents_are_told() -> None:
    """With their places in the request."""
    body = ranked([0.1, 0.9], cut=(Cut(1, 900, 512),))
    assert body["truncated"] == [{"index": 1, "tokens": 900, "kept": 512}]


def test_coheres_length_is_a_wish_to_cut() -> None:
    """Their clients have no other way to say so."""
    assert read_rerank(body_of(documents=["a"], max_tokens_per_doc=100), "cohere").job.truncate
    assert not read_rerank(body_of(documents=["a"]), "cohere").job.truncate


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ["a", 1]}, "documents[1]"),
        ({"documents": [{"title": "t"}]}, "documents[0].text"),
        ({"documents": ["a"], "texts": ["a"]}, "texts"),
        ({"documents": ["a"], "query": None}, "query"),
        ({"documents": ["a"], "model": None}, "model"),
        ({"documents": ["a"], "top_n": 0}, "top_n"),
        ({"documents": ["a"], "top_k": -1}, "top_k"),
        ({"documents": ["a"], "max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"documents": ["a"], "raw_scores": "yes"}, "raw_scores"),
        ({"texts": [1]}, "texts[0]"),
        ({"texts": ["a"], "truncation_direction": "Left"}, "truncation_direction"),
    ],
)
def test_what_is_wrong_is_named(fields: Json, param: str) -> None:
    """A 400 that says which field."""
    with pytest.raises(BadRequest) as refused:
        read_rerank(body_of(**fields), "jina")
    assert refused.value.param == param


def test_which_bodies_are_teis() -> None:
    """Even wrong ones: their errors have TEI's shape too."""
    assert is_tei(b'{"texts": 5}')
    assert not is_tei(b'{"documents": []}')
    assert not is_tei(b'{"texts": ')
    assert not is_tei(b"[]")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("no"), "Validation"),
        (ContextLengthExceeded(given=2, limit=1), "Tokenizer"),
        (QueueFull("no"), "Overloaded"),
        (EngineError("no"), "Backend"),
    ],
)
def test_teis_errors(error: InglenookError, kind: str) -> None:
    """The sentence, and one of their four kinds."""
    assert tei_error(error) == {"error": str(error), "error_type": kind}
