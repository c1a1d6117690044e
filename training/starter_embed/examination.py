"""The examination: pairs of texts that the student did not learn from, with the teacher's cosines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sentences import Writer
from words import groups


@dataclass(frozen=True)
class Paper:
    """Texts, pairs of them, and which pairs are of related texts."""

    texts: list[str]
    pairs: list[tuple[int, int]]
    related: int
    """That many pairs, the first ones, are of texts of one group; the others are of any two."""


def by_hand(file: str, unrelated: int, seed: int) -> Paper:
    """All pairs within the groups of a file, and ``unrelated`` pairs across groups."""
    found = groups(file)
    return _paper([text for group in found for text in group], len(found[0]), None, unrelated, seed)


def generated(writer: Writer, count: int, unrelated: int, seed: int) -> Paper:
    """``count`` groups by the ``writer`` of the examination, and ``unrelated`` pairs across groups.

    A group: a text, the same reworded, another text on the subject, another subject in the same words.
    """
    rng = Random(seed)
    texts: list[str] = []
    while len(texts) < 4 * count:
        subject = writer.subject(rng)
        pattern = writer.pattern(subject, rng)
        first, kept = writer.sentence(subject, rng, pattern=pattern)
        again = writer.reworded(kept, rng, rng.choice((0.0, 0.25, 0.5)))
        group = [
            first,
            writer.sentence(subject, rng, pattern=pattern, kept=again)[0],
            writer.sentence(subject, rng)[0],
            writer.sentence(writer.subject(rng), rng, pattern=pattern)[0],
        ]
        if len({*texts, *group}) == len(texts) + 4:
            texts.extend(group)
    return _paper(texts, 4, [(0, 1), (0, 2), (0, 3), (1, 2)], unrelated, seed)


def _paper(
    texts: list[str], size: int, within: list[tuple[int, int]] | None, unrelated: int, seed: int
) -> Paper:
    rng = Random(seed)
    pairs = [
        (start + one, start + other)
        for start in range(0, len(texts), size)
        for one, other in (within or combinations(range(size), 2))
    ]
    related = len(pairs)
    taken = set(pairs)
    while len(pairs) < related + unrelated:
        one, other = sorted(rng.sample(range(len(texts)), 2))
        if one // size != other // size and (one, other) not in taken:
            taken.add((one, other))
            pairs.append((one, other))
    return Paper(texts, pairs, related)


def cosines(vectors: NDArray[np.float32], pairs: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Of each pair, how near its vectors (of length 1) are."""
    left, right = np.array(pairs).T
    return np.asarray((vectors[left] * vectors[right]).sum(1))


def agreement(mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(mine, theirs).statistic)
