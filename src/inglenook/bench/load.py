"""The generator: a program that reads one job (`jobs`) and writes what it measured as JSON.

    python -m inglenook.bench.load < job

It uses plain sockets and epoll rather than an event loop: its own cost is part of every figure, so
it must be small and the same for every arm.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from itertools import cycle, pairwise

from inglenook.bench import exchange, jobs, streams
from inglenook.bench.reply import Garbled, Reply
from inglenook.bench.sockets import Tally, chat_request, connect, timed_exchange
from inglenook.bench.statistics import bump, percentile

NAGLE_MS = (38.0, 46.0)  # where Nagle's algorithm against a delayed acknowledgement shows


def timing(samples_ms: list[float]) -> dict[str, object]:
    """The figures given for a list of times."""
    if not samples_ms:
        return {"count": 0}
    return {
        "count": len(samples_ms),
        "p50_ms": percentile(samples_ms, 0.5),
        "p99_ms": percentile(samples_ms, 0.99),
        "max_ms": max(samples_ms),
        "nagle_bump": bump(samples_ms, *NAGLE_MS),
    }


def latency(job: jobs.Latency) -> dict[str, object]:
    """Time single requests from the first byte written to the last byte read."""
    tally = Tally()
    raws = (
        chat_request(job.target, exchange.chat_body(f"{number:08d}", size=job.size))
        for number in range(job.count)
    )
    samples = [times[-1] for times in _one_by_one(job.target, raws, job.seconds, tally)]
    return {**timing(samples), **tally.told()}


def first_token(job: jobs.FirstToken) -> dict[str, object]:
    """Time short streams to their first event, and look at the gaps between their events."""
    tally = Tally()
    raws = (
        chat_request(job.target, exchange.chat_body(f"{number:08d}", pace=exchange.FIRST_TOKEN_PACE))
        for number in range(job.count)
    )
    firsts: list[float] = []
    gaps: list[float] = []
    for times in _one_by_one(job.target, raws, job.seconds, tally):
        firsts.append(times[0])
        gaps += [after - before for before, after in pairwise(times)]
    return {**timing(firsts), "gap_nagle_bump": bump(gaps, *NAGLE_MS), **tally.told()}


def _one_by_one(
    target: jobs.Target, raws: Iterator[bytes], seconds: float, tally: Tally
) -> Iterator[list[float]]:
    """Ask on one connection, made anew after a failure; give the arrival times of each answer that came."""
    end = time.perf_counter() + seconds
    sock: socket.socket | None = None
    for raw in raws:
        try:
            sock = sock or connect(target)
            times, status, payload = timed_exchange(sock, raw)
        except (OSError, Garbled) as exc:
            tally.failures[str(exc)] += 1
            if sock:
                sock.close()
            sock = None
        else:
            tally.note(status, payload)
            yield times
        if time.perf_counter() > end:
            break
    if sock:
        sock.close()


class ClosedLoop:
    """Some connections that each ask again as soon as they have their answer."""

    def __init__(self, job: jobs.Requests) -> None:
        self.tally = Tally()
        self.samples: list[float] = []
        self._job = job
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, Reply, float]] = {}
        bodies = (exchange.chat_body(f"{n:08d}", size=job.size) for n in range(exchange.DISTINCT))
        self._raws = cycle([chat_request(job.target, body) for body in bodies])

    def run(self) -> float:
        """Ask for as long as the job says; return the seconds that took."""
        begun = time.perf_counter()
        for _ in range(self._job.connections):
            sock = connect(self._job.target)
            self._poll.register(sock.fileno(), select.EPOLLIN)
            self._ask(sock)
        while self._open and time.perf_counter() - begun < self._job.seconds:
            for fd, _ in self._poll.poll(0.1):
                self._read(fd)
        return time.perf_counter() - begun

    def _ask(self, sock: socket.socket) -> None:
        self._open[sock.fileno()] = (sock, Reply(), time.perf_counter())
        sock.sendall(next(self._raws))

    def _read(self, fd: int) -> None:
        sock, reply, sent = self._open[fd]
        try:
            data = sock.recv(1 << 16)
            if not data:
                raise Garbled("the connection closed inside an answer")
            reply.feed(data)
            if reply.is_done:
                self.samples.append((time.perf_counter() - sent) * 1e3)
                self.tally.statuses[reply.status] += 1
                self._ask(sock)
        except (OSError, Garbled) as exc:
            self.tally.failures[str(exc)] += 1
            self._poll.unregister(fd)
            del self._open[fd]
            sock.close()


def requests(job: jobs.Requests) -> dict[str, object]:
    """The closed loop, for machines without wrk."""
    loop = ClosedLoop(job)
    seconds = loop.run()
    return {**timing(loop.samples), "seconds": seconds, **loop.tally.told()}


def idle(job: jobs.Idle, held: contextlib.ExitStack) -> dict[str, object]:
    """Open connections that each have one answer; they stay open as long as ``held``."""
    raw = chat_request(job.target, exchange.chat_body("idle", size=1000))
    tally = Tally()
    for _ in range(job.connections):
        sock = held.enter_context(contextlib.closing(connect(job.target)))
        _, status, payload = timed_exchange(sock, raw)
        tally.note(status, payload)
    return tally.told()


def perform(job: jobs.Job, held: contextlib.ExitStack) -> dict[str, object]:
    """Do one job and give what was measured."""
    match job:
        case jobs.Latency():
            return latency(job)
        case jobs.FirstToken():
            return first_token(job)
        case jobs.Requests():
            return requests(job)
        case jobs.Streams():
            return streams.run(job)
        case jobs.Idle():
            return idle(job, held)


def main() -> int:
    with contextlib.ExitStack() as held:
        measured = perform(jobs.decode(sys.stdin.readline()), held)
        sys.stdout.write(json.dumps(measured) + "\n")
        sys.stdout.flush()
        # Whoever gave the job ends it: idle connections are measured after they were reported.
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
