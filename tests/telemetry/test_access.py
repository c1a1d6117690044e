"""The access log: one line per request whatever the client sends, in three formats, and honest about loss."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from pathlib import Path

import pytest

from inglenook.policy.client import Client
from inglenook.telemetry import access
from inglenook.telemetry.access import AccessLog, one_line, wants_colours
from inglenook.telemetry.call import Call
from inglenook.telemetry.logs import Lines
from inglenook.wire.openai import PromptTokensDetails, Usage
from tests.conftest import StartServer

EVIL = 'x\n{"event":"request","status":200}\r\x1b[31mred\x00\u2028"'


def call(**fields: object) -> Call:
    made = Call("an-id", "POST", "/v1/chat/completions", 100.0, status=200)
    for name, said in fields.items():
        setattr(made, name, said)
    return made


def written(log_format: str, *calls: Call, colours: bool = False) -> list[str]:
    stream = io.StringIO()
    log = AccessLog(log_format, stream=stream, colours=colours)
    for each in calls:
        log.write(each, 100.25)
    log.start()
    log.close()
    # Only what a terminal or a reader of lines takes for an end of line.
    return re.split(r"[\n\r]", stream.getvalue())[:-1]


def test_a_json_line_has_all_that_is_known() -> None:
    """And nothing that does not apply."""
    full = call(
        model="m",
        stream=True,
        attempts=2,
        place=3,
        waited=0.02,
        turn_at=100.05,
        first_at=100.1,
        usage=Usage(5, 7, 12, PromptTokensDetails(4)),
        client=Client("team"),
        upstream="other",
        instead_of="asked",
        cache="miss",
    )
    first, second = map(
        json.loads, written("json", full, call(outcome="error", code="not_found", status=404))
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first.pop("time"))
    assert first == {
        "event": "request",
        "request_id": "an-id",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "outcome": "complete",
        "latency_ms": 250.0,
        "client": "team",
        "model": "m",
        "instead_of": "asked",
        "upstream": "other",
        "stream": True,
        "attempts": 2,
        "cache": "miss",
        "queue_place": 3,
        "queue_ms": 20.0,
        "first_byte_ms": 100.0,
        "tokens_in": 5,
        "tokens_cached": 4,
        "tokens_out": 7,
    }
    del second["time"]
    assert second == {
        "event": "request",
        "request_id": "an-id",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 404,
        "outcome": "error",
        "latency_ms": 250.0,
        "code": "not_found",
    }


@pytest.mark.parametrize("log_format", ["json", "text", "pretty"])
def test_a_request_is_one_line_whatever_is_in_it(log_format: str) -> None:
    """Line ends, escapes and quotes of a client's come out as their escapes."""
    lines = written(log_format, call(model=EVIL, client=Client(EVIL), request_id=EVIL), call())
    assert len(lines) == 2
    assert not set("\r\x1b\x00") & set("".join(lines))
    if log_format == "json":
        assert json.loads(lines[0])["client"] == EVIL


def test_text_for_people() -> None:
    """The same as words; pretty leaves out what is as usual."""
    (text,) = written("text", call(model="m", attempts=1, client=Client("my team")))
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d INFO POST /v1/chat/completions 200 250.0 ms request_id=an-id outcome=complete "
        r'client="my team" model=m stream=false attempts=1',
        text,
    )
    (pretty,) = written("pretty", call(model="m", attempts=1))
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d 200     250.0 ms POST /v1/chat/completions model=m stream=false attempts=1", pretty
    )


def test_colours_only_where_they_are_wanted() -> None:
    """On a terminal, or when asked; never with NO_COLOR, on a dumb terminal, or in a file by itself."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert wants_colours(Terminal(), {})
    assert not wants_colours(Terminal(), {"NO_COLOR": "1"})
    assert not wants_colours(Terminal(), {"TERM": "dumb"})
    assert not wants_colours(io.StringIO(), {})
    assert wants_colours(io.StringIO(), {"FORCE_COLOR": "1"})
    assert not wants_colours(io.StringIO(), {"FORCE_COLOR": "1", "NO_COLOR": "1"})
    (coloured,) = written("pretty", call(), colours=True)
    assert "\x1b[32m200\x1b[0m" in coloured
    assert coloured.endswith("\x1b[0m")
    (bad,) = written("pretty", call(status=503, outcome="error"), colours=True)
    assert "\x1b[31m503" in bad


def test_a_slow_reader_costs_lines_which_are_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request waits for it, and memory is bounded."""
    monkeypatch.setattr(access, "MAX_HELD", 2)
    blocked, stream = threading.Event(), io.StringIO()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            blocked.wait(20)
            return stream.write(text)

    log = AccessLog("json", stream=Slow())
    for _ in range(5):
        log.write(call(), 101.0)
    assert log.dropped == 3
    log.start()
    blocked.set()
    log.close()
    lines = [json.loads(each) for each in stream.getvalue().splitlines()]
    assert [each["event"] for each in lines] == ["request", "request", "dropped"]
    assert lines[-1]["lines"] == 3


def test_other_lines_cannot_be_forged_either() -> None:
    """What a message has in it is indented below its own line, control characters escaped."""
    record = logging.LogRecord("x", logging.ERROR, "", 1, "failed: %s", (EVIL,), None)
    shown = Lines(colours=False).format(record)
    first, second = shown.split("\n")
    assert first.endswith("ERROR failed: x")
    assert second.startswith('  {"event"')
    assert not set("\r\x1b\x00\u2028") & set(shown)


def test_one_line_leaves_plain_words_alone() -> None:
    """Quotes only where they are needed."""
    assert one_line("team/echo:1") == "team/echo:1"
    assert one_line("two words") == '"two words"'


def test_a_server_writes_it(serve: StartServer, tmp_path: Path) -> None:
    """With a client's own request id, even one that tries to be a line of its own."""
    server = serve('[[models]]\nid = "echo"\npath = "builtin:echo"\n[telemetry]\nlog_format = "json"\n')
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    forged = 'id","status":200,"x":"'
    server.ask("POST", "/v1/chat/completions", body, {"x-request-id": forged})
    server.ask("GET", "/nowhere%0a%7b%7d?key=sk-1", headers={"x-request-id": "a b"})
    server.until_log('"status":404')
    requests = [json.loads(each) for each in server.log.splitlines() if '"event":"request"' in each]
    assert requests[0]["request_id"] == forged
    assert requests[0]["status"] == 200
    assert requests[0]["tokens_out"] > 0
    assert requests[1]["route"] == "*"
    assert requests[1]["request_id"] != "a b"
    assert "nowhere" not in server.log
