"""A failed request is tried again before its first byte, in one layer, and the upstream's calls are counted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.conftest import StartServer
from tests.parts.front import Front, front
from tests.parts.server import Answer, until
from tests.parts.upstream import Act, after, chunk, events, fails, raw, says, scripted, silent, stream, whole

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Two further tries, no pause to speak of."""
    timeouts = {"connect": 1.0, "chat": 0.4, "completions": 0.4, "embeddings": 0.4}
    with front(tmp_path_factory.mktemp("front"), 80, timeouts=timeouts) as there:
        yield there


def ask(up: Front, *, streamed: bool = False, path: str = "/v1/chat/completions") -> Answer:
    if path == "/v1/embeddings":
        return up.server.ask("POST", path, {"model": up.model, "input": "hi"})
    if path == "/v1/rerank":
        return up.server.ask("POST", path, {"model": up.model, "query": "hi", "documents": ["a"]})
    prompt = (
        {"prompt": "hi"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "hi"}]}
    )
    return up.server.ask("POST", path, {"model": up.model, "stream": streamed, **prompt})


TROUBLE = {
    "429": fails(429),
    "500": fails(500),
    "502": fails(502),
    "503": fails(503),
    "504": fails(504),
    "html 503": whole(503, b"<html>", content_type="text/html"),
    "cut before the head": raw(),
    "cut in the head": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("act", TROUBLE.values(), ids=TROUBLE)
def test_what_may_pass_is_tried_again(up: Front, act: Act, streamed: bool) -> None:
    """Two failures, then an answer of which the client knows nothing else."""
    up.script(act, act)
    answer = ask(up, streamed=streamed)
    assert (answer.status, b"hello" in answer.body, len(up.calls)) == (200, True, 3)
    assert "x-should-retry" not in answer.headers
    assert len({call.body for call in up.calls}) == 1


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/v1/rerank"])
def test_every_route_is_tried_again(up: Front, path: str) -> None:
    """Not chat alone (LiteLLM #25843)."""
    up.script(fails(503), raw())
    answer = ask(up, path=path)
    assert (answer.status, [call.path for call in up.calls]) == (200, [path] * 3)


@pytest.mark.parametrize("streamed", [False, True])
def test_after_the_last_try_the_failure_is_told_and_not_to_be_repeated(up: Front, streamed: bool) -> None:
    """Three calls, as ``retries = 2`` has it."""
    up.script(always=fails(500))
    answer = ask(up, streamed=streamed)
    assert (answer.status, answer.error["code"], len(up.calls)) == (502, "engine_error", 3)
    assert answer.headers["x-should-retry"] == "false"


def test_openais_client_does_not_repeat_what_was_repeated_here(up: Front) -> None:
    """It makes two further tries of its own by default: nine calls for one, were it not told."""
    up.script(always=fails(503))
    with openai.OpenAI(base_url=f"{up.server.url}/v1", api_key="x") as client:
        assert client.max_retries == 2
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model=up.model, messages=[{"role": "user", "content": "hi"}])
    assert len(up.calls) == 3


FINAL = {
    "400": fails(400),
    "403": fails(403),
    "404": fails(404),
    "413": fails(413),
    "422": fails(422),
    "501": fails(501),
    "401": fails(401),
    "408": fails(408),
    "redirect": whole(307, b"", location="/elsewhere"),
    "html 200": whole(200, b"<html>", content_type="text/html"),
    "gzip 200": says(content_encoding="gzip"),
    "accepted 202": whole(202, {}),
    "silence": silent(),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("act", FINAL.values(), ids=FINAL)
def test_what_will_not_pass_is_asked_once(up: Front, act: Act, streamed: bool) -> None:
    """A client's mistake, garbage, or a silence behind which the upstream may still be at work."""
    up.script(act)
    answer = ask(up, streamed=streamed)
    assert (answer.status >= 400, len(up.calls)) == (True, 1)


def test_a_silence_is_a_504_that_is_not_to_be_repeated(up: Front) -> None:
    """The first try may still be at work, and a second would be beside it."""
    up.script(silent(HEAD))
    answer = ask(up)
    assert (answer.status, answer.error["code"], len(up.calls)) == (504, "engine_timeout", 1)
    assert answer.headers["x-should-retry"] == "false"
    until(lambda: up.there.running == 0, "the upstream to be left")


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (stream(chunk("one "), chunk("two "), cut=True), "engine_lost"),
        (stream(chunk("one "), chunk("two ")), "engine_lost"),
        (stream(chunk("one "), chunk("two "), b"data: {oops\n\n"), "engine_error"),
        (stream(chunk("one "), chunk("two "), b'data: {"error":{"message":"x","code":503}}\n\n'), "unavailable"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n" % (len(chunk("one two ")), chunk("one two ")) + b"zz\r\n"), "engine_lost"),
    ],
    ids=["cut", "no [DONE]", "no JSON", "error event", "bad chunk"],
)  # fmt: skip
def test_nothing_is_repeated_once_a_byte_was_seen(up: Front, last: Act, code: str) -> None:
    """What was good, one error, no ``[DONE]``, one call."""
    up.script(last)
    answer = ask(up, streamed=True)
    assert answer.status == 200
    said = "".join(event["choices"][0]["delta"]["content"] for event in answer.events[:-1])
    assert (said, answer.events[-1]["error"]["code"], len(up.calls)) == ("one two ", code, 1)


def test_an_error_event_before_the_first_byte_is_a_status(up: Front) -> None:
    """Some servers say 200 first and then that they have no capacity."""
    up.script(
        stream(b'data: {"error":{"message":"busy","code":429}}\n\n'),
        whole(200, {"error": {"message": "no", "code": 502}}),
    )
    assert b"hello" in ask(up, streamed=True).body
    assert len(up.calls) == 3


def test_an_error_that_never_ends_is_not_read_for_ever(up: Front) -> None:
    """An upstream's error is a few sentences."""
    up.script(
        raw(b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\n\r\n", *[b"x" * 65536] * 64), silent()
    )
    answer = ask(up)
    assert (answer.status, answer.error["message"], len(up.calls)) == (
        502,
        "The engine's answer is too large.",
        1,
    )


def test_a_body_that_breaks_off_whole_is_tried_again(up: Front) -> None:
    """Nobody has seen a byte of it."""
    up.script(raw(HEAD + b'{"choices"'))
    assert (ask(up).status, len(up.calls)) == (200, 2)


def test_retry_after_is_waited_for(up: Front) -> None:
    """And the upstream is left alone meanwhile."""
    up.script(fails(429, retry_after="1"))
    began = time.monotonic()
    assert ask(up).status == 200
    assert time.monotonic() - began >= 1.0
    assert len(up.calls) == 2


@pytest.mark.parametrize("later", ["100", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_retry_after_that_is_too_long_is_told_at_once(up: Front, later: str) -> None:
    """It is the client who can come back then."""
    up.script(fails(503, retry_after=later))
    answer = ask(up)
    assert (answer.status, len(up.calls), int(answer.headers["retry-after"]) >= 100) == (503, 1, True)
    assert "x-should-retry" not in answer.headers


def test_an_upstreams_429_reaches_the_client_as_it_was_said(up: Front) -> None:
    """With its words and its ``Retry-After``."""
    up.script(always=fails(429, "slow down", retry_after="99"))
    answer = ask(up)
    assert (answer.status, answer.headers["retry-after"]) == (429, "99")
    assert answer.error == {
        "message": "slow down",
        "type": "made_up_error",
        "param": "temperature",
        "code": "made_up_code",
    }


def test_a_kept_connection_that_died_is_replaced_once_and_only_once(up: Front) -> None:
    """Should every kept connection die with a request on it, one client's call is not many upstream calls."""
    up.script()
    gate = threading.Event()
    up.there.always = after(gate, says())
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, up) for _ in range(8)]
        until(lambda: up.there.running == 8, "eight connections")
        gate.set()
        assert [answer.result().status for answer in answers] == [200] * 8
    up.there.calls.clear()
    up.there.then(*[raw()] * 6)
    # Three tries, each on a kept connection and then a fresh one, though there are kept ones left.
    assert (ask(up).status, len(up.calls)) == (502, 6)


def test_a_client_that_leaves_during_a_pause_is_tried_for_no_more(up: Front) -> None:
    """The wait ends with it."""
    up.script(fails(503, retry_after="20"))
    connection = up.server.connect()
    body = {"model": up.model, "messages": [{"role": "user", "content": "hi"}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    until(lambda: len(up.calls) == 1, "the first call")
    connection.close()
    up.server.until_log("outcome=cancelled")
    assert len(up.calls) == 1


def test_a_client_that_leaves_cuts_the_upstreams_work(up: Front) -> None:
    """The upstream learns of it by its connection."""
    up.script(silent())
    connection = up.server.connect()
    body = {"model": up.model, "messages": [{"role": "user", "content": "hi"}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    until(lambda: up.there.running == 1, "the call")
    connection.close()
    until(lambda: up.there.running == 0, "the upstream to be left", 2.0)


def test_a_pause_in_a_stream_is_told(serve: StartServer) -> None:
    """A client that waits knows that it goes on; the status is 200 by then, and the answer whole."""
    with scripted(fails(503, retry_after="1")) as there:
        server = serve("[server]\nping_seconds = 0.3\n" + there.toml())
        answer = server.chat("hi", model="m", stream=True)
    assert answer.body.count(b": waiting\n\n") == 3
    assert (answer.events[-1], len(there.calls)) == ("[DONE]", 2)


def test_a_request_is_not_tried_again_past_its_deadline(serve: StartServer) -> None:
    """It may be no older than ``server.load_timeout_seconds``."""
    with scripted(always=fails(503, retry_after="1")) as there:
        server = serve("[server]\nload_timeout_seconds = 0.9\n" + there.toml())
        assert server.chat("hi", model="m").status == 503
        assert len(there.calls) == 1


def test_a_storm_of_failures_stays_within_the_budget(serve: StartServer) -> None:
    """An upstream in trouble gets at most 1.2 times the requests and the reserve, and each client an answer."""
    requests = 200
    with scripted() as there:
        there.always = fails(503)
        server = serve(there.toml(retries=5, breaker_failures=0))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: server.chat("hi", model="m"), range(requests)))
        assert {answer.status for answer in answers} == {503}
        assert {answer.headers.get("x-should-retry") for answer in answers} == {"false"}
        seconds = 20  # the reserve comes back with time: one try in six seconds
        assert requests + 10 <= len(there.calls) <= 1.2 * requests + 10 + seconds / 6


def test_one_byte_a_write_and_crlf_arrive_as_they_were_sent(up: Front) -> None:
    """Byte for byte, comments and all; the content type too."""
    sent = b": hi\r\n\r\n" + b"".join(events("one \u00e9 two")).replace(b"\n", b"\r\n")
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=UTF-8\r\nContent-Length: %d\r\n\r\n"
        % len(sent)
    )
    up.script(raw(head, *(sent[at : at + 1] for at in range(len(sent)))))
    answer = ask(up, streamed=True)
    assert answer.body == sent
    assert answer.headers["content-type"] == "text/event-stream;charset=UTF-8"


def test_a_whole_answer_arrives_as_it_was_sent(up: Front) -> None:
    """Spaces, order, unknown fields: nothing is read and written anew."""
    body = b'{ "choices" : [ ] , "usage":null, "x_secret_sauce": 1e400 }\n'
    up.script(whole(200, body, content_type="application/json; charset=utf-8"))
    answer = ask(up)
    assert (answer.body, answer.headers["content-type"]) == (body, "application/json; charset=utf-8")


def test_usage_beside_a_choice_is_left_where_the_upstream_put_it(up: Front) -> None:
    """And is counted all the same."""
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}\n\n'
    up.script(stream(chunk("a"), last, b"data: [DONE]\n\n"))
    assert last in ask(up, streamed=True).body
    up.server.until_log("tokens_in=7")
