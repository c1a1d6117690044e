"""What upstreams do wrong, with streams and without: what the client gets, and how often the upstream was asked.

``tests/http/test_retries.py`` has the statuses, silences and broken streams; here is what else there is.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.parts.front import Front, front
from tests.parts.server import Answer, Server, until
from tests.parts.upstream import (
    Act,
    Heard,
    Write,
    answer,
    chunk,
    events,
    fails,
    raw,
    scripted,
    silent,
    stream,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE, EVENTS = CHUNKED % b"application/json", CHUNKED % b"text/event-stream"
BODY = json.dumps(answer("hello")).encode()
both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Two further tries, no pause to speak of, and no patience with silence."""
    with front(tmp_path_factory.mktemp("front"), 40, timeouts={"chat": 0.4}) as there:
        yield there


def ask(server: Server, model: str, streamed: bool) -> Answer:
    return server.chat("hi", model=model, stream=streamed)


def said(answer: Answer, streamed: bool) -> str:
    """The text of a good answer, which a stream is only with its end."""
    if not streamed:
        text: str = answer.json["choices"][0]["message"]["content"]
        return text
    *events, last = answer.events
    assert last == "[DONE]"
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events).strip()


def byte_by_byte(streamed: bool) -> Act:
    """A good answer, each byte in a write of its own, its chunks cut wherever they come; lines end in CR LF."""
    body = b"".join(events("hello")).replace(b"\n", b"\r\n") if streamed else BODY
    pieces = [body[at : at + 3] for at in range(0, len(body), 3)]
    sent = (EVENTS if streamed else WHOLE) + b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces
    )
    return raw(*(bytes([byte]) for byte in sent + b"0\r\n\r\n"))


@both
def test_one_byte_a_write_and_crlf_are_one_good_answer(up: Front, streamed: bool) -> None:
    """However it comes: asked once, and nothing is missing."""
    up.script(byte_by_byte(streamed))
    assert said(ask(up.server, up.model, streamed), streamed) == "hello"
    assert len(up.calls) == 1


def slowly(streamed: bool) -> Act:
    """A good answer that takes longer than any silence may, and is never silent for so long."""
    pieces = events("hello " * 6) if streamed else [BODY[at : at + 25] for at in range(0, len(BODY), 25)]

    async def act(heard: Heard, write: Write) -> None:
        await write(EVENTS if streamed else WHOLE)
        for piece in pieces:
            await asyncio.sleep(0.1)
            await write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await write(b"0\r\n\r\n")

    return act


@both
def test_a_slow_upstream_is_waited_for(up: Front, streamed: bool) -> None:
    """A timeout is about silence, not about how long an answer takes."""
    up.script(slowly(streamed))
    assert said(ask(up.server, up.model, streamed), streamed).startswith("hello")
    assert len(up.calls) == 1


def test_a_stream_that_has_said_all_is_complete_whenever_its_connection_ends(up: Front) -> None:
    """Neither the client nor the log waits for the last, empty chunk, or takes its lack for a failure."""
    said_all = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events("hello"))
    up.script(silent(EVENTS + said_all))
    answer = ask(up.server, up.model, True)
    assert answer.events[-1] == "[DONE]"
    assert "error" not in answer.body.decode()
    until(lambda: f"model={up.model} " in up.server.log, "the request in the log")
    line = next(line for line in up.server.log.splitlines() if f"model={up.model} " in line)
    assert "outcome=complete" in line


def test_a_stream_that_falls_silent_ends_with_an_error_and_is_not_begun_anew(up: Front) -> None:
    """What was good, then the error: the upstream may still be at work on it, and is cut off."""
    first = chunk("one ")
    up.script(silent(EVENTS + b"%x\r\n%b\r\n" % (len(first), first)))
    answer = ask(up.server, up.model, True)
    good, error = answer.events
    assert good["choices"][0]["delta"]["content"] == "one "
    assert (error["error"]["code"], len(up.calls)) == ("engine_timeout", 1)
    until(lambda: up.there.running == 0, "the upstream to be left")


BROKEN = {
    "no chunk": stream(cut=True),
    "half a chunk": raw(WHOLE + b"ff\r\n{"),
    "no number": raw(WHOLE + b"zz\r\n{"),
    "no last chunk": raw(WHOLE + b"%x\r\n%b\r\n" % (len(BODY), BODY)),
}


@pytest.mark.parametrize("act", BROKEN.values(), ids=BROKEN)
def test_a_whole_answer_that_is_cut_off_is_asked_for_again(up: Front, act: Act) -> None:
    """Nobody has seen a byte of it. That it looks complete does not make it so."""
    up.script(act)
    assert said(ask(up.server, up.model, False), False) == "hello"
    assert len(up.calls) == 2


UNBEGUN = {
    "no chunk": stream(cut=True),
    "half a chunk": raw(EVENTS + b"ff\r\ndata: {"),
    "no number": raw(EVENTS + b"zz\r\ndata: {"),
}


@pytest.mark.parametrize("act", UNBEGUN.values(), ids=UNBEGUN)
def test_a_stream_that_is_cut_off_before_its_first_event_is_asked_for_again(up: Front, act: Act) -> None:
    """Nobody has seen a byte of it either."""
    up.script(act)
    assert said(ask(up.server, up.model, True), True) == "hello"
    assert len(up.calls) == 2


@both
def test_a_429_with_retry_after_is_asked_again_then(up: Front, streamed: bool) -> None:
    """Once, when it said, and the client sees the answer alone."""
    up.script(fails(429, retry_after="1"))
    answer = ask(up.server, up.model, streamed)
    assert (said(answer, streamed), len(up.calls)) == ("hello", 2)


@both
def test_a_storm_stays_within_the_budget(serve: StartServer, streamed: bool) -> None:
    """120 requests whose every try fails are at most 1.2 times as many calls, and the reserve."""
    with scripted(always=fails(503)) as there:
        server = serve(there.toml(retries=5, breaker_failures=0))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(server, "m", streamed), range(120)))
        assert {answer.status for answer in answers} == {503}
        seconds = 20  # the reserve comes back with time: one try in six seconds
        assert 130 <= len(there.calls) <= 1.2 * 120 + 10 + seconds / 6


# Connections.


@both
def test_a_refused_connection_is_tried_again_and_no_request_is_sent_twice(
    serve: StartServer, streamed: bool
) -> None:
    """A server that comes back while its client waits hears of it once."""
    with closing(socket.socket()) as place, ThreadPoolExecutor(1) as pool:
        place.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"http://127.0.0.1:{place.getsockname()[1]}"
        table = f'[[upstreams]]\nname = "up"\nurl = "{url}"\nmodels = ["m"]\n'
        server = serve(table + "retries = 10\nbackoff_seconds = 0.05\nbreaker_failures = 0\n")
        asked = pool.submit(ask, server, "m", streamed)
        refused = re.compile(r'inglenook_upstream_failures_total\{upstream="up"\} [1-9]')
        until(lambda: refused.search(metrics(server)), "a refusal")
        with scripted(at=place) as there:
            answer = asked.result()
            assert (said(answer, streamed), len(there.calls)) == ("hello", 1)


def metrics(server: Server) -> str:
    return server.get("/metrics").body.decode()


@both
def test_nobody_there_is_tried_as_often_as_the_settings_say(serve: StartServer, streamed: bool) -> None:
    """And no more."""
    with closing(socket.socket()) as place:
        place.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{place.getsockname()[1]}"
        server = serve(f'[[upstreams]]\nname = "up"\nurl = "{url}"\nmodels = ["m"]\nbackoff_seconds = 0\n')
        answer = ask(server, "m", streamed)
    assert (answer.status, answer.error["code"]) == (502, "engine_lost")
    assert 'inglenook_upstream_requests_total{upstream="up"} 3.0' in metrics(server)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has signed but itself, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program")
    place = tmp_path_factory.mktemp("pem") / "self.pem"
    kind = (
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=x",
    )
    out = ("-keyout", str(place), "-out", str(place))
    subprocess.run(["openssl", "req", "-x509", *kind, *out], check=True, capture_output=True, timeout=30)
    return place


@both
def test_a_certificate_that_is_not_trusted_is_looked_at_once(
    serve: StartServer, certificate: Path, streamed: bool
) -> None:
    """It will not be another in a moment, and no request was sent."""
    context, greeted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(certificate)
    context.sni_callback = lambda *_: greeted.append(1)
    with scripted(tls=context) as there:
        answer = ask(serve(there.toml()), "m", streamed)
        assert (answer.status, answer.error["code"]) == (502, "engine_error")
        assert (len(greeted), len(there.calls)) == (1, 0)


@both
def test_what_speaks_no_tls_is_greeted_once(serve: StartServer, streamed: bool) -> None:
    """A mistake in the settings, and no failure that would pass."""
    greeted: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=_plain, args=(listener, greeted))
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        answer = ask(serve(f'[[upstreams]]\nname = "up"\nurl = "{url}"\nmodels = ["m"]\n'), "m", streamed)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert (answer.status, answer.error["code"], len(greeted)) == (502, "engine_error", 1)


def _plain(listener: socket.socket, greeted: list[bytes]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            greeted.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
