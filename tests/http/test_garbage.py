"""Answers that no server should give: each ends as an error that says so, never as a complete answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.parts.server import Server, parse_events, until

Upstream = Callable[..., Server]


@pytest.fixture
def spoiled(serve: StartServer, tmp_path: Path) -> Iterator[Upstream]:
    """A server in front of an echo engine that was started with the given faults."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*args: str) -> Server:
        socket = tmp_path / f"{len(running)}.sock"
        command = [sys.executable, "-m", "inglenook.workers.echo", "--socket", str(socket), *args]
        running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        until(socket.exists, "the engine's socket")
        url = json.dumps(f"unix:{socket}")
        return serve(f'[[upstreams]]\nname = "up"\nurl = {url}\nmodels = ["echo"]\n')

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["html", "truncated", "badchunk"])
def test_a_spoiled_answer_is_a_502(spoiled: Upstream, kind: str) -> None:
    """A page, a body that breaks off, a wrong chunk or a wrong encoding is not passed on as an answer."""
    answer = spoiled("--garbage", kind).chat("hello there")
    assert answer.status == 502
    assert answer.error["type"] == "server_error"


@pytest.mark.parametrize("kind", ["badchunk", "halfevent", "nodone", "notjson", "error-event", "truncated"])
def test_a_spoiled_stream_ends_with_an_error_event_and_no_done(spoiled: Upstream, kind: str) -> None:
    """What was good is passed on, then one readable error; every event before it is whole."""
    server = spoiled("--garbage", kind, "--garbage-after-tokens", "2")
    with server.streaming("one two three four") as stream:
        text = stream.read()
    assert b"[DONE]" not in text
    said = list(parse_events(text))[-1]["error"]["message"]
    assert ("not valid JSON" in said) is (kind == "notjson")


def test_a_stream_that_is_a_web_page_is_a_502(spoiled: Upstream) -> None:
    """Nothing was sent yet, so the status can say it."""
    answer = spoiled("--garbage", "html").chat("hello", stream=True)
    assert answer.status == 502


def test_an_endless_event_is_an_error_and_not_a_full_memory(spoiled: Upstream) -> None:
    """An event has a bound."""
    server = spoiled("--garbage", "huge", "--huge-bytes", str(32 << 20))
    with server.streaming("one two three") as stream:
        text = stream.read()
    assert list(parse_events(text))[-1]["error"]["code"] == "engine_error"
    assert len(text) < 1 << 20


@pytest.mark.parametrize("size", ["1", "7"])
def test_a_stream_cut_anywhere_arrives_whole(spoiled: Upstream, size: str) -> None:
    """Characters that were split between writes are not harmed."""
    server = spoiled("--bytes-per-write", size)
    answer = server.chat("é 漢字 👩‍👩‍👧 naïve", stream=True)
    deltas = [event["choices"][0]["delta"] for event in answer.events[:-1]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "é 漢字 👩‍👩‍👧 naïve"
    assert answer.events[-1] == "[DONE]"


def test_a_stream_with_crlf_is_passed_on(spoiled: Upstream) -> None:
    """CR LF is as good a line end as LF (WHATWG HTML, 9.2.6)."""
    answer = spoiled("--crlf").chat("one two", stream=True)
    assert answer.events[-1] == "[DONE]"
    assert answer.status == 200


def test_a_kept_connection_that_has_died_is_not_an_error(spoiled: Upstream) -> None:
    """llama.cpp closes idle connections without a word; the request is repeated on a fresh one."""
    server = spoiled("--close-idle-seconds", "0.01")
    assert [server.chat("hello").status for _ in range(20)] == [200] * 20


def test_an_upstream_that_is_not_there_is_a_502(serve: StartServer) -> None:
    """Refused connections are told at once."""
    server = serve('[[upstreams]]\nname = "up"\nurl = "http://127.0.0.1:9"\nmodels = ["echo"]\n')
    answer = server.chat("hello")
    assert (answer.status, answer.error["code"]) == (502, "engine_lost")
