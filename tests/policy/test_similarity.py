"""How near texts are by their vectors."""

from __future__ import annotations

import array

import pytest

from inglenook.policy.similarity import cosines, max_similarities
from inglenook.wire.vectors import Vectors


def packed(rows: list[list[float]]) -> memoryview:
    return memoryview(array.array("f", [value for row in rows for value in row]).tobytes())


def dense(rows: list[list[float]], *, normalized: bool) -> Vectors:
    return Vectors(len(rows), len(rows[0]), 1, normalized, packed(rows))


def colbert(*texts: list[list[float]]) -> Vectors:
    return Vectors(len(texts), 2, 1, True, colbert=[packed(rows) for rows in texts])


def test_a_cosine_is_that_of_the_angle() -> None:
    """Whatever the lengths."""
    made = cosines(dense([[3, 4], [6, 8], [-3, -4], [4, -3], [1, 0]], normalized=False))
    assert made == pytest.approx([1, -1, 0, 0.6], abs=1e-6)
    assert cosines(dense([[0.6, 0.8], [0.6, 0.8], [1, 0]], normalized=True)) == pytest.approx([1, 0.6])


def test_no_direction_is_near_to_nothing() -> None:
    """An empty text has a zero vector."""
    assert cosines(dense([[0, 0], [1, 0]], normalized=False)) == [0]
    assert cosines(dense([[1, 0], [0, 0]], normalized=False)) == [0]


def test_each_vector_of_the_query_finds_its_nearest() -> None:
    """ColBERT's MaxSim, divided by the query's tokens."""
    query = colbert([[1, 0], [0, 1]])
    texts = colbert([[1, 0], [0, 1]], [[1, 0]], [[0.6, 0.8], [-1, 0]], [])
    assert max_similarities(query, texts) == pytest.approx([1, 0.5, (0.6 + 0.8) / 2, 0])


def test_an_empty_query_is_near_to_nothing() -> None:
    """No vector, no similarity."""
    assert max_similarities(colbert([]), colbert([[1, 0]])) == [0]
