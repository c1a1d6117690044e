"""Many streams at once: every read timestamped, every byte checked, and our own lateness told apart
from theirs.
"""

from __future__ import annotations

import hashlib
import select
import socket
import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

from inglenook.bench import exchange, jobs
from inglenook.bench.exchange import Pace
from inglenook.bench.reply import Garbled, Reply
from inglenook.bench.sockets import chat_request, connect
from inglenook.bench.statistics import Span

BEAT_SECONDS = 0.005
LATE_SECONDS = 0.005
LONG_GAP_SECONDS = 0.04
MAX_NOTED = 20_000


@dataclass(frozen=True)
class Expected:
    """What a stream of the mock must carry, byte for byte, and where in it each event ends."""

    payload: bytes
    ends: list[int]
    text: str

    @classmethod
    def of(cls, deltas: int) -> Expected:
        events = exchange.stream_events(deltas, usage=True)
        ends = list(accumulate(len(event) for event in events))
        return cls(b"".join(events), ends, exchange.stream_text(deltas))


class Stream:
    """One stream: its bytes compared as they come, kept only from where they first differ."""

    __slots__ = ("_expected", "_kept", "_matched", "begun", "first", "last", "problem", "reply", "sock")

    def __init__(self, sock: socket.socket, expected: Expected | None) -> None:
        self.sock = sock
        self.reply = Reply()
        self.begun = time.monotonic()
        self.first = 0.0  # when its first event came
        self.last = 0.0  # when its latest bytes came
        self.problem = ""
        self._expected = expected
        self._matched = 0
        self._kept: list[bytes] | None = None if expected else []

    def take(self, part: bytes) -> None:
        if self._kept is not None:
            self._kept.append(part)
        elif self._expected and self._expected.payload.startswith(part, self._matched):
            self._matched += len(part)
        elif self._expected:
            self._kept = [self._expected.payload[: self._matched], part]

    @property
    def is_exact(self) -> bool:
        return bool(self._expected) and self._kept is None and self._matched == self._length

    @property
    def _length(self) -> int:
        return len(self._expected.payload) if self._expected else 0

    def payload(self) -> bytes:
        """All bytes it carried."""
        if self._kept is not None:
            return b"".join(self._kept)
        return self._expected.payload[: self._matched] if self._expected else b""

    def events(self) -> int:
        """How many whole events came."""
        if self._kept is None and self._expected:
            return bisect_right(self._expected.ends, self._matched)
        return exchange.hear(self.payload()).events


class Rig:
    """Begins the streams evenly over the ramp and reads them until all are done or the deadline has
    passed.
    """

    def __init__(self, job: jobs.Streams) -> None:
        self._job = job
        self.expected = None if job.bodies else Expected.of(job.deltas)
        self.streams: list[Stream] = []
        self.gaps: list[float] = []
        self.long_gaps: list[Span] = []
        self.stalls: list[Span] = []  # spans in which this process should have run and did not
        self.late_max = 0.0
        self.begun = time.monotonic()
        self._poll = select.epoll()
        self._open: dict[int, Stream] = {}
        self._raws = [chat_request(job.target, body) for body in self._bodies()]

    def _bodies(self) -> list[bytes]:
        if self._job.bodies:
            return [body.encode() for body in self._job.bodies]
        pace = Pace(self._job.deltas, self._job.interval_us)
        return [exchange.chat_body(f"{n:08d}", pace=pace) for n in range(self._job.streams)]

    def run(self) -> None:
        end = self.begun + self._job.deadline
        now = self.begun
        while (self._open or len(self.streams) < self._job.streams) and now < end:
            self._begin_due(now)
            asked = time.monotonic()
            ready = self._poll.poll(BEAT_SECONDS)
            now = time.monotonic()
            self._note_stall(asked + BEAT_SECONDS, now)
            for fd, _ in ready:
                self._read(self._open[fd], fd, now)
            # What arrived while we read this batch gets its time only with the next one.
            self._note_stall(now, time.monotonic())
        for stream in self._open.values():
            stream.problem = "unfinished at the deadline"

    def _begin_due(self, now: float) -> None:
        share = min(1.0, (now - self.begun) / self._job.ramp) if self._job.ramp else 1.0
        due = max(1, round(share * self._job.streams))
        for number in range(len(self.streams), due):
            self._begin(self._raws[number % len(self._raws)])

    def _begin(self, raw: bytes) -> None:
        sock = connect(self._job.target)
        stream = Stream(sock, self.expected)
        self.streams.append(stream)
        sock.sendall(raw)
        self._open[sock.fileno()] = stream
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _note_stall(self, due: float, now: float) -> None:
        self.late_max = max(self.late_max, now - due)
        if now - due > LATE_SECONDS and len(self.stalls) < MAX_NOTED:
            self.stalls.append((due, now))

    def _read(self, stream: Stream, fd: int, now: float) -> None:
        try:
            data = stream.sock.recv(1 << 16)
            if not data:
                raise Garbled("the connection closed inside the stream")
            part = stream.reply.feed(data)
        except (OSError, Garbled) as exc:
            stream.problem = str(exc)
            self._close(stream, fd)
            return
        if part:
            self._note_arrival(stream, now)
            stream.take(part)
        if stream.reply.is_done:
            self._close(stream, fd)

    def _note_arrival(self, stream: Stream, now: float) -> None:
        if stream.first:
            gap = now - stream.last
            self.gaps.append(gap)
            if gap > LONG_GAP_SECONDS and len(self.long_gaps) < MAX_NOTED:
                self.long_gaps.append((stream.last, now))
        else:
            stream.first = now
        stream.last = now

    def _close(self, stream: Stream, fd: int) -> None:
        self._poll.unregister(fd)
        del self._open[fd]
        stream.sock.close()


def run(job: jobs.Streams) -> dict[str, object]:
    """Run the streams of one job and tell what each figure of a round needs."""
    rig = Rig(job)
    rig.run()
    first = [(stream.first - stream.begun) * 1e3 for stream in rig.streams if stream.first]
    return {
        "streams": len(rig.streams),
        "events": sum(stream.events() for stream in rig.streams),
        "seconds": max((stream.last for stream in rig.streams), default=rig.begun) - rig.begun,
        "first_ms": first,
        "gaps_ms": _gap_figures(rig.gaps),
        "long_gaps": rig.long_gaps,
        "stalls": rig.stalls,
        "late_max_s": rig.late_max,
        "statuses": Counter(str(stream.reply.status) for stream in rig.streams),
        "problems": Counter(stream.problem for stream in rig.streams if stream.problem),
        **(_check(rig.streams, rig.expected) if rig.expected else _told(rig.streams)),
    }


def _gap_figures(gaps: list[float]) -> dict[str, float]:
    if not gaps:
        return {}
    ranked = sorted(gaps)
    return {
        "p50": ranked[len(ranked) // 2] * 1e3,
        "p99": ranked[int(len(ranked) * 0.99)] * 1e3,
        "p999": ranked[int(len(ranked) * 0.999)] * 1e3,
        "max": ranked[-1] * 1e3,
    }


def _check(streams: list[Stream], expected: Expected) -> dict[str, object]:
    """How many streams carried the mock's very bytes, or its text in other bytes, or neither."""
    differing = [stream for stream in streams if not stream.is_exact]
    heard = [exchange.hear(stream.payload()) for stream in differing]
    same_text = sum(h.text == expected.text and h.is_ended for h in heard)
    return {
        "exact": len(streams) - len(differing),
        "same_text": same_text,
        "garbled": len(differing) - same_text,
        "lost_bytes": sum(_lost(h.text, expected.text) for h in heard),
    }


def _lost(text: str, expected: str) -> int:
    """How many bytes of the expected text did not come, at their place."""
    common = next((i for i, (a, b) in enumerate(zip(text, expected, strict=False)) if a != b), None)
    return len(expected) - (min(len(text), len(expected)) if common is None else common)


def _told(streams: list[Stream]) -> dict[str, object]:
    """What streams said whose answers nobody knew beforehand."""
    heard = [exchange.hear(stream.payload()) for stream in streams]
    return {
        "tokens": [h.events if h.tokens is None else h.tokens for h in heard],
        "ended": sum(h.is_ended for h in heard),
        "texts": [hashlib.sha256(h.text.encode()).hexdigest()[:16] for h in heard],
    }
