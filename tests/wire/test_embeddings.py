"""`POST /v1/embeddings` without a server: what is read, what is refused, and how vectors are written."""

from __future__ import annotations

import array
import base64
import json
import math
import time
from typing import Any

import pytest

from inglenook.errors import BadRequest
from inglenook.wire.embeddings import Inputs, answer, check_dimensions, read_embedding
from inglenook.wire.vectors import Cut, Vectors

Json = dict[str, Any]
ROWS = [[3.0, 4.0, 0.0, 12.0], [0.5, -0.25, 0.125, 1e-30]]


def body_of(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def inputs_of(value: Any) -> Inputs:
    return read_embedding(body_of(input=value))[1]


def packed(rows: list[list[float]]) -> memoryview:
    return memoryview(array.array("f", [value for row in rows for value in row]).tobytes())


def vectors(rows: list[list[float]] = ROWS, **changes: Any) -> Vectors:
    fields: Json = {"count": len(rows), "dimension": len(rows[0]), "tokens": 7, "normalized": False}
    return Vectors(**(fields | {"dense": packed(rows)} | changes))


def written(made: Vectors, **fields: Any) -> Json:
    request, _ = read_embedding(body_of(input="a", **fields))
    body: Json = json.loads(b"".join(answer(request, made)))
    return body


@pytest.mark.parametrize(
    ("value", "items", "place"),
    [
        ("a", ["a"], "input"),
        ("", [""], "input"),
        (["a"], ["a"], "input[0]"),
        (["a", "", "c"], ["a", "", "c"], "input[0]"),
        ([1, 2], [[1, 2]], "input"),
        ([[1], [2, 3]], [[1], [2, 3]], "input[0]"),
        ([], [], "input[0]"),
    ],
)
def test_every_form_of_input(value: Any, items: list[Any], place: str) -> None:
    """A text, texts, token ids, lists of token ids; and what each is called when it has to be mended."""
    inputs = inputs_of(value)
    assert inputs.items == items
    assert inputs.place(0) == place


REFUSED: list[tuple[bytes, str | None]] = [
    (body_of(input=["a", 1]), "input[1]"),
    (body_of(input=["a", None]), "input[1]"),
    (body_of(input=[1, "a"]), "input[1]"),
    (body_of(input=[[1], ["a"]]), "input[1][0]"),
    (body_of(input=[[1], []]), "input[1]"),
    (body_of(input=[-1]), "input[0]"),
    (body_of(input=[2**31]), "input[0]"),
    (body_of(input=[1.5]), "input[0]"),
    (body_of(input=[True]), "input[0]"),
    (body_of(input=[{}]), "input[0]"),
    (body_of(input=None), "input"),
    (body_of(input=5), "input"),
    (body_of(input={"a": 1}), "input"),
    (body_of(), "input"),
    (b'{"input": "a"}', "model"),
    (body_of(input="a", dimensions=0), "dimensions"),
    (body_of(input="a", dimensions=-1), "dimensions"),
    (body_of(input="a", dimensions="8"), "dimensions"),
    (body_of(input="a", dimensions=8, embedding_type="sparse"), "dimensions"),
    (body_of(input="a", embedding_type="dens"), "embedding_type"),
    (body_of(input="a", encoding_format="hex"), "encoding_format"),
    (body_of(input="a", truncate="yes"), "truncate"),
    (body_of(input="a", return_sparse=1), "return_sparse"),
    (b'{"model": "m", "input": "half \\ud83d"}', "input"),
    (b'{"model": "m", "input": ["a", "\\ude00 half"]}', "input[1]"),
    (b'{"model": "m", "input": "half \xed\xa0\xbd"}', "input"),
    (b'{"model": "m\\ud83d", "input": "a"}', "model"),
    (b'{"model": "m", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "input"),
    (b'{"model": "m", "input": ' + b'{"a": ' * 100_000 + b"1" + b"}" * 100_000 + b"}", "input"),
    (b"[]", None),
    (b"{", None),
    (b"\xff", None),
    (b'{"model": "m", "input": NaN}', None),
]


@pytest.mark.parametrize(("body", "param"), REFUSED, ids=[str(body[:50]) for body, _ in REFUSED])
def test_what_is_wrong_is_named(body: bytes, param: str | None) -> None:
    """A 400 that says which field, and for lists which item."""
    with pytest.raises(BadRequest) as refused:
        read_embedding(body)
    assert refused.value.param == param
    assert (param or "body").split("[")[0] in str(refused.value)


def test_a_whole_pair_of_surrogates_is_a_character() -> None:
    """Only half of one is refused."""
    assert read_embedding(b'{"model": "m", "input": "\\ud83d\\ude00"}')[1].items == ["\U0001f600"]


@pytest.mark.parametrize("value", [["a"] * 100_000, "a" * 10_000_000, ["a"] * 99_999 + [1], [1] * 1_000_000])
def test_large_bodies_are_read_in_no_time(value: Any) -> None:
    """Whether right or wrong: others wait meanwhile."""
    body = body_of(input=value)
    began = time.perf_counter()
    try:
        read_embedding(body)
    except BadRequest as wrong:
        assert wrong.param == "input[99999]"
    assert time.perf_counter() - began < 0.5  # 0.02 on a free core


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({}, ("dense",)),
        ({"embedding_type": "dense", "return_sparse": True}, ("dense", "sparse")),
        ({"embedding_type": "sparse"}, ("sparse",)),
        ({"embedding_type": "sparse", "return_sparse": True}, ("sparse",)),
        ({"embedding_type": "colbert", "return_sparse": True}, ("colbert", "sparse")),
        ({"return_sparse": True, "return_colbert": True}, ("colbert", "dense", "sparse")),
        ({"return_sparse": False, "return_colbert": None}, ("dense",)),
    ],
)
def test_any_combination_of_kinds(fields: Json, kinds: tuple[str, ...]) -> None:
    """One request, one pass through the model."""
    assert read_embedding(body_of(input="a", **fields))[0].kinds == kinds


def test_numbers() -> None:
    """OpenAI's shape; the numbers are those of the engine to the last bit."""
    body = written(vectors())
    assert list(body) == ["object", "data", "model", "usage"]
    assert (body["object"], body["model"]) == ("list", "m")
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert [each["index"] for each in body["data"]] == [0, 1]
    assert all(list(each) == ["index", "embedding", "object"] for each in body["data"])
    assert [array.array("f", each["embedding"]) for each in body["data"]] == [
        array.array("f", row) for row in ROWS
    ]


def test_base64_holds_the_same_numbers() -> None:
    """Little-endian float32."""
    plain, packed_ones = written(vectors()), written(vectors(), encoding_format="base64")
    for left, right in zip(plain["data"], packed_ones["data"], strict=True):
        assert array.array("f", base64.b64decode(right["embedding"])) == array.array("f", left["embedding"])


def test_a_long_answer_comes_in_pieces() -> None:
    """Between two pieces others get their turn; together they are one JSON document."""
    many = vectors([[float(at)] * 512 for at in range(300)])
    request, _ = read_embedding(body_of(input="a"))
    pieces = list(answer(request, many))
    assert len(pieces) == 2 + 300 * 512 // (1 << 16) + 1
    assert [each["embedding"][0] for each in json.loads(b"".join(pieces))["data"]] == list(range(300))


def test_dimensions_are_the_first_ones() -> None:
    """Brought back to length 1 if the whole vector had that, else left as they are."""
    plain = written(vectors(), dimensions=2)["data"]
    assert plain[0]["embedding"] == [3.0, 4.0]
    unit = written(vectors(normalized=True), dimensions=2)["data"]
    assert unit[0]["embedding"] == pytest.approx([0.6, 0.8], abs=1e-7)
    assert math.hypot(*unit[1]["embedding"]) == pytest.approx(1)
    whole = written(vectors(normalized=True), dimensions=4)["data"]
    assert whole[0]["embedding"] == ROWS[0]


def test_a_zero_vector_stays_zero() -> None:
    """An empty text has no direction, in any number of dimensions."""
    body = written(vectors([[0.0] * 4], normalized=True), dimensions=2)
    assert body["data"][0]["embedding"] == [0.0, 0.0]


def test_more_dimensions_than_there_are_is_a_400() -> None:
    """With the number that there are."""
    check_dimensions(4, 4)
    check_dimensions(None, 4)
    with pytest.raises(BadRequest, match="at most 4") as refused:
        check_dimensions(5, 4)
    assert refused.value.param == "dimensions"


SPARSE = [{"17": 0.25, "4": 0.5}, {}]


def test_sparse_alone_has_an_empty_embedding() -> None:
    """Clients that read `embedding` find a list."""
    made = vectors(dense=memoryview(b""), sparse=SPARSE)
    data = written(made, embedding_type="sparse")["data"]
    assert [each["embedding"] for each in data] == [[], []]
    assert [each["sparse_embedding"] for each in data] == SPARSE


def test_dense_with_sparse() -> None:
    """Both in one object."""
    data = written(vectors(sparse=SPARSE), return_sparse=True)["data"]
    assert data[0]["embedding"] == ROWS[0]
    assert data[0]["sparse_embedding"] == SPARSE[0]
    assert "colbert_embedding" not in data[0]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_colbert_is_a_list_of_vectors(encoding: str) -> None:
    """As many as the input has tokens."""
    made = vectors(dense=memoryview(b""), colbert=[packed([ROWS[0], ROWS[1]]), packed([ROWS[0]])])
    data = written(made, embedding_type="colbert", encoding_format=encoding)["data"]
    if encoding == "base64":
        for each in data:
            each["embedding"] = [list(array.array("f", base64.b64decode(v))) for v in each["embedding"]]
    assert data[0]["embedding"][0] == ROWS[0]
    assert [len(each["embedding"]) for each in data] == [2, 1]


def test_colbert_beside_dense() -> None:
    """All three kinds in one answer."""
    made = vectors(sparse=SPARSE, colbert=[packed([ROWS[0]]), packed([ROWS[1]])])
    data = written(made, return_sparse=True, return_colbert=True)["data"]
    assert (data[0]["embedding"], data[0]["colbert_embedding"]) == (ROWS[0], [ROWS[0]])
    assert data[0]["sparse_embedding"] == SPARSE[0]


def test_what_was_cut_is_told() -> None:
    """Only if something was."""
    assert "truncated" not in written(vectors())
    body = written(vectors(cut=(Cut(1, 900, 512),)))
    assert body["truncated"] == [{"index": 1, "tokens": 900, "kept": 512}]
