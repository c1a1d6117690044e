"""Which texts are computed together: tables, and properties over many random cases."""

import random
from collections.abc import Sequence
from itertools import chain, combinations, pairwise

import pytest

from inglenook.workers.embedding.batching import cut, slices


def cost(lengths: Sequence[int], batches: Sequence[range], overhead: int) -> int:
    """Return what the batches cost in padded tokens."""
    return sum(overhead + len(batch) * max(1, lengths[batch[-1]]) for batch in batches)


def allowed(lengths: Sequence[int], batches: Sequence[range], most: int) -> bool:
    """Return whether every batch of more than one text keeps to the bound."""
    return all(len(batch) == 1 or len(batch) * lengths[batch[-1]] <= most for batch in batches)


def every_cut(count: int) -> list[list[range]]:
    """Return all ways to cut ``count`` texts."""
    inner = range(1, count)
    ways = chain.from_iterable(combinations(inner, size) for size in range(count))
    return [[range(*ends) for ends in pairwise((0, *way, count))] for way in ways]


@pytest.mark.parametrize(
    ("lengths", "most", "overhead", "expected"),
    [
        ([], 100, 10, []),
        ([5], 100, 10, [[5]]),
        ([5], 1, 10, [[5]]),
        ([0, 0], 1, 10, [[0], [0]]),
        ([3, 3, 3, 3], 100, 10, [[3, 3, 3, 3]]),
        ([3, 3, 3, 3], 6, 10, [[3, 3], [3, 3]]),
        ([3, 4, 100], 1000, 10, [[3, 4], [100]]),
        ([3, 4, 100], 1000, 1000, [[3, 4, 100]]),
        ([90, 100], 1000, 10, [[90, 100]]),
        ([90, 100], 199, 10, [[90], [100]]),
        ([1, 1, 1, 50, 50], 1000, 0, [[1, 1, 1], [50, 50]]),
        ([7, 7, 500], 400, 10, [[7, 7], [500]]),
    ],
)
def test_batches(lengths: list[int], most: int, overhead: int, expected: list[list[int]]) -> None:
    """Texts of a length come together, as many as the bound lets."""
    found = cut(lengths, most=most, overhead=overhead)
    found_lengths = [[lengths[place] for place in batch] for batch in found]
    assert cost(lengths, found, overhead) == sum(overhead + len(b) * max(1, b[-1]) for b in expected)
    assert found_lengths == expected or overhead == 0


def test_no_way_of_cutting_is_cheaper() -> None:
    """Of all allowed ways to cut up to eight texts, the one chosen costs least."""
    chance = random.Random(1)
    for _ in range(200):
        lengths = sorted(chance.choice((1, 3, 10, 30, 90)) for _ in range(chance.randint(1, 8)))
        most, overhead = chance.choice((20, 100, 1000)), chance.choice((0, 5, 50))
        found = cut(lengths, most=most, overhead=overhead)
        ways = [way for way in every_cut(len(lengths)) if allowed(lengths, way, most)]
        assert allowed(lengths, found, most)
        assert cost(lengths, found, overhead) == min(cost(lengths, way, overhead) for way in ways)


def test_every_text_is_in_one_batch() -> None:
    """Batches are consecutive, cover all, and keep to the bound, however many texts there are."""
    chance = random.Random(2)
    for _ in range(50):
        lengths = sorted(int(chance.lognormvariate(2.5, 1.2)) for _ in range(chance.randint(1, 400)))
        most, overhead = chance.randint(1, 3000), chance.randint(0, 100)
        found = cut(lengths, most=most, overhead=overhead)
        assert list(chain.from_iterable(found)) == list(range(len(lengths)))
        assert allowed(lengths, found, most)


@pytest.mark.parametrize(
    ("sizes", "count", "total", "expected"),
    [
        ([], 2, 10, []),
        ([1, 1, 1], 2, 10, [2, 1]),
        ([6, 5, 5], 9, 10, [1, 2]),
        ([99, 1], 9, 10, [1, 1]),
        ([1, 99, 1], 9, 10, [1, 1, 1]),
        ([0, 0, 0], 9, 0, [3]),
    ],
)
def test_slices(sizes: list[int], count: int, total: int, expected: list[int]) -> None:
    """A slice ends at whichever bound it meets first, and never is empty."""
    found = list(slices(sizes, count=count, total=total))
    assert [len(part) for part in found] == expected
    assert list(chain.from_iterable(found)) == list(range(len(sizes)))
