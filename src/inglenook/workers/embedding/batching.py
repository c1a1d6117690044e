"""Which texts to compute together. Pure: lengths in, places out.

A batch costs as many tokens as its longest text has, times its texts, and something on top for being a
batch at all. Padding short texts to long ones wastes time, and so do many small batches.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np


def cut(lengths: Sequence[int], *, most: int, overhead: int) -> list[range]:
    """Cut ``lengths``, which ascend, into consecutive batches at the least cost.

    A batch of n texts up to length m costs ``overhead + n * m``, and n * m is at most ``most`` unless the
    batch has one text. Return the batches in order, as ranges of places in ``lengths``.
    """
    size = np.asarray(lengths, dtype=np.int64)
    count = len(size)
    # best[i] is the least cost of the first i texts, and came[i] where the last batch of that begins.
    best = np.zeros(count + 1, dtype=np.int64)
    came = [0] * (count + 1)
    places = np.arange(count + 1)
    for end in range(1, count + 1):
        longest = max(1, int(size[end - 1]))
        first = max(0, end - max(1, most // longest))
        costs = best[first:end] + (end - places[first:end]) * longest
        choice = int(costs.argmin())
        best[end] = costs[choice] + overhead
        came[end] = first + choice
    return [range(*ends) for ends in pairwise(_ends(came))]


def slices(sizes: Sequence[int], *, count: int, total: int) -> Iterator[range]:
    """Cut ``sizes`` in order into slices of at most ``count`` places and ``total`` size.

    A size over ``total`` makes a slice alone.
    """
    begin, held = 0, 0
    for place, size in enumerate(sizes):
        if place > begin and (place - begin >= count or held + size > total):
            yield range(begin, place)
            begin, held = place, 0
        held += size
    if sizes:
        yield range(begin, len(sizes))


def _ends(came: Sequence[int]) -> list[int]:
    ends = [len(came) - 1]
    while ends[-1] > 0:
        ends.append(came[ends[-1]])
    return ends[::-1]
