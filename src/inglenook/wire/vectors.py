"""Texts to be embedded or compared, and what an engine made of them. Pure values.

Numbers stay the little-endian float32 that they came as: nothing here turns them into Python objects.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from inglenook.errors import EngineError

Kind = Literal["dense", "sparse", "colbert"]
Scale = Literal["logit", "unit", "cosine"]
FLOAT = 4
"""Bytes of one number."""
NOTHING = memoryview(b"")


@dataclass(frozen=True)
class EmbedJob:
    """Texts or lists of token ids, and what is wanted of each."""

    inputs: Sequence[str | Sequence[int]]
    kinds: tuple[Kind, ...] = ("dense",)
    truncate: bool = False

    @property
    def is_tokens(self) -> bool:
        return bool(self.inputs) and not isinstance(self.inputs[0], str)


@dataclass(frozen=True)
class RerankJob:
    """Texts to be compared with a query."""

    query: str
    texts: Sequence[str]
    truncate: bool = False


@dataclass(frozen=True)
class Cut:
    """An input that was longer than the model reads. ``index`` is ``None`` for the query of a reranking."""

    index: int | None
    tokens: int
    kept: int


@dataclass(frozen=True)
class TooLong:
    """An engine's refusal of an input. ``index`` is ``None`` where the engine does not say which."""

    index: int | None
    given: int
    limit: int


@dataclass(frozen=True)
class Vectors:
    """What an engine made of ``count`` inputs, in their order."""

    count: int
    dimension: int
    tokens: int
    """Of all inputs together, as the model counts them."""
    normalized: bool
    """Whether dense vectors have length 1."""
    dense: memoryview = NOTHING
    """``count * dimension`` numbers; empty when they were not asked for."""
    sparse: Sequence[dict[str, float]] = ()
    """Of each input, token id to weight."""
    colbert: Sequence[memoryview] = ()
    """Of each input, one vector of ``dimension`` for each of its tokens."""
    cut: tuple[Cut, ...] = ()

    def row(self, index: int) -> memoryview:
        """The dense vector of one input."""
        size = self.dimension * FLOAT
        return self.dense[index * size : (index + 1) * size]


@dataclass(frozen=True)
class Scores:
    """How well each text fits the query, as the model says it."""

    values: Sequence[float]
    scale: Scale
    """``logit``: any number, to be put through a sigmoid; ``unit``: 0 to 1; ``cosine``: -1 to 1."""
    tokens: int
    cut: tuple[Cut, ...] = ()


def floats(numbers: memoryview) -> array.array[float]:
    """The numbers, to be computed with."""
    values = array.array("f")
    values.frombytes(numbers)
    return values


def check_finite(numbers: memoryview, dimension: int) -> None:
    """Raise ``EngineError`` naming the first vector that has a NaN or an infinity."""
    # Both have all bits of the exponent set, so their highest byte is one of two: no number is made of
    # the bytes unless one of them turns up.
    # (A copy first: taking every fourth byte of a view is ten times slower than of bytes.)
    highest = numbers.tobytes()[FLOAT - 1 :: FLOAT]
    if b"\x7f" not in highest and b"\xff" not in highest:
        return
    for at, value in enumerate(floats(numbers)):
        if not isfinite(value):
            raise EngineError(
                f"Embedding backend returned non-finite vector values at index {at // dimension}."
            )


def mismatched_count() -> EngineError:
    """The engine answered with more or fewer vectors than there were inputs."""
    return EngineError("Embedding backend returned mismatched vector count.")


def wrong_dimension(index: int, expected: int, got: int) -> EngineError:
    """The engine answered with a vector that is not as long as the model's others."""
    return EngineError(
        f"Embedding backend returned invalid vector dimension at index {index}: "
        f"expected {expected}, got {got}."
    )
