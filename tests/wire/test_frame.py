"""Answers of the embedding workers: read when they are right, refused when anything about them is not."""

from __future__ import annotations

import array
import json
import struct
from typing import Any

import pytest

from inglenook.errors import EngineError
from inglenook.wire.frame import embed_body, read_scores, read_vectors, rerank_body
from inglenook.wire.vectors import Cut, EmbedJob, RerankJob

Json = dict[str, Any]
JOB = EmbedJob(["a", "b"])
ALL = EmbedJob(["a", "b"], ("colbert", "dense", "sparse"))
PAIRS = RerankJob("q", ["a", "b"])
HEAD: Json = {"count": 2, "dimension": 3, "tokens": [3, 4], "truncated": [], "normalized": True}
SCORES: Json = {"count": 2, "tokens": [3, 4], "truncated": [[1, 900]], "scale": "logit"}


def framed(head: Json | bytes, numbers: list[float]) -> bytes:
    raw = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<I", len(raw)) + raw + array.array("f", numbers).tobytes()


def test_what_a_worker_is_asked() -> None:
    """Texts or token ids, never both."""
    assert json.loads(embed_body(JOB)) == {"texts": ["a", "b"], "kinds": ["dense"], "truncate": False}
    assert json.loads(embed_body(EmbedJob([[1, 2]], truncate=True))) == {
        "tokens": [[1, 2]],
        "kinds": ["dense"],
        "truncate": True,
    }
    assert json.loads(rerank_body(PAIRS)) == {"query": "q", "texts": ["a", "b"], "truncate": False}


def test_dense() -> None:
    """Rows of numbers, tokens summed."""
    made = read_vectors(JOB, framed(HEAD, [1, 2, 3, 4, 5, 6]))
    assert made.row(1).cast("f").tolist() == [4, 5, 6]
    assert (made.tokens, made.dimension, made.normalized, made.cut) == (7, 3, True, ())


def test_all_kinds() -> None:
    """Dense first, then the vectors of each text's tokens."""
    head = HEAD | {"sparse": [{"5": 0.5}, {}], "colbert": [1, 2], "truncated": [[0, 600]]}
    made = read_vectors(ALL, framed(head, [float(at) for at in range(15)]))
    assert made.row(1).cast("f").tolist() == [3, 4, 5]
    assert [len(numbers) for numbers in made.colbert] == [12, 24]
    assert made.colbert[1].cast("f").tolist() == [9, 10, 11, 12, 13, 14]
    assert made.sparse == [{"5": 0.5}, {}]
    assert made.cut == (Cut(0, 600, 3),)


def test_scores() -> None:
    """One number a pair, and what it means."""
    made = read_scores(PAIRS, framed(SCORES, [0.5, -2.0]))
    assert (list(made.values), made.scale, made.tokens) == ([0.5, -2.0], "logit", 7)
    assert made.cut == (Cut(1, 900, 4),)


NAN, INF = float("nan"), float("inf")
WRONG: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "cannot be read"),
    ("no head", framed(b"", []), "cannot be read"),
    ("a head beyond the end", struct.pack("<I", 9999) + b"{}", "cannot be read"),
    ("no JSON", framed(b"{", []), "cannot be read"),
    ("another JSON", framed(b"[]", []), "cannot be read"),
    ("deep JSON", framed(b"[" * 5000, []), "cannot be read"),
    ("too few vectors", framed(HEAD | {"count": 1}, [1, 2, 3]), "mismatched vector count"),
    ("too few token counts", framed(HEAD | {"tokens": [1]}, [0] * 6), "mismatched vector count"),
    ("no dimension", framed(HEAD | {"dimension": 0}, []), "index 0: expected 1, got 0"),
    ("short vectors", framed(HEAD, [1, 2, 3, 4]), "index 0: expected 3, got 2"),
    ("long vectors", framed(HEAD, [0] * 8), "index 0: expected 3, got 4"),
    ("NaN", framed(HEAD, [1, 2, 3, 4, NAN, 6]), "non-finite vector values at index 1"),
    ("infinity", framed(HEAD, [1, INF, 3, 4, 5, 6]), "non-finite vector values at index 0"),
    ("minus infinity", framed(HEAD, [1, 2, 3, 4, 5, -INF]), "non-finite vector values at index 1"),
    ("a cut text that is none", framed(HEAD | {"truncated": [[2, 9]]}, [0] * 6), "cannot be read"),
]


@pytest.mark.parametrize(("body", "says"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_answer_is_an_error(body: bytes, says: str) -> None:
    """Never passed on."""
    with pytest.raises(EngineError, match=says):
        read_vectors(JOB, body)


@pytest.mark.parametrize(
    "head",
    [
        HEAD | {"colbert": [1, 1]},
        HEAD | {"sparse": [{}], "colbert": [1, 1]},
        HEAD | {"sparse": [{}, {}]},
        HEAD | {"sparse": [{}, {}], "colbert": [2]},
        HEAD | {"sparse": [{}, {}], "colbert": [3, -1]},
        HEAD | {"sparse": [{"5": "x"}, {}], "colbert": [1, 1]},
    ],
)
def test_kinds_that_are_missing_or_wrong(head: Json) -> None:
    """Each kind that was asked for has to be there for each input."""
    with pytest.raises(EngineError):
        read_vectors(ALL, framed(head, [0.0] * 12))


@pytest.mark.parametrize(
    ("head", "numbers"),
    [(SCORES, [0.5]), (SCORES | {"count": 3}, [0.5] * 3), (SCORES, [0.5, NAN]), (HEAD, [0.5, 0.5])],
)
def test_wrong_scores(head: Json, numbers: list[float]) -> None:
    """Too few, too many, no numbers, or something else."""
    with pytest.raises(EngineError):
        read_scores(PAIRS, framed(head, numbers))


def test_the_largest_finite_numbers_pass() -> None:
    """Their highest byte is that of an infinity."""
    numbers = [3.4e38, -3.4e38, 1e-45, -0.0, 1.0, 2.0]
    assert read_vectors(JOB, framed(HEAD, numbers)).row(0).cast("f")[0] > 3e38
