"""What waits: requests to be read, and texts that have been read and wait for a batch.

Requests take turns, so that a large one does not keep a small one waiting. Only the event loop touches
what is here, and nothing here computes.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from inglenook.workers.embedding.backends.base import Encoded
from inglenook.workers.embedding.batching import cut, slices
from inglenook.workers.embedding.jobs import Job


class Turns:
    """Requests in turn, each giving one slice of its inputs at a time; new ones come first."""

    def __init__(self, *, count: int, total: int) -> None:
        self._count = count
        self._total = total
        self._new: deque[Job] = deque()
        self._begun: deque[tuple[Job, deque[range]]] = deque()

    def add(self, job: Job) -> None:
        """Put ``job`` in line."""
        self._new.append(job)

    def next(self, *, only_new: bool = False) -> tuple[Job, range] | None:
        """Return the next slice, or None when there is none. Jobs that are over give no more."""
        while self._new:
            job = self._new.popleft()
            if not job.over:
                return self._slice_of(job, deque(slices(job.sizes, count=self._count, total=self._total)))
        while self._begun and not only_new:
            job, parts = self._begun.popleft()
            if not job.over:
                return self._slice_of(job, parts)
        return None

    def _slice_of(self, job: Job, parts: deque[range]) -> tuple[Job, range]:
        part = parts.popleft()
        if parts:
            self._begun.append((job, parts))
        return job, part


@dataclass(frozen=True, slots=True)
class Entry:
    """One text, or pair, that waits for a batch."""

    job: Job
    place: int
    tokens: int
    item: object


class Room:
    """The texts that wait for a batch.

    The job that was served longest ago has a text in the next batch, together with whatever is near that
    text in length.
    """

    def __init__(self, *, most: int, overhead: int) -> None:
        self._most = most
        self._overhead = overhead
        self._loose: list[Entry] = []
        """Those that came, or stayed, since batches were last cut."""
        self._batches: list[list[Entry]] = []
        self._jobs: deque[Job] = deque()
        """Every job that has an entry here, the one served longest ago first."""
        self._alone: deque[list[Entry]] = deque()
        """Parts of batches that failed, a job each."""

    def __len__(self) -> int:
        """Return how many texts wait."""
        return len(self._loose) + sum(map(len, self._batches))

    def admit(self, job: Job, encoded: Encoded, part: range) -> None:
        """Let the texts of one slice in."""
        both = zip(part, encoded.tokens, encoded.items, strict=True)
        self._loose += [Entry(job, place, tokens, item) for place, tokens, item in both]
        if job not in self._jobs:
            self._jobs.append(job)

    def next(self) -> list[Entry] | None:
        """Take the next batch out, or return None when nothing waits."""
        self._forget_the_dead()
        if self._alone:
            return self._alone.popleft()
        if self._loose:
            self._cut()
        return self._take_out() if self._batches else None

    def try_alone(self, batch: Sequence[Entry]) -> None:
        """Make each job of a batch that failed a batch of its own, taken out before all others."""
        self._alone += by_job(batch)

    def _cut(self) -> None:
        waiting = sorted((*self._loose, *chain(*self._batches)), key=_tokens)
        lengths = list(map(_tokens, waiting))
        ranges = cut(lengths, most=self._most, overhead=self._overhead)
        self._batches = [waiting[each.start : each.stop] for each in ranges]
        self._loose = []

    def _take_out(self) -> list[Entry]:
        first = self._jobs[0]
        choice = next(n for n, batch in enumerate(self._batches) if any(each.job is first for each in batch))
        batch = self._batches.pop(choice)
        left = {id(entry.job) for entry in chain(*self._batches)}
        served = by_job(batch)
        for job in (part[0].job for part in served):
            self._jobs.remove(job)
            if id(job) in left:
                self._jobs.append(job)
        return batch

    def _forget_the_dead(self) -> None:
        if not any(job.over for job in self._jobs) and not self._alone:
            return
        self._jobs = deque(job for job in self._jobs if not job.over)
        # A batch that has lost some need not be the best any more.
        self._loose += chain(*self._batches)
        self._batches = []
        self._loose = _living(self._loose)
        self._alone = deque(batch for batch in map(_living, self._alone) if batch)


def by_job(batch: Iterable[Entry]) -> list[list[Entry]]:
    """Return the entries of each job in ``batch``."""
    parts: dict[int, list[Entry]] = {}
    for entry in batch:
        parts.setdefault(id(entry.job), []).append(entry)
    return list(parts.values())


def _living(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if not entry.job.over]


def _tokens(entry: Entry) -> int:
    return entry.tokens
