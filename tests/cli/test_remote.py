"""The client of the terminal's commands, against servers that answer badly."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from inglenook.cli.remote import Failure, Foreign, Lost, Refused, Server, Unreachable

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
HELLO = b'data: {"choices": [{"delta": {"content": "hello"}}]}\n\n'
CannedServer = Callable[[bytes], Server]


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    """Start servers that give the same bytes to whoever calls, and close."""
    with contextlib.ExitStack() as ending:

        def start(answer: bytes) -> Server:
            listener = ending.enter_context(socket.create_server(("127.0.0.1", 0)))
            thread = threading.Thread(target=give, args=(listener, answer))
            ending.callback(thread.join)
            # On Linux this, and not close, wakes the thread.
            ending.callback(listener.shutdown, socket.SHUT_RDWR)
            thread.start()
            return Server(f"http://127.0.0.1:{listener.getsockname()[1]}")

        yield start


def give(listener: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += connection.recv(1 << 16)
                connection.sendall(answer)


def text_of(server: Server, kept: list[str]) -> None:
    """Read an answer into ``kept``, so that what came before a failure can be seen."""
    kept.extend(piece.text for piece in server.chat(b"{}"))


def test_a_stream_is_read_to_its_end(canned: CannedServer) -> None:
    """Text, what was thought, the reason of the end and the usage are found; comments are signs of life."""
    events = b': waiting\n\ndata: {"choices": [{"delta": {"reasoning_content": "hm"}}]}\n\n' + HELLO
    events += b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
    events += b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}\n\n'
    pieces = list(canned(STREAM + events + b"data: [DONE]\n\n").chat(b"{}"))
    assert "".join(piece.text for piece in pieces) == "hello"
    assert "".join(piece.thought for piece in pieces) == "hm"
    assert [piece.finish for piece in pieces if piece.finish] == ["stop"]
    assert [piece.usage.completion_tokens for piece in pieces if piece.usage] == [2]


def test_a_comment_that_comes_alone_is_waiting(canned: CannedServer) -> None:
    """The server says so while a model loads."""
    with pytest.raises(Lost):
        for piece in canned(STREAM + b": waiting\n\n").chat(b"{}"):
            assert piece.waiting


@pytest.mark.parametrize("tail", [b"", HELLO[:-5], b"data: {}\n"])
def test_a_stream_without_its_end_is_lost(canned: CannedServer, tail: bytes) -> None:
    """What came before is still there; nothing looks complete that is not."""
    kept: list[str] = []
    with pytest.raises(Lost, match="ended in the middle of the answer"):
        text_of(canned(STREAM + HELLO + tail), kept)
    assert kept == ["hello"]


def test_an_error_event_ends_the_answer(canned: CannedServer) -> None:
    """Its words are the server's."""
    event = b'data: {"error": {"message": "The engine\\nis lost.", "code": "engine_lost"}}\n\n'
    kept: list[str] = []
    with pytest.raises(Refused, match=r"^The engine is lost\.$"):
        text_of(canned(STREAM + HELLO + event), kept)
    assert kept == ["hello"]


def test_an_engine_that_failed_to_start_leaves_its_last_words(canned: CannedServer) -> None:
    """They come beside the sentence, for those who ask."""
    body = b'{"error": {"message": "It did not start.", "engine_log": ["out of memory"]}}'
    with pytest.raises(Refused, match="did not start") as refusal:
        canned(b"HTTP/1.1 503 X\r\n\r\n" + body).models()
    assert (refusal.value.status, refusal.value.log) == (503, ["out of memory"])


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (
            b"HTTP/1.1 401 X\r\n\r\n" + b'{"error": {"message": "A key is needed."}}',
            Refused,
            "A key is needed",
        ),
        (b"HTTP/1.1 503 X\r\n\r\n" + b'{"error": "busy"}', Refused, "busy"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n<html>", Foreign, "answered 404, and not as an OpenAI server does"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", Foreign, "answered 302"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", Foreign, "does not answer as an OpenAI server does"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", Lost, "broke off"),
        (b"SSH-2.0-OpenSSH\r\n", Foreign, "not an HTTP server"),
        (b"", Lost, "closed the connection unanswered"),
    ],
)
def test_every_bad_answer_is_one_sentence(
    canned: CannedServer, answer: bytes, kind: type[Failure], says: str
) -> None:
    """The kind tells an OpenAI server that refuses from something else that lives at the address."""
    with pytest.raises(kind, match=says):
        canned(answer).models()


def test_an_answer_that_is_no_stream_is_refused(canned: CannedServer) -> None:
    """A page with status 200 is not taken for an empty answer."""
    with pytest.raises(Foreign, match="is not a stream of events"):
        list(canned(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nhi").chat(b"{}"))


def test_a_server_without_the_route_of_one_model_is_asked_for_its_list(canned: CannedServer) -> None:
    """The sentence says what there is."""
    server = canned(b'HTTP/1.1 200 OK\r\n\r\n{"data": [{"id": "a"}, {"id": "b"}]}')
    assert server.model("b") == "b"
    with pytest.raises(Refused, match=r"'c' is not at .*; there is a, b"):
        server.model("c")


def test_nobody_at_the_address_is_said() -> None:
    """With the address, and the reason that the system gives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable, match=f"No server answers at http://127.0.0.1:{port} "):
        Server(f"127.0.0.1:{port}/v1/").models()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host:1", "http://host:1"),
        ("host:1/v1", "http://host:1"),
        ("https://user:secret@host/base/v1/", "https://host/base"),
        ("http://[::1]:8", "http://[::1]:8"),
    ],
)
def test_addresses_are_shown_without_what_is_secret(url: str, shown: str) -> None:
    """The /v1 of other clients is accepted and not needed."""
    assert Server(url).url == shown


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", "http://host:0", "host:99999"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match="must be like http://HOST:PORT"):
        Server(url)


def test_a_key_that_no_header_can_have_is_not_shown() -> None:
    """The standard library's own words would have it in them."""
    with pytest.raises(ValueError, match="cannot be in a header") as refusal:
        Server("host", "sec\nret")
    assert "sec" not in str(refusal.value)
