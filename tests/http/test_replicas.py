"""Several servers of one model share its requests; one that fails is left alone for a while."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from tests.conftest import StartServer
from tests.parts.server import Answer, Server, until
from tests.parts.upstream import Scripted, after, fails, raw, says, scripted

BLOCK = 1024


def two(stack: ExitStack, serve: StartServer, **fields: Any) -> tuple[Server, Scripted, Scripted]:
    """A server before two replicas of ``m``."""
    one, other = (
        stack.enter_context(scripted(always=says("one"))),
        stack.enter_context(scripted(always=says("other"))),
    )
    server = serve(one.toml("one", **fields) + other.toml("other", **fields))
    return server, one, other


def said(answer: Answer) -> str:
    text: str = answer.json["choices"][0]["message"]["content"]
    return text


def many(server: Server, count: int, at_once: int, model: str = "m") -> list[Answer]:
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda _: server.chat("hi", model=model), range(count)))


def test_requests_one_after_another_are_spread(serve: StartServer) -> None:
    """By weight."""
    with scripted(always=says("big")) as big, scripted(always=says("small")) as small:
        server = serve(big.toml("big", weight=3) + small.toml("small", weight=1))
        assert Counter(said(server.chat("hi", model="m")) for _ in range(12)) == {"big": 9, "small": 3}


def test_requests_at_the_same_time_go_to_the_least_busy(serve: StartServer) -> None:
    """Eight at once are four each, whatever each has had before."""
    gate = threading.Event()
    with ExitStack() as stack:
        server, one, other = two(stack, serve)
        one.always, other.always = after(gate, says()), after(gate, says())
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(server.chat, "hi", "m") for _ in range(8)]
            until(lambda: one.running + other.running == 8, "eight at work")
            assert (one.running, other.running) == (4, 4)
            gate.set()
            assert {each.result().status for each in asked} == {200}


def test_a_prompts_beginning_stays_where_it_was_read(serve: StartServer) -> None:
    """Eight shared beginnings, each with many endings."""
    with ExitStack() as stack:
        server, _, _ = two(stack, serve)
        beginnings = [f"{at} " * BLOCK for at in range(8)]
        homes = [said(server.chat(beginning, model="m")) for beginning in beginnings]
        assert Counter(homes) == {"one": 4, "other": 4}
        for turn in range(3):
            found = [
                said(server.chat(beginning + str(turn), model="m")) for beginning in reversed(beginnings)
            ]
            assert found == homes[::-1]


def test_a_busy_favourite_is_left_for_the_other(serve: StartServer) -> None:
    """While the load allows, and no longer."""
    gate = threading.Event()
    prompt = "again " * BLOCK
    with ExitStack() as stack:
        server, one, other = two(stack, serve)
        home, away = (one, other) if said(server.chat(prompt, model="m")) == "one" else (other, one)
        home.always = after(gate, says("home"))
        away.always = says("away")
        with ThreadPoolExecutor(4) as pool:
            asked = []
            for busy in range(1, 5):
                asked.append(pool.submit(server.chat, prompt, "m"))
                until(lambda busy=busy: home.running == busy, f"{busy} at the favourite")
            assert said(server.chat(prompt, model="m")) == "away"
            gate.set()
            assert {said(each.result()) for each in asked} == {"home"}


def test_a_replica_that_fails_is_replaced_by_the_other_at_once(serve: StartServer) -> None:
    """Without a pause, and with one further call."""
    with ExitStack() as stack:
        server, one, other = two(stack, serve, backoff_seconds=30)
        one.always = raw()
        for _ in range(4):
            answer = server.chat("hi", model="m")
            assert said(answer) == "other"
        assert len(other.calls) == 4
        assert len(one.calls) <= 4


def test_a_retry_after_of_one_replica_does_not_hold_up_the_other(serve: StartServer) -> None:
    """It is about the one who said it."""
    with ExitStack() as stack:
        server, one, other = two(stack, serve)
        one.then(fails(429, retry_after="1000"))
        other.then(fails(429, retry_after="1000"))
        answer = server.chat("hi", model="m")
        assert answer.status == 429
        assert (len(one.calls), len(other.calls)) == (1, 1)
        assert server.chat("hi", model="m").status == 200


def test_a_model_of_ours_and_an_upstreams_of_the_same_name_are_replicas(serve: StartServer) -> None:
    """Listed once; both answer, and each stands in for the other."""
    with scripted(always=says("far")) as there:
        local = '[[models]]\nid = "m"\npath = "builtin:echo"\npreload = true\n'
        server = serve(local + there.toml())
        until(lambda: server.state("m") == "ready", "our own")
        assert [model["id"] for model in server.get("/v1/models").json["data"]] == ["m"]
        assert Counter(said(server.chat("hi", model="m")) for _ in range(10)) == {"hi": 5, "far": 5}
        there.always = raw()
        assert [said(server.chat("hi", model="m")) for _ in range(4)] == ["hi"] * 4


def test_a_model_of_ours_that_is_not_loaded_is_waited_for_by_nobody(serve: StartServer) -> None:
    """Its replica answers while it loads."""
    with scripted(always=says("far")) as there:
        local = '[[models]]\nid = "m"\npath = "builtin:echo"\nargs = ["--hang-load"]\n'
        server = serve(local + there.toml())
        assert [said(server.chat("hi", model="m")) for _ in range(6)] == ["far"] * 6
        assert server.state("m") == "starting"


def test_a_server_that_fails_in_a_row_is_left_alone(serve: StartServer) -> None:
    """Refused at once, with the time until it is tried again; the log says it once."""
    with scripted(always=fails(500)) as there:
        server = serve(there.toml(retries=0, breaker_failures=3, breaker_seconds=60))
        assert [server.chat("hi", model="m").status for _ in range(3)] == [502] * 3
        answer = server.chat("hi", model="m")
        assert (answer.status, answer.error["code"], len(there.calls)) == (503, "unavailable", 3)
        assert 50 < int(answer.headers["retry-after"]) <= 60
        assert "left alone" in answer.error["message"]
        assert server.log.count("upstream up fails: it is left alone for 60 s") == 1


def test_failures_that_are_not_in_a_row_never_open_it(serve: StartServer) -> None:
    """An answer in between shows that the server is well."""
    with scripted() as there:
        server = serve(there.toml(retries=0, breaker_failures=2))
        for _ in range(4):
            there.then(fails(500), says())
            assert [server.chat("hi", model="m").status for _ in range(2)] == [502, 200]


def test_a_clients_mistakes_never_open_it(serve: StartServer) -> None:
    """A hundred of them are a hundred answers."""
    with scripted(always=fails(400)) as there:
        server = serve(there.toml(breaker_failures=3))
        assert {server.chat("hi", model="m").status for _ in range(20)} == {400}
        assert len(there.calls) == 20


def test_exactly_one_of_many_requests_tries_a_failed_server_again(serve: StartServer) -> None:
    """The others are told to come back; once it answers, all pass."""
    gate = threading.Event()
    with scripted(fails(500), fails(500)) as there:
        server = serve(there.toml(retries=0, breaker_failures=2, breaker_seconds=0.3))
        assert [server.chat("hi", model="m").status for _ in range(2)] == [502, 502]
        there.always = after(gate, says())
        until(lambda: "left alone" in server.log, "the breaker to open")
        threading.Event().wait(0.35)  # breaker_seconds themselves: nobody can be asked when they are over
        with ThreadPoolExecutor(20) as pool:
            asked = [pool.submit(server.chat, "hi", "m") for _ in range(20)]
            until(lambda: sum(each.done() for each in asked) == 19, "nineteen refusals")
            assert len(there.calls) == 3
            gate.set()
            answers = [each.result() for each in asked]
        assert Counter(answer.status for answer in answers) == {503: 19, 200: 1}
        assert [server.chat("hi", model="m").status for _ in range(5)] == [200] * 5


def test_a_trial_that_fails_leaves_it_alone_again(serve: StartServer) -> None:
    """One call for each time, however many ask."""
    gate = threading.Event()
    with scripted(fails(500), after(gate, fails(500))) as there:
        server = serve(there.toml(retries=2, breaker_failures=1, breaker_seconds=0.2))
        assert server.chat("hi", model="m").status == 502
        threading.Event().wait(0.25)  # as above
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(server.chat, "hi", "m") for _ in range(8)]
            until(lambda: sum(each.done() for each in asked) == 7, "seven refusals")
            gate.set()
            assert Counter(each.result().status for each in asked) == {502: 1, 503: 7}
        assert len(there.calls) == 2


def test_of_replicas_the_failed_one_is_left_out(serve: StartServer) -> None:
    """Nobody waits for it, and nobody is refused."""
    with ExitStack() as stack:
        server, one, other = two(stack, serve, breaker_failures=2, breaker_seconds=60)
        one.always = fails(500)
        assert {said(answer) for answer in many(server, 30, 1)} == {"other"}
        assert (len(one.calls), len(other.calls)) == (2, 30)


def test_when_all_replicas_are_left_alone_the_answer_says_when_the_first_is_not(serve: StartServer) -> None:
    """A clear 503, and no call."""
    with ExitStack() as stack:
        server, one, other = two(stack, serve, retries=1, breaker_failures=1, breaker_seconds=60)
        one.always = other.always = fails(500)
        assert server.chat("hi", model="m").status == 502
        answer = server.chat("hi", model="m")
        assert (answer.status, 50 < int(answer.headers["retry-after"]) <= 60) == (503, True)
        assert (len(one.calls), len(other.calls)) == (1, 1)


def test_a_failed_server_is_stood_in_for_without_a_call(serve: StartServer) -> None:
    """The fallback is asked at once."""
    with scripted(always=fails(500)) as one, scripted() as standby:
        server = serve(
            one.toml("one", ("a",), retries=0, breaker_failures=1, fallbacks=["b"])
            + standby.toml("two", ("b",))
        )
        for count in (1, 2, 3):
            assert server.chat("hi", model="a").headers["x-inglenook-model"] == "b"
            assert (len(one.calls), len(standby.calls)) == (1, count)


def test_a_server_whose_streams_always_break_off_is_left_alone_too(serve: StartServer) -> None:
    """Though each of them begins well."""
    with scripted(
        always=raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {}\n\n")
    ) as there:
        server = serve(there.toml(breaker_failures=3))
        for _ in range(3):
            assert server.chat("hi", model="m", stream=True).events[-1]["error"]["code"] == "engine_lost"
        assert server.chat("hi", model="m", stream=True).status == 503
        assert len(there.calls) == 3
