"""From a request to its vectors: what is done in which thread, and what next.

A direct model computes requests, or large slices of them, one after another. A batched one reads slices in
one thread, while another computes batches of whatever has been read. When the model is idle a request
starts at once; what arrives while it computes is the company in the next batch.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

from inglenook.workers.embedding.asking import Ask, EmbedAsk, RerankAsk
from inglenook.workers.embedding.backends.base import (
    Backend,
    BadTokens,
    Batched,
    Direct,
    Embedded,
    Encoded,
    NotSupported,
    Reranker,
    TooLong,
    Vectors,
)
from inglenook.workers.embedding.checking import BadOutput, check_shape
from inglenook.workers.embedding.compute import Pump, Step, Thread
from inglenook.workers.embedding.jobs import Job
from inglenook.workers.embedding.waiting import Entry, Room, Turns, by_job

DIRECT_INPUTS = 4096
DIRECT_CHARACTERS = 1 << 20
READ_INPUTS = 64
READ_CHARACTERS = 1 << 16
ROOM_TEXTS = 512
"""How many texts are read ahead."""
ROOM_MOST = 2048
"""How many texts may wait before new requests have to wait unread."""

Reading: TypeAlias = Callable[[Ask, range], Encoded]


@dataclass
class Counts:
    """What has happened since the start."""

    batches: int = 0
    texts: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    """What was computed for those tokens; tells how well texts of a length came together."""
    retries: int = 0
    dropped: int = 0
    """Requests whose client left before the answer."""
    refused: int = 0
    """Requests that found the queue full."""


class Line(Protocol):
    """A way from requests to vectors."""

    @property
    def pumps(self) -> Sequence[Pump]:
        """Return what has to run for anything to happen."""
        ...

    def add(self, job: Job) -> None:
        """Take on ``job``."""
        ...


class DirectLine:
    """For `Direct` models."""

    def __init__(self, backend: Direct, thread: Thread, counts: Counts) -> None:
        self._backend = backend
        self._counts = counts
        self._turns = Turns(count=DIRECT_INPUTS, total=DIRECT_CHARACTERS)
        self._pump = Pump(thread, self._next)
        self.pumps = (self._pump,)

    def add(self, job: Job) -> None:
        """Take on ``job``."""
        self._turns.add(job)
        self._pump.wake()

    def _next(self) -> Step | None:
        turn = self._turns.next()
        if turn is None:
            return None
        job, part = turn
        return Step(
            partial(self._embed, job.ask, part),
            partial(self._take, job, part),
            partial(_fail, [job], begin=part.start),
        )

    def _embed(self, ask: Ask, part: range) -> Embedded:
        inputs = ask.inputs[part.start : part.stop]
        made = self._backend.embed(inputs, ask.kinds, truncate=ask.truncate)
        check_shape(made.vectors, len(part), self._backend.facts.dimension, ask.kinds)
        return made

    def _take(self, job: Job, part: range, made: Embedded) -> None:
        tokens = sum(made.tokens)
        self._counts.batches += 1
        self._counts.texts += len(part)
        self._counts.tokens += tokens
        self._counts.padded_tokens += tokens
        job.note(made, part)
        job.take(part, made.vectors, range(len(part)))


class BatchedLine:
    """For `Batched` models and rerankers."""

    def __init__(self, backend: Batched | Reranker, thread: Thread, counts: Counts) -> None:
        self._backend = backend
        self._read = reading(backend)
        self._counts = counts
        batching = backend.facts.batching
        self._room = Room(most=batching.most, overhead=batching.overhead)
        self._short = self._reader_of("reader")
        # Megabytes of text take seconds to read: whoever sends less does not wait for that.
        self._long = self._reader_of("reader of long texts")
        threads = [thread, *(Thread(f"compute {lane}") for lane in range(1, batching.lanes))]
        self._lanes = [Pump(each, self._next_to_compute) for each in threads]
        self._computing: set[int] = set()
        self.pumps = (self._short[1], self._long[1], *self._lanes)

    def add(self, job: Job) -> None:
        """Take on ``job``."""
        turns, pump = self._long if max(job.sizes) > READ_CHARACTERS else self._short
        turns.add(job)
        pump.wake()

    def _reader_of(self, name: str) -> tuple[Turns, Pump]:
        turns = Turns(count=READ_INPUTS, total=READ_CHARACTERS)
        return turns, Pump(Thread(name), partial(self._next_to_read, turns))

    def _next_to_read(self, turns: Turns) -> Step | None:
        waiting = len(self._room)
        turn = turns.next(only_new=waiting >= ROOM_TEXTS) if waiting < ROOM_MOST else None
        if turn is None:
            return None
        job, part = turn
        return Step(
            partial(self._read, job.ask, part),
            partial(self._admit, job, part),
            partial(_fail, [job], begin=part.start),
        )

    def _admit(self, job: Job, part: range, encoded: Encoded) -> None:
        job.note(encoded, part)
        self._room.admit(job, encoded, part)
        self._wake_lanes()

    def _wake_lanes(self) -> None:
        for lane in self._lanes:
            lane.wake()

    def _next_to_compute(self) -> Step | None:
        batch = self._room.next()
        # There may be space again.
        self._short[1].wake()
        self._long[1].wake()
        if batch is None:
            return None
        alone = not self._computing and not len(self._room)
        self._computing.add(id(batch))
        return Step(
            partial(self._compute, batch, alone=alone),
            partial(self._take, batch),
            partial(self._retry, batch),
        )

    def _compute(self, batch: Sequence[Entry], *, alone: bool) -> Vectors:
        kinds = frozenset().union(*(entry.job.ask.kinds for entry in batch))
        vectors = self._backend.compute([entry.item for entry in batch], kinds, alone=alone)
        return check_shape(vectors, len(batch), self._backend.facts.dimension or 1, kinds)

    def _take(self, batch: Sequence[Entry], vectors: Vectors) -> None:
        self._computing.discard(id(batch))
        self._counts.batches += 1
        self._counts.texts += len(batch)
        self._counts.tokens += sum(entry.tokens for entry in batch)
        self._counts.padded_tokens += len(batch) * max(entry.tokens for entry in batch)
        rows = {id(entry): row for row, entry in enumerate(batch)}
        for part in by_job(batch):
            places = [entry.place for entry in part]
            part[0].job.take(places, vectors, [rows[id(entry)] for entry in part])

    def _retry(self, batch: Sequence[Entry], failure: Exception) -> None:
        self._computing.discard(id(batch))
        jobs = [part[0].job for part in by_job(batch)]
        if len(jobs) == 1:
            _fail(jobs, failure)
        else:
            self._counts.retries += 1
            self._room.try_alone(batch)
            self._wake_lanes()


def line_of(backend: Backend, thread: Thread, counts: Counts) -> Line:
    """Return the way that fits ``backend``, which computes in ``thread``."""
    if isinstance(backend, Direct):
        return DirectLine(backend, thread, counts)
    return BatchedLine(backend, thread, counts)


def reading(backend: Batched | Reranker) -> Reading:
    """Return a function that reads one slice of a request."""

    def read(ask: Ask, part: range) -> Encoded:
        inputs = ask.inputs[part.start : part.stop]
        if isinstance(backend, Reranker) and isinstance(ask, RerankAsk):
            encoded = backend.read_pairs(ask.query, ask.inputs[part.start : part.stop], truncate=ask.truncate)
        elif isinstance(backend, Batched) and isinstance(ask, EmbedAsk):
            encoded = backend.read(inputs, truncate=ask.truncate)
        else:
            raise NotSupported("This model is of the other kind.")
        if not len(encoded.items) == len(encoded.tokens) == len(part):
            raise BadOutput("the number of texts read is wrong")
        return encoded

    return read


def _fail(jobs: Sequence[Job], failure: Exception, *, begin: int = 0) -> None:
    if not isinstance(failure, TooLong | NotSupported | BadTokens):
        sys.stderr.write("E embedding: a request failed\n" + "".join(traceback.format_exception(failure)))
        sys.stderr.flush()
    for job in jobs:
        job.fail(failure, begin=begin)
