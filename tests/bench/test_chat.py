"""``inglenook bench chat``: its call, its lines and its report, against servers on loopback."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inglenook.bench import chat, posts
from inglenook.bench.chat import Plan
from inglenook.bench.processes import BenchError
from inglenook.bench.talks import Listener, Round, Talk
from inglenook.cli.main import main
from tests.conftest import StartServer
from tests.parts.answering import Answering, answering
from tests.parts.server import Server

ANSWER = {"choices": [{"message": {"content": "hello"}}], "usage": {"completion_tokens": 7}}
SIX = r"""requests=6
concurrency=2
elapsed_s=\d+\.\d{3}
rps=\d+\.\d{2}
latency_p50_s=\d+\.\d{3}
latency_p95_s=\d+\.\d{3}
"""
SIX_MORE = r"""ttft_p50_s=\d+\.\d{3}
ttft_p95_s=\d+\.\d{3}
tpot_p50_ms=\d+\.\d{2}
tpot_p95_ms=\d+\.\d{2}
tokens=\d+
tokens_per_s=\d+\.\d{2}
"""


@pytest.fixture
def there() -> Iterator[Answering]:
    with answering() as server:
        server.say(ANSWER)
        yield server


def bench(*words: str) -> int:
    return main(["bench", "chat", *words])


def event(text: str | None, **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}], **more}).encode() + b"\n\n"


def test_six_lines(there: Answering, capsys: pytest.CaptureFixture[str]) -> None:
    """As the script had them that this takes the place of, and the requests that it sent."""
    assert bench("--url", there.url, "--requests", "6", "--concurrency", "2") == 0
    told = capsys.readouterr()
    assert re.fullmatch(SIX, told.out)
    assert told.err == ""
    assert len(there.asked) == 6
    assert there.connections == 2
    assert {asked.path for asked in there.asked} == {"/v1/chat/completions"}
    assert {asked.headers["authorization"] for asked in there.asked} == {"Bearer local"}
    assert there.asked[0].json == {
        "model": "llama",
        "messages": [{"role": "user", "content": "Say hello in one sentence."}],
        "temperature": 0,
        "max_tokens": 64,
    }


def test_flags_and_their_defaults(there: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty requests, four at once; what is said goes into the requests."""
    monkeypatch.setenv("INGLENOOK_API_KEY", "secret")
    assert bench("--url", there.url + "/v1/") == 0
    assert (len(there.asked), there.connections) == (20, 4)
    there.asked.clear()
    words = ["--model", "m", "--prompt", "hi", "--max-tokens", "9", "--api-key", "mine", "--requests", "1"]
    assert bench("--url", there.url, *words, "--warmup", "2") == 0
    assert len(there.asked) == 3
    asked = there.asked[-1]
    assert (asked.json["model"], asked.json["max_tokens"]) == ("m", 9)
    assert asked.json["messages"] == [{"role": "user", "content": "hi"}]
    assert asked.headers["authorization"] == "Bearer mine"


def test_a_report_for_programs(there: Answering, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a directory that need not be there; without the key."""
    output = tmp_path / "new" / "report.json"
    assert bench("--url", there.url, "--requests", "6", "--api-key", "secret", "--output", str(output)) == 0
    told = capsys.readouterr()
    assert told.err == f"Wrote benchmark report: {output}\n"
    assert "secret" not in output.read_text()
    report = json.loads(output.read_text())
    assert report["config"]["requests"] == 6
    results = report["results"]
    assert results["completion_tokens"] == 42
    assert results["tokens_per_second"] == pytest.approx(42 / results["elapsed_seconds"])
    assert list(results["latency_s"]) == ["min", "mean", "p50", "p95", "p99", "max"]
    assert "time_to_first_token_s" not in results


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            404,
            {"error": {"message": "No such model.", "code": "model_not_found"}},
            "status 404: No such model.",
        ),
        (500, "broken", 'status 500: "broken"'),
        (200, {"error": "x"}, 'none of a chat: {"error": "x"}'),
    ],
)
def test_the_first_failure_ends_it(
    there: Answering, capsys: pytest.CaptureFixture[str], status: int, body: object, words: str
) -> None:
    """A figure over some of the requests would look like one over all."""
    there.say(body, status)
    assert bench("--url", there.url, "--requests", "50", "--concurrency", "1") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("inglenook: the server")
    assert words in told.err
    assert len(there.asked) == 1


def test_no_answer_ends_it(there: Answering, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody there, or nobody in time; nothing hangs."""
    assert bench("--url", "http://127.0.0.1:1") == 1
    assert "127.0.0.1:1 gave no answer" in capsys.readouterr().err
    there.dribble = threading.Event()
    assert bench("--url", there.url, "--timeout-seconds", "0.1") == 1
    assert "no answer within 0.1 seconds" in capsys.readouterr().err
    assert bench("--url", "ftp://there") == 1
    assert "--url must be an http:// or https:// address" in capsys.readouterr().err
    assert bench("--url", there.url, "--api-key", "a\nb") == 1
    assert "--api-key has characters" in capsys.readouterr().err


def test_a_server_that_closes_after_each_answer(there: Answering) -> None:
    """Is asked on a new connection each time."""
    there.headers["connection"] = "close"
    assert bench("--url", there.url, "--requests", "5", "--concurrency", "1") == 0
    assert (len(there.asked), there.connections) == (5, 5)


def test_streams_are_timed_by_their_text(serve: StartServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The first text comes when the engine has read the prompt, the others at its pace."""
    pace = '["--first-token-seconds", "0.2", "--token-seconds", "0.05"]'
    server = serve(f'[[models]]\nid = "e"\npath = "builtin:echo"\nargs = {pace}\n')
    words = ["--url", server.url, "--model", "e", "--prompt", "one two three four", "--stream"]
    assert bench(*words, "--requests", "6", "--concurrency", "2", "--warmup", "1") == 0
    told = capsys.readouterr().out
    assert re.fullmatch(SIX + SIX_MORE, told)
    figures = dict(line.split("=") for line in told.splitlines())
    assert float(figures["ttft_p50_s"]) >= 0.2
    assert float(figures["tpot_p50_ms"]) >= 40
    assert float(figures["latency_p50_s"]) >= float(figures["ttft_p50_s"]) + 0.1
    assert int(figures["tokens"]) % 6 == 0


def test_the_built_in_model(starter: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Streams and whole answers of a true engine have as many tokens."""
    words = ["--url", starter.url, "--model", "starter", "--requests", "2", "--max-tokens", "8"]
    assert bench(*words, "--stream") == 0
    assert bench(*words) == 0
    plans = [
        Plan(starter.url, model="starter", requests=2, max_tokens=8, stream=way) for way in (True, False)
    ]
    tokens = [[talk.tokens for talk in chat.perform(plan, lambda done, total: None).talks] for plan in plans]
    assert tokens[0] == tokens[1]
    assert 0 < tokens[0][0] <= 8


def test_a_broken_stream_is_no_answer(there: Answering, capsys: pytest.CaptureFixture[str]) -> None:
    """Without [DONE], with an error, or with what is no event."""
    there.headers = {"content-type": "text/event-stream"}
    for body, words in (
        (event("a"), "without [DONE]"),
        (event("a") + b'data: {"error": {"message": "lost"}}\n\n', "ended with an error: "),
        (b"data: {\n\ndata: [DONE]\n\n", "an event that is none of a chat"),
    ):
        there.body = body
        assert bench("--url", there.url, "--stream", "--requests", "1") == 1
        assert words in capsys.readouterr().err


def test_what_counts_as_a_token() -> None:
    """The server's count where it gives one, else each piece of text, thoughts too; a role is none."""
    listener = Listener()
    listener.hear(event("") + event(None) + b": ping\n\n", 1.0)
    listener.hear(event("a")[:10], 2.0)
    listener.hear(event("a")[10:] + event("b"), 3.0)
    listener.hear(b'data: {"choices":[{"delta":{"reasoning_content":"c"}}]}\n\n', 5.0)
    listener.hear(b"data: [DONE]\n\n", 9.0)
    assert (listener.first, listener.last, listener.tokens()) == (3.0, 5.0, 3)
    counted = Listener()
    counted.hear(event("a", usage={"completion_tokens": 11}) + b"data: [DONE]\n\n", 1.0)
    assert counted.tokens() == 11


def test_figures_have_known_answers() -> None:
    """Percentiles lie between two values; a talk of one token has no time between tokens."""
    done = Round([Talk(1.0, 5, 0.5, 0.9), Talk(3.0, 1, 0.7, 0.7)], seconds=4.0)
    assert chat.lines(Plan(requests=2, stream=True), done) == [
        "requests=2",
        "concurrency=4",
        "elapsed_s=4.000",
        "rps=0.50",
        "latency_p50_s=2.000",
        "latency_p95_s=2.900",
        "ttft_p50_s=0.600",
        "ttft_p95_s=0.690",
        "tpot_p50_ms=100.00",
        "tpot_p95_ms=100.00",
        "tokens=6",
        "tokens_per_s=1.50",
    ]
    report: Any = chat.report(Plan(requests=2, stream=True), done)
    assert report["results"]["time_to_first_token_s"]["max"] == 0.7


def test_a_key_that_no_header_can_carry() -> None:
    """Is refused before anything is sent."""
    with pytest.raises(BenchError, match="cannot be in a header"):
        Plan(api_key="a\r\nX: y").site()
    assert isinstance(Plan().site(), posts.Site)
