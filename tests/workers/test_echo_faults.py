"""The echo engine fails on demand, each time in exactly one way."""

import asyncio
import http.client
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from inglenook.workers.echo.connection import Connection, Reply, Request, Wire
from tests.workers.conftest import Start
from tests.workers.running import (
    Running,
    UnixConnection,
    dechunk,
    environment,
    python,
    read_events,
    read_until,
    receive,
    until,
    user,
)

WORDS = ["one", " two", " three"]
BODY = {"prompt": "".join(WORDS), "stream": True}
WHOLE_BODY = {"prompt": "".join(WORDS)}
CHAT = {"messages": user("".join(WORDS)), "stream": True}
PATHS = pytest.mark.parametrize(("path", "body"), [("/completion", BODY), ("/v1/chat/completions", CHAT)])


def words_in(raw: bytes) -> list[str]:
    """Return the text of each event in a raw stream of native answers."""
    return [event["content"] for event in read_events(dechunk(raw)[0]) if event["content"]]


def state_of(pid: int) -> str:
    """Return the letter of a process's state, or none when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize(
    ("flag", "code"), [("--crash-after-tokens", -signal.SIGKILL), ("--exit-after-tokens", 3)]
)
def test_an_engine_dies_after_exactly_so_many_tokens(start: Start, flag: str, code: int, k: int) -> None:
    """All tokens before the death arrive and nothing after them, up to the end itself."""
    engine = start(flag, str(k))
    raw = engine.raw("/completion", BODY)
    assert engine.wait_for_exit() == code
    assert words_in(raw) == WORDS[:k]
    assert (raw == b"") == (k == 0)
    assert not dechunk(raw)[1]


@pytest.mark.parametrize("k", [0, 2, 3])
def test_a_whole_answer_dies_without_a_byte(start: Start, k: int) -> None:
    """A request that does not stream loses everything."""
    engine = start("--crash-after-tokens", str(k))
    assert engine.raw("/completion", WHOLE_BODY) == b""
    assert engine.wait_for_exit() == -signal.SIGKILL


def test_an_embedding_can_be_what_kills(start: Start) -> None:
    """With K=0 a request for vectors brings death as well."""
    engine = start("--crash-after-tokens", "0")
    assert engine.raw("/v1/embeddings", {"input": "x"}) == b""


@pytest.mark.parametrize("cut", [1, 6, 25, 60])
def test_death_can_come_inside_an_event(start: Start, cut: int) -> None:
    """The first bytes of the next event are sent before the end."""
    engine = start("--crash-after-tokens", "2", "--cut-event-bytes", str(cut))
    whole = dechunk(start().raw("/completion", BODY | {"n_predict": 3, "stop": "none"}))[0]
    third = b"data: " + whole.split(b"data: ")[3]
    raw = engine.raw("/completion", BODY)
    assert raw.endswith(b"\r\n" + third[:cut])
    assert words_in(raw.rpartition(b"\r\n" + third[:cut])[0] + b"\r\n") == WORDS[:2]


def test_a_hanging_engine_is_alive_without_progress(start: Start) -> None:
    """Pings flow and health is fine, but no token comes and the slot stays taken."""
    engine = start("--hang-after-tokens", "1", "--ping-seconds", "0.02")
    with engine.send("/completion", BODY) as connection:
        raw = read_until(connection, b": ping\n\n", 5)
        assert words_in(raw) == WORDS[:1]
        assert engine.get("/health").status == 200
        assert engine.counts()["processing"] == 1
    until(lambda: engine.counts()["processing"] == 0)


def test_a_hanging_engine_can_be_silent(start: Start) -> None:
    """Without pings nothing at all comes, and the client's leaving is still noticed."""
    engine = start("--hang-after-tokens", "1", "--ping-seconds", "0")
    with engine.send("/completion", BODY) as connection:
        assert words_in(read_until(connection, b"one")) == WORDS[:1]
        assert engine.counts()["processing"] == 1
    until(lambda: engine.counts()["processing"] == 0)


def test_early_headers_bring_pings_before_the_first_token(start: Start) -> None:
    """An engine that begins its streams early hangs with a status and comments only."""
    engine = start("--hang-after-tokens", "0", "--ping-seconds", "0.02", "--early-headers")
    with engine.send("/completion", BODY) as connection:
        raw = read_until(connection, b": ping\n\n", 3)
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"data:" not in raw


def test_a_frozen_engine_goes_on_when_woken(start: Start) -> None:
    """SIGSTOP halts the whole process; after SIGCONT the stream ends as if nothing had been."""
    engine = start("--freeze-after-tokens", "1")
    with engine.send("/completion", BODY) as connection:
        until(lambda: state_of(engine.process.pid) == "T")
        os.kill(engine.process.pid, signal.SIGCONT)
        raw = read_until(connection, b"\r\n0\r\n\r\n")
    assert words_in(raw) == WORDS


def test_a_healthy_engine_ends_on_sigterm(start: Start) -> None:
    """It ends with 0, takes its socket along, and cuts what was running."""
    engine = start("--hang-after-tokens", "1")
    with engine.send("/completion", BODY) as connection:
        read_until(connection, b"one")
        engine.process.terminate()
        assert not dechunk(b"".join(receive(connection)))[1]
    assert engine.wait_for_exit() == 0
    assert not engine.socket.exists()


def test_a_deaf_engine_ignores_sigterm(start: Start) -> None:
    """It goes on serving, and only SIGKILL ends it."""
    engine = start("--deaf")
    engine.process.terminate()
    assert engine.chat("still here").status == 200
    assert engine.process.poll() is None
    engine.process.kill()
    assert engine.wait_for_exit() == -signal.SIGKILL


def test_a_forked_child_outlives_sigterm_and_its_parent(start: Start) -> None:
    """Only SIGKILL to the whole group ends the child as well."""
    engine = start("--fork-child")
    told = re.search(r"forked child (\d+)", engine.log.read_text())
    assert told
    child = int(told[1])
    os.killpg(engine.process.pid, signal.SIGTERM)
    assert engine.wait_for_exit() == 0
    assert state_of(child) == "S"
    os.killpg(engine.process.pid, signal.SIGKILL)
    until(lambda: state_of(child) in ("", "Z"))


def test_a_flood_of_log_lines_comes_before_the_socket(start: Start) -> None:
    """All lines are written to stderr, and the engine serves afterwards."""
    engine = start("--log-flood", "5000")
    assert engine.log.read_text().count("flood line") == 5000


def test_a_load_that_fails_says_why_and_exits(launch: Start) -> None:
    """The exit code is 1, and stderr reads like llama.cpp's."""
    engine = launch("--fail-load")
    assert engine.wait_for_exit() == 1
    assert "error loading model:" in engine.log.read_text()


def test_a_load_that_hangs_never_becomes_ready(launch: Start) -> None:
    """Health says that it is loading, request after request."""
    engine = launch("--hang-load")
    engine.wait_until_listening()
    assert {engine.get("/health").status for _ in range(20)} == {503}
    engine.process.terminate()
    assert engine.wait_for_exit() == 0


def test_faults_can_be_over_after_some_starts(launch: Start, tmp_path: Path) -> None:
    """With a fault file the first starts fail, and later ones are healthy."""
    flags = ("--fault-file", str(tmp_path / "starts"), "--fault-times", "2", "--fail-load")
    assert [launch(*flags).wait_for_exit() for _ in range(2)] == [1, 1]
    healthy = launch(*flags)
    healthy.wait_until_ready()
    assert (tmp_path / "starts").read_text() == "3"


def spoiled(start: Start, kind: str, *flags: str) -> Running:
    """Start an engine whose answers are spoiled."""
    return start("--garbage", kind, *flags)


@PATHS
def test_garbage_html_is_a_page(start: Start, path: str, body: object) -> None:
    """The answer is a 200 that is no stream."""
    answer = spoiled(start, "html").post(path, body)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html")
    assert answer.body.startswith(b"<!doctype html>")


@PATHS
def test_garbage_gzip_is_a_lie(start: Start, path: str, body: object) -> None:
    """The header says gzip and the body is not."""
    answer = spoiled(start, "gzip").post(path, body)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.body.startswith(b"data: ")


@pytest.mark.parametrize("kind", ["truncated", "halfevent"])
@pytest.mark.parametrize("body", [BODY, WHOLE_BODY])
def test_garbage_ends_before_its_announced_length(start: Start, kind: str, body: object) -> None:
    """The connection closes before all that was promised has come."""
    with pytest.raises(http.client.IncompleteRead):
        spoiled(start, kind).post("/completion", body)


@pytest.mark.parametrize("body", [BODY, WHOLE_BODY])
def test_garbage_badchunk_has_a_size_that_is_no_number(start: Start, body: object) -> None:
    """The framing itself is broken."""
    with pytest.raises((http.client.IncompleteRead, ValueError)):
        spoiled(start, "badchunk").post("/completion", body)


@pytest.mark.parametrize("k", [1, 2])
def test_garbage_halfevent_cuts_after_whole_events(start: Start, k: int) -> None:
    """So many events are whole, and the next is not."""
    raw = spoiled(start, "halfevent", "--garbage-after-tokens", str(k)).raw("/completion", BODY)
    assert raw.count(b"data: ") == k + 1
    assert not raw.endswith(b"\n")


def test_garbage_nodone_ends_cleanly_after_the_reason(start: Start) -> None:
    """Everything comes but [DONE], and the connection stays usable."""
    engine = spoiled(start, "nodone")
    events = engine.post("/v1/chat/completions", CHAT).events
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_garbage_nodone_can_end_in_the_middle(start: Start) -> None:
    """The stream ends cleanly after some tokens, and looks complete to who does not look."""
    events = spoiled(start, "nodone", "--garbage-after-tokens", "2").post("/v1/chat/completions", CHAT).events
    assert [event["choices"][0]["delta"].get("content") for event in events[1:]] == WORDS[:2]


def test_garbage_notjson_is_one_event_among_good_ones(start: Start) -> None:
    """The stream goes on after the bad event; a whole answer is bad as a whole."""
    engine = spoiled(start, "notjson")
    lines = engine.post("/v1/chat/completions", CHAT).body.split(b"\n\n")
    assert lines[2] == b"data: {not json"
    assert lines[-2] == b"data: [DONE]"
    assert engine.post("/completion", WHOLE_BODY).body == b"{not json"


def test_garbage_error_event_ends_the_stream(start: Start) -> None:
    """As in llama-server the error comes as data, and nothing follows it."""
    engine = spoiled(start, "error-event")
    *_, event = engine.post("/v1/chat/completions", CHAT).events
    error = {"code": 500, "message": "Compute error.", "type": "server_error"}
    assert event == {"error": error}
    whole = engine.post("/completion", WHOLE_BODY)
    assert (whole.status, whole.json) == (500, {"error": error})


def test_garbage_huge_is_one_event_of_that_size(start: Start) -> None:
    """An event, or the text of a whole answer, is as large as asked."""
    engine = spoiled(start, "huge", "--huge-bytes", "3000000")
    body = engine.post("/v1/chat/completions", CHAT).body
    assert max(map(len, body.split(b"\n\n"))) > 3_000_000
    assert body.endswith(b"data: [DONE]\n\n")
    assert len(engine.post("/completion", WHOLE_BODY).json["content"]) > 3_000_000


class Recorder(asyncio.Transport):
    """A transport that keeps each write apart, as no socket does."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep ``data``."""
        self.writes.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Never be full."""

    def close(self) -> None:
        """Have nothing to close."""


async def no_answer(request: Request, reply: Reply) -> None:
    """Handle no request: these tests send none."""


@pytest.mark.parametrize(("size", "writes"), [(0, 1), (1, 9), (4, 3), (100, 1)])
async def test_every_write_is_split(size: int, writes: int) -> None:
    """No more than so many bytes go out at a time, in order."""
    async with asyncio.TaskGroup() as group:
        connection = Connection(no_answer, group, Wire(bytes_per_write=size))
        recorder = Recorder()
        connection.connection_made(recorder)
        await connection.send("漢字é!".encode())
        connection.connection_lost(None)
    assert len(recorder.writes) == writes
    assert b"".join(recorder.writes).decode() == "漢字é!"


def test_split_writes_change_no_byte(start: Start) -> None:
    """A stream sent byte by byte has the text of one sent whole."""
    body = {"prompt": "漢字 🦉 é", "stream": True, "n_predict": 4}
    split = start("--bytes-per-write", "1").raw("/completion", body)
    assert words_in(split) == ["漢", "字", " 🦉", " é"]
    assert dechunk(split)[1]


def test_stream_lines_can_end_with_crlf(start: Start) -> None:
    """Events and pings are separated by CR LF CR LF."""
    engine = start("--crlf", "--ping-seconds", "0.01", "--token-seconds", "0.05")
    body = engine.post("/completion", BODY).body
    assert body.count(b"\r\n\r\n") == body.count(b"data: ") + body.count(b": ping")
    assert body.count(b": ping\r\n\r\n") > 0
    assert b"\n" not in body.replace(b"\r\n", b"")


def test_a_reused_connection_may_be_dead(start: Start) -> None:
    """A request written to a connection that the engine has closed gets no answer."""
    engine = start("--close-idle-seconds", "0.1")
    connection = UnixConnection(engine.socket)
    connection.request("GET", "/health")
    connection.getresponse().read()
    assert connection.sock.recv(1) == b""
    with pytest.raises((http.client.RemoteDisconnected, BrokenPipeError)):
        connection.request("GET", "/health")
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize("flags", [[], ["--port", "0", "--slots", "0"], ["--garbage", "gold"]])
def test_a_wrong_call_exits_with_two(flags: list[str]) -> None:
    """Missing places, impossible numbers and unknown words are told on stderr."""
    call = python("inglenook.workers.echo")
    done = subprocess.run([*call, *flags], capture_output=True, env=environment(), timeout=30)
    assert done.returncode == 2
    assert b"error: " in done.stderr


def test_every_flag_is_explained() -> None:
    """The help has words for each flag of the settings."""
    call = [*python("inglenook.workers.echo"), "--help"]
    text = subprocess.run(call, capture_output=True, text=True, env=environment(), timeout=30).stdout
    flags = re.findall(r"^  (--[a-z-]+)(.*(?:\n {10,}.*)*)", text, re.MULTILINE)
    assert len(flags) > 30
    assert all(re.search(r"[a-z]{3}", words) for _, words in flags)
