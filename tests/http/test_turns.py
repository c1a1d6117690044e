"""Turns as clients see them: whose is next, what the answer's head says of it, and how waiting ends."""

from __future__ import annotations

import http.client
import json
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.conftest import StartServer
from tests.parts.server import Answer, Server, until

POSITION, WAITED = "x-inglenook-queue-position", "x-inglenook-queue-ms"
ADA, BOB = {"authorization": "Bearer key-of-ada"}, {"authorization": "Bearer key-of-bob"}
KEYS = """
    [auth]
    keys = [{key = "key-of-ada", client = "ada"}, {key = "key-of-bob", client = "bob"}]
"""


def echo(*args: str, **settings: object) -> str:
    """Settings for one echo model called "echo" with one slot."""
    lines = ['[[models]]\nid = "echo"\npath = "builtin:echo"\nparallel = 1', f"args = {json.dumps(args)}"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def body(content: str, **fields: object) -> dict[str, object]:
    return {"model": "echo", "messages": [{"role": "user", "content": content}], **fields}


def ask(server: Server, content: str, who: dict[str, str] | None = None, **fields: object) -> Answer:
    return server.ask("POST", "/v1/chat/completions", body(content, **fields), who)


def begin(
    server: Server, content: str, who: dict[str, str] | None = None, **fields: object
) -> http.client.HTTPConnection:
    """A request whose answer nobody has read yet."""
    connection = server.connect()
    connection.request("POST", "/v1/chat/completions", json.dumps(body(content, **fields)), who or {})
    return connection


@contextmanager
def slot_taken(server: Server, who: dict[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
    """The one slot is at work on a long answer until the block is left."""
    connection = begin(server, " ".join(["word"] * 500), who, stream=True)
    response = connection.getresponse()
    assert response.status == 200
    assert response.readline().startswith(b"data:")
    try:
        yield response
    finally:
        response.close()
        connection.close()


def in_line(server: Server) -> int:
    """Requests that wait, as the server counts them."""
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith("inglenook_num_requests_waiting{"):
            return int(float(line.rsplit(" ", 1)[1]))
    raise AssertionError("no such metric")


def until_in_line(server: Server, count: int) -> None:
    until(lambda: in_line(server) == count, f"{count} requests in line")


class Flood:
    """A client that always has ``width`` requests waiting. Leaving the block ends it."""

    def __init__(self, one: Callable[[], object], width: int) -> None:
        self._one = one
        self._pool = ThreadPoolExecutor(width)
        self._width = width
        self._over = threading.Event()
        self.answered = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Flood:
        self._runs = [self._pool.submit(self._run) for _ in range(self._width)]
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for run in self._runs:
            run.result()

    def _run(self) -> None:
        while not self._over.is_set():
            self._one()
            with self._lock:
                self.answered += 1


def p95(values: list[int]) -> int:
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]


def passed_while(flood: Flood, one: Callable[[], Answer]) -> tuple[int, str]:
    """How many answers the flood got while one request waited for its own; its place when it came."""
    before = flood.answered
    answer = one()
    assert answer.status == 200
    return flood.answered - before, answer.headers.get(POSITION, "0")


def test_a_client_that_floods_costs_another_at_most_one_more_turn(serve: StartServer) -> None:
    """Sixteen requests of one wait at any time. The other is next whenever it asks, so it waits at most for what
    is at work when it comes: the time of two turns where it would be one, in its p95 too."""
    server = serve(KEYS + echo("--token-seconds", "0.02"))
    ask(server, "warm", ADA)
    with Flood(lambda: ask(server, "a b c", BOB), 16) as flood:
        until(lambda: flood.answered > 1 and in_line(server) >= 14, "a flood")
        seen = [passed_while(flood, lambda: ask(server, "a b c", ADA)) for _ in range(20)]
    # What the flood's threads and this one see is not in step: one more may be counted than went before.
    assert p95([passed for passed, _ in seen]) <= 2
    assert {place for _, place in seen} <= {"0", "1"}


def test_without_keys_addresses_are_the_clients(serve: StartServer) -> None:
    """The line is as fair to them."""
    server = serve(echo("--token-seconds", "0.02"))
    ask(server, "warm")

    def from_address(address: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, 20, source_address=(address, 0))
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body("a b c")))
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        finally:
            connection.close()

    try:
        from_address("127.0.0.2")
    except OSError:
        pytest.skip("this system has one loopback address only")
    with Flood(lambda: from_address("127.0.0.2"), 8) as flood:
        until(lambda: flood.answered > 1 and in_line(server) >= 6, "a flood")
        seen = [passed_while(flood, lambda: from_address("127.0.0.3")) for _ in range(5)]
    assert p95([passed for passed, _ in seen]) <= 2
    assert {place for _, place in seen} <= {"0", "1"}


def test_the_head_of_an_answer_says_the_place_and_the_wait(serve: StartServer) -> None:
    """Only of one that waited: for others there is nothing to say."""
    server = serve(echo("--token-seconds", "0.02"))
    assert POSITION not in ask(server, "warm").headers
    with ThreadPoolExecutor(2) as pool:
        with slot_taken(server):
            first = pool.submit(ask, server, "a")
            until_in_line(server, 1)
            second = pool.submit(ask, server, "a")
            until_in_line(server, 2)
        answers = [first.result(), second.result()]
    assert [answer.headers[POSITION] for answer in answers] == ["1", "2"]
    waits = [int(answer.headers[WAITED]) for answer in answers]
    assert min(waits) > 0


def test_a_stream_that_waits_long_says_its_place_and_that_it_goes_on(serve: StartServer) -> None:
    """Its head goes out before its wait is over, so that is not in it."""
    server = serve("[server]\nping_seconds = 0.2\n" + echo("--token-seconds", "0.02"))
    ask(server, "warm")
    with slot_taken(server):
        connection = begin(server, "a b", stream=True)
        response = connection.getresponse()
        assert response.headers[POSITION] == "1"
        assert response.headers[WAITED] is None
        assert [response.readline() for _ in range(3)] == [b": waiting\n", b"\n", b": waiting\n"]
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()


def test_a_client_that_leaves_the_line_makes_room_at_once(serve: StartServer) -> None:
    """Streaming or not: those behind move up, and no turn is spent on it."""
    server = serve(echo("--token-seconds", "0.02"))
    ask(server, "warm")
    with ThreadPoolExecutor(1) as pool:
        with slot_taken(server):
            leaving = [begin(server, "a", stream=stream) for stream in (False, True, False)]
            until_in_line(server, 3)
            for connection in leaving:
                connection.close()
            until_in_line(server, 0)
            behind = pool.submit(ask, server, "a")
            until_in_line(server, 1)
        assert behind.result().headers[POSITION] == "1"


def test_who_waits_longer_than_queue_seconds_is_told_to_come_back(serve: StartServer) -> None:
    """A 503 of its own status where the head is not sent yet, for a stream too; and it waits no more."""
    server = serve(echo("--token-seconds", "0.02", queue_seconds=0.3))
    ask(server, "warm")
    with slot_taken(server):
        for stream in (False, True):
            answer = ask(server, "a", stream=stream)
            assert (answer.status, answer.error["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers[POSITION] == "1"
            assert "0.3 seconds" in answer.error["message"]
        assert in_line(server) == 0


def test_a_refusal_says_when_to_come_back_by_what_turns_have_taken(serve: StartServer) -> None:
    """Turns of one second, one at work and one waiting: two seconds, and not the ten that are assumed at first."""
    server = serve(echo("--first-token-seconds", "1", max_queue=1))
    ask(server, "warm")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, server, "a")
        second = pool.submit(ask, server, "a")
        until_in_line(server, 1)
        refused = ask(server, "a")
        assert (refused.status, refused.error["code"]) == (503, "queue_full")
        assert 2 <= int(refused.headers["retry-after"]) <= 9
        assert [first.result().status, second.result().status] == [200, 200]


def test_a_line_that_one_client_has_filled_has_room_for_another(serve: StartServer) -> None:
    """The newest request of the client who has most in it is refused in its place."""
    server = serve(KEYS + echo("--token-seconds", "0.02", max_queue=3))
    ask(server, "warm", ADA)
    with ThreadPoolExecutor(4) as pool:
        with slot_taken(server, BOB):
            floods = []
            for count in (1, 2, 3):
                floods.append(pool.submit(ask, server, "a", BOB))
                until_in_line(server, count)
            mine = pool.submit(ask, server, "a", ADA)
            refused = floods[2].result()
            assert (refused.status, refused.error["code"]) == (503, "queue_full")
            assert ask(server, "a", BOB).status == 503
            assert in_line(server) == 3
        assert mine.result().headers[POSITION] == "1"
        assert [flood.result().status for flood in floods[:2]] == [200, 200]


def test_each_choice_of_an_answer_takes_a_turn_and_the_head_tells_of_the_first(serve: StartServer) -> None:
    """`n` choices of one request are no way past the others."""
    server = serve(echo("--token-seconds", "0.02"))
    ask(server, "warm")
    answer = ask(server, "a b", n=3)
    assert len(answer.json["choices"]) == 3
    assert answer.headers[POSITION] == "1"
    assert in_line(server) == 0


def test_texts_to_embed_wait_in_the_same_line(serve: StartServer) -> None:
    """One model, one line, whatever it is asked for."""
    server = serve(echo("--token-seconds", "0.02"))
    ask(server, "warm")
    with ThreadPoolExecutor(1) as pool:
        with slot_taken(server):
            asked = pool.submit(server.ask, "POST", "/v1/embeddings", {"model": "echo", "input": "a"})
            until_in_line(server, 1)
        assert asked.result().status == 200
        assert asked.result().headers[POSITION] == "1"
