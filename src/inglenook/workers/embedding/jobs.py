"""A request on its way through the worker: what is asked, and what has come back so far.

Only the event loop touches a job. Its inputs are read and computed in slices and batches, in any order;
the job puts the results into the order of the inputs, and knows when the last has come.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from inglenook.workers.embedding.asking import Ask
from inglenook.workers.embedding.backends.base import Embedded, Encoded, TooLong, Vectors
from inglenook.workers.embedding.checking import BadOutput, check_finite

Value = TypeVar("Value")


@dataclass(frozen=True)
class Answer:
    """Everything that came back for one request, in the order of its inputs."""

    vectors: Vectors
    tokens: list[int]
    truncated: list[tuple[int, int]]


class Job:
    """One request. ``done`` gets its `Answer`, or the exception that it failed with."""

    def __init__(self, ask: Ask, width: int, done: asyncio.Future[Answer]) -> None:
        self.ask = ask
        self.sizes = ask.sizes
        self.done = done
        count = len(self.sizes)
        self._left = count
        self._tokens = [0] * count
        self._truncated: list[tuple[int, int]] = []
        self._vectors = Vectors(
            dense=np.empty((count, width), np.float32) if "dense" in ask.kinds else None,
            sparse=[{}] * count if "sparse" in ask.kinds else None,
            colbert=[np.empty((0, width), np.float32)] * count if "colbert" in ask.kinds else None,
        )

    @property
    def over(self) -> bool:
        """Whether nobody waits for more: answered, failed, or left by the client."""
        return self.done.done()

    def fail(self, failure: Exception, *, begin: int = 0) -> None:
        """End the job; ``begin`` is the place of the first input of the slice that failed."""
        if self.over:
            return
        if isinstance(failure, TooLong):
            failure = TooLong(failure.index + begin, failure.length, failure.context)
        self.done.set_exception(failure)

    def note(self, read: Encoded | Embedded, part: range) -> None:
        """Take the lengths of the inputs of ``part``."""
        self._tokens[part.start : part.stop] = read.tokens
        self._truncated += [(index + part.start, before) for index, before in read.truncated]

    def take(self, places: Sequence[int], vectors: Vectors, rows: Sequence[int]) -> None:
        """Take ``rows`` of ``vectors`` as the results of the inputs at ``places``."""
        if self.over:
            return
        mine = self._vectors
        if mine.dense is not None and vectors.dense is not None:
            mine.dense[places] = vectors.dense[rows]
        _copy(mine.sparse, places, vectors.sparse, rows)
        _copy(mine.colbert, places, vectors.colbert, rows)
        self._left -= len(places)
        if self._left == 0:
            self._finish()

    def _finish(self) -> None:
        try:
            check_finite(self._vectors)
        except BadOutput as wrong:
            self.fail(wrong)
        else:
            self.done.set_result(Answer(self._vectors, self._tokens, sorted(self._truncated)))


def _copy(
    mine: list[Value] | None, places: Sequence[int], theirs: list[Value] | None, rows: Sequence[int]
) -> None:
    if mine is not None and theirs is not None:
        for place, row in zip(places, rows, strict=True):
            mine[place] = theirs[row]
