"""The deterministic model, through the real program: the values are a contract."""

import numpy as np
import pytest

from tests.workers.embedding.conftest import Start
from tests.workers.embedding.running import Running

HELLO = [0.26784691, -0.01823026, 0.30878732, 0.25869733, 0.30027407, -0.57882291, -0.42123741, -0.40374544]
LETTER = [-0.53650671, -0.40212321, 0.41895700, -0.19144486, 0.19003162, 0.42543602, -0.03311375, -0.34652123]
RAW = [0.33289126, -0.02265733, 0.38377368, 0.32151979, 0.37319309, -0.71938509, -0.52353132, -0.50179160]
FIRST_OF_768 = [0.02140237, -0.00145669, 0.02467373, 0.02067127, 0.02399348]


@pytest.fixture(scope="module")
def small(start: Start) -> Running:
    """Return a worker with vectors of length 8."""
    return start("--backend", "deterministic", "--dimension", "8")


def test_vectors_are_the_golden_ones(small: Running) -> None:
    """Eight dimensions, normalised; nothing gives zeros."""
    answer = small.embed("hello world", "a", "")
    assert answer.status == 200
    np.testing.assert_allclose(answer.dense, np.array([HELLO, LETTER, [0.0] * 8]), atol=1e-6, rtol=0)
    assert answer.head == {
        "count": 3,
        "tokens": [2, 1, 0],
        "truncated": [],
        "dimension": 8,
        "normalized": True,
    }


def test_without_normalisation(start: Start) -> None:
    """The flag leaves the values as they are."""
    worker = start("--backend", "deterministic", "--dimension", "8", "--no-normalize")
    answer = worker.embed("hello world")
    np.testing.assert_allclose(answer.dense, [RAW], atol=1e-6, rtol=0)
    assert answer.head["normalized"] is False


def test_the_default_has_768_dimensions(start: Start) -> None:
    """Golden at both ends."""
    worker = start("--backend", "deterministic")
    vector = worker.embed("hello world").dense[0]
    assert vector.shape == (768,)
    np.testing.assert_allclose(vector[:5], FIRST_OF_768, atol=1e-6, rtol=0)
    np.testing.assert_allclose(vector[-1], 0.05301752, atol=1e-6, rtol=0)
    assert worker.get("/props").head == {
        "dimension": 768,
        "context": 0,
        "normalized": True,
        "kinds": ["dense"],
        "tasks": ["embed"],
        "scale": None,
    }


def test_words_are_what_stands_between_spaces(small: Running) -> None:
    """Any white space, any script."""
    assert small.embed("a b", "c d\te\n", " ", "漢字 🦉").head["tokens"] == [2, 3, 0, 2]


def test_many_texts_come_back_in_order(small: Running) -> None:
    """More than are computed at a time."""
    texts = [f"text {number}" for number in range(10_000)]
    answer = small.embed(*texts)
    assert answer.dense.shape == (10_000, 8)
    assert (answer.dense[[0, 5000, 9999]] == small.embed(*(texts[n] for n in (0, 5000, 9999))).dense).all()


def test_it_takes_no_token_ids_and_makes_no_other_kind(small: Running) -> None:
    """Both are said to be the model's limits."""
    assert small.post("/embed", {"tokens": [[1]]}).error["type"] == "not_supported_error"
    assert small.embed("a", kinds=["sparse"]).error["type"] == "not_supported_error"
    assert small.post("/rerank", {"query": "a", "texts": ["b"]}).error["type"] == "not_supported_error"
