"""The mock upstream as a real process, asked over both its sockets."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import pytest

from inglenook.bench import arms, exchange
from inglenook.bench.arms import Place
from inglenook.bench.exchange import Pace
from inglenook.bench.jobs import Target
from inglenook.bench.processes import free_port, started
from inglenook.bench.sockets import ask_once, chat_request, connect, timed_exchange


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where a running mock is."""
    directory = tmp_path_factory.mktemp("mock")
    place = Place(directory, free_port(), directory / "mock.sock", free_port())
    with started(arms.mock(place), directory, None):
        yield place


@pytest.fixture(params=["tcp", "unix"])
def target(mock: Place, request: pytest.FixtureRequest) -> Target:
    if request.param == "unix":
        return Target(unix=str(mock.mock_socket))
    return Target(port=mock.mock_port)


@pytest.mark.parametrize("size", [0, 1_000, 400_000])
def test_a_request_gets_the_fixed_answer(target: Target, size: int) -> None:
    """However large it is."""
    raw = chat_request(target, exchange.chat_body("1", size=size))
    assert ask_once(target, raw) == (200, exchange.answer_body())


def test_requests_follow_each_other_on_one_connection(target: Target) -> None:
    """A stream too leaves the connection usable."""
    pace = Pace(deltas=2, interval_us=1000)
    with contextlib.closing(connect(target)) as sock:
        for _ in range(3):
            _, status, payload = timed_exchange(
                sock, chat_request(target, exchange.chat_body("1", pace=pace))
            )
            assert (status, payload) == (200, b"".join(exchange.stream_events(2, usage=True)))
            _, status, payload = timed_exchange(sock, chat_request(target, exchange.chat_body("2")))
            assert (status, payload) == (200, exchange.answer_body())


def test_a_stream_keeps_its_pace(target: Target) -> None:
    """Delay, then an event per interval: never early, and in order."""
    pace = Pace(deltas=10, interval_us=10_000, delay_us=30_000)
    begun = time.monotonic()
    with contextlib.closing(connect(target)) as sock:
        times, _, payload = timed_exchange(sock, chat_request(target, exchange.chat_body("1", pace=pace)))
    assert payload == b"".join(exchange.stream_events(10, usage=True))
    assert times[0] >= 30.0
    assert time.monotonic() - begun >= 0.03 + 9 * 0.01


def test_a_stream_without_pace_comes_at_once(target: Target) -> None:
    """For those who ask for throughput of events."""
    raw = chat_request(target, exchange.chat_body("1", pace=Pace(deltas=1000)))
    assert ask_once(target, raw) == (200, b"".join(exchange.stream_events(1000, usage=True)))


def test_usage_comes_only_when_asked_for(target: Target) -> None:
    """As OpenAI has it."""
    body = b'{"stream": true, "messages": "deltas=1 interval_us=0 delay_us=0"}'
    _, payload = ask_once(target, chat_request(target, body))
    assert payload == b"".join(exchange.stream_events(1, usage=False))


def test_a_request_in_pieces_and_in_chunks(target: Target) -> None:
    """Gateways may send a body as they like."""
    body = exchange.chat_body("1", size=500)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with contextlib.closing(connect(target)) as sock:
        for piece in (raw[:20], raw[20:100], raw[100:-3]):
            sock.sendall(piece)
            time.sleep(0.01)
        assert timed_exchange(sock, raw[-3:])[1:] == (200, exchange.answer_body())


def test_a_client_that_leaves_disturbs_nobody(target: Target) -> None:
    """Its stream is dropped; others go on."""
    pace = Pace(deltas=20, interval_us=5000)
    with contextlib.closing(connect(target)) as leaver:
        leaver.sendall(chat_request(target, exchange.chat_body("1", pace=pace)))
        leaver.recv(10)
    _, payload = ask_once(target, chat_request(target, exchange.chat_body("2", pace=pace)))
    assert payload == b"".join(exchange.stream_events(20, usage=True))


@pytest.mark.parametrize(
    ("path", "status", "key"),
    [
        ("/health", 200, "status"),
        ("/v1/models", 200, "data"),
        ("/stats", 200, "stalls"),
        ("/x", 404, "error"),
    ],
)
def test_other_paths(target: Target, path: str, status: int, key: str) -> None:
    """What gateways look at before they relay, and how late the mock was."""
    found, payload = ask_once(target, exchange.http_request("GET", path, {}))
    assert found == status
    assert key in json.loads(payload)
