"""Streams are counted and checked right, against servers that behave and one that does not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from inglenook.bench import arms, exchange, jobs, streams
from inglenook.bench.arms import Place
from inglenook.bench.jobs import Target
from inglenook.bench.processes import free_port, started

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
EVENTS = exchange.stream_events(3, usage=True)


@contextlib.contextmanager
def canned(answer: bytes) -> Iterator[Target]:
    """A server that gives one answer to one request, whatever that is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1 << 16)
                sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Target(port=listener.getsockname()[1])
        thread.join()


def chunked(payload: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(payload), payload)


def one(target: Target) -> jobs.Streams:
    return jobs.Streams(target, streams=1, deltas=3, interval_us=0, ramp=0.0, deadline=10.0)


def test_many_streams_of_the_mock(tmp_path: Path) -> None:
    """Every byte of every stream, and a gap for every event but the first."""
    place = Place(tmp_path, free_port(), tmp_path / "mock.sock", free_port())
    with started(arms.mock(place), tmp_path, None):
        target = Target(port=place.mock_port)
        told = streams.run(jobs.Streams(target, 20, 10, 5000, ramp=0.05, deadline=20.0))
    assert (told["streams"], told["exact"], told["garbled"], told["lost_bytes"]) == (20, 20, 0, 0)
    assert told["events"] == 20 * len(exchange.stream_events(10, usage=True))
    assert told["statuses"] == {"200": 20}
    assert told["problems"] == {}
    gaps = told["gaps_ms"]
    assert isinstance(gaps, dict)
    assert 0 < gaps["p50"] <= gaps["p99"] <= gaps["max"]


@pytest.mark.parametrize(
    ("payload", "exact", "same_text", "garbled", "lost"),
    [
        (b"".join(EVENTS), 1, 0, 0, 0),
        (b"".join(EVENTS).replace(b'"mock"', b'"other"'), 0, 1, 0, 0),
        (b"".join([*EVENTS[:2], *EVENTS[3:]]), 0, 0, 1, 12),
        (b"".join(EVENTS[:-1]), 0, 0, 1, 0),
        (b"", 0, 0, 1, len(exchange.stream_text(3))),
    ],
    ids=["exact", "rewritten", "lost delta", "no end", "empty"],
)
def test_what_differs_is_told_apart(
    payload: bytes, exact: int, same_text: int, garbled: int, lost: int
) -> None:
    """The very bytes, the same text in other bytes, or neither."""
    with canned(chunked(payload)) as target:
        told = streams.run(one(target))
    assert (told["exact"], told["same_text"], told["garbled"], told["lost_bytes"]) == (
        exact,
        same_text,
        garbled,
        lost,
    )


def test_a_stream_that_breaks_off_is_a_problem() -> None:
    """An end of the connection is no end of a stream."""
    with canned(chunked(b"".join(EVENTS))[:-5]) as target:
        told = streams.run(one(target))
    assert told["problems"] == {"the connection closed inside the stream": 1}


def test_answers_that_nobody_knew_before() -> None:
    """With bodies of one's own the text is told, and the tokens from the usage."""
    with canned(chunked(b"".join(EVENTS))) as target:
        told = streams.run(jobs.Streams(target, 1, 0, 0, 0.0, 10.0, bodies=["{}"]))
    assert (told["tokens"], told["ended"]) == ([3], 1)
    assert "exact" not in told
