"""A running server, as a command of the terminal calls it: one blocking request at a time."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import msgspec
from msgspec import Struct

from inglenook.wire import sse
from inglenook.wire.openai import Usage

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
"""For questions that a server answers from memory."""
SILENCE_SECONDS = 900.0
"""In a stream. Our server says every few seconds that it is still there; others read a prompt in silence."""
MAX_ERROR_BYTES = 1 << 20
READ_BYTES = 1 << 16


class Failure(Exception):
    """A call to the server failed; the message is one sentence for the person who made it.

    ``log`` has the last lines of an engine that did not start.
    """

    def __init__(self, message: str, log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.log = log


class Unreachable(Failure):
    """Nobody answers at the address."""


class Foreign(Failure):
    """Whoever answers there does not speak the OpenAI API."""


class Refused(Failure):
    """The server answered with an error, or ended a stream with one."""

    def __init__(self, message: str, status: int = 0, log: Sequence[str] = ()) -> None:
        super().__init__(message, log)
        self.status = status


class Lost(Failure):
    """The answer broke off."""


@dataclass(frozen=True)
class Piece:
    """What one event of an answer brought. All fields at their defaults: a sign of life."""

    text: str = ""
    thought: str = ""
    finish: str = ""
    usage: Usage | None = None
    waiting: bool = False
    """The request waits for its model, to be loaded or to be free."""


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: Any = None


class _Model(Struct):
    id: str
    tasks: list[str] = []


class _Models(Struct):
    data: list[_Model]


class Server:
    """One server by its address. Every call has a connection of its own, closed when it is over."""

    def __init__(self, url: str, key: str = "") -> None:
        """Raises ``ValueError`` for an address or a key that cannot be one; never with the key."""
        self._parts = _split(url)
        if not key.isascii() or not key.isprintable():
            raise ValueError("the API key has characters that cannot be in a header")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    @property
    def url(self) -> str:
        """The address as it may be shown."""
        host = self._parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        port = f":{self._parts.port}" if self._parts.port else ""
        return f"{self._parts.scheme}://{host}{port}{self._parts.path}"

    def models(self) -> list[str]:
        """The ids of ``GET /v1/models``, in the server's order. Raises ``Failure``."""
        return [model.id for model in self._decode(self._get("/v1/models"), _Models).data]

    def chat_models(self) -> list[str]:
        """Those of them that chat, as far as the server says what they are for. Raises ``Failure``."""
        listed = self._decode(self._get("/v1/models"), _Models).data
        return [model.id for model in listed if not model.tasks or "chat" in model.tasks]

    def model(self, name: str) -> str:
        """The id of the model that answers to ``name``, which may be an alias. Raises ``Failure``."""
        known = self.models()
        if name in known:
            return name
        try:
            return self._decode(self._get(f"/v1/models/{quote(name, safe='')}"), _Model).id
        except Foreign:  # a server that has no such route
            there = ", ".join(known) or "none"
            raise Refused(f"The model {name!r} is not at {self.url}; there is {there}", 404) from None

    def health(self) -> Mapping[str, Any]:
        """The body of ``GET /health``, with the state of every model. Raises ``Failure``."""
        body = self._decode(self._get("/health"), dict[str, Any])
        if not isinstance(body.get("models"), dict):
            raise Foreign(f"The server at {self.url} is not an Inglenook server.")
        return body

    def post(self, path: str, body: bytes, shape: type[T]) -> T:
        """One call with a JSON body and a JSON answer. Raises ``Failure``."""
        with self._call("POST", path, body) as response:
            return self._decode(self._whole(response), shape)

    def chat(self, body: bytes) -> Generator[Piece, None, None]:
        """Stream one answer; close the generator to stop it. Raises ``Failure``."""
        with self._call("POST", "/v1/chat/completions", body) as response:
            if not response.headers.get_content_type() == "text/event-stream":
                raise Foreign(f"The answer of {self.url} is not a stream of events.")
            yield from self._pieces(response)

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[Piece]:
        events = sse.Events()
        while data := self._read(response):
            try:
                run = events.feed(data)
            except sse.EventTooLarge:
                raise Foreign(f"An event of {self.url} is too large.") from None
            payloads = list(sse.payloads(run))
            if not payloads and run:
                yield Piece(waiting=b": waiting" in run)
            for payload in payloads:
                if payload == b"[DONE]":
                    return
                yield self._piece(payload)
        raise Lost("The server ended in the middle of the answer.")

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read1(READ_BYTES)
        except TimeoutError:
            raise Lost(f"The server has said nothing for {SILENCE_SECONDS:.0f} seconds.") from None
        except (OSError, http.client.HTTPException):
            return b""

    def _piece(self, payload: bytes) -> Piece:
        chunk = self._decode(payload, _Chunk)
        if chunk.error is not None:
            message, log = _told(payload)
            raise Refused(message or "The server ended the answer with an error.", log=log)
        choice = chunk.choices[0] if chunk.choices else _Choice()
        return Piece(
            choice.delta.content or "",
            choice.delta.reasoning_content or "",
            choice.finish_reason or "",
            chunk.usage,
        )

    def _get(self, path: str) -> bytes:
        with self._call("GET", path, None) as response:
            return self._whole(response)

    def _whole(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, http.client.HTTPException):
            raise Lost(f"The answer of {self.url} broke off.") from None

    @contextlib.contextmanager
    def _call(self, method: str, path: str, body: bytes | None) -> Iterator[http.client.HTTPResponse]:
        """One request; its connection is closed on every way out, which stops whatever it began."""
        with contextlib.ExitStack() as ending:
            try:
                connection = self._connect(ending)
                silence = SILENCE_SECONDS if body is not None else ANSWER_SECONDS
                connection.sock.settimeout(silence)
                headers = self._headers | ({"content-type": "application/json"} if body else {})
                connection.request(method, f"{self._parts.path}{path}", body, headers)
                response = connection.getresponse()
            except TimeoutError:
                raise Unreachable(f"The server at {self.url} does not answer in time.") from None
            except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
                raise Lost(f"The server at {self.url} closed the connection unanswered.") from None
            except http.client.HTTPException:
                raise Foreign(f"What answers at {self.url} is not an HTTP server.") from None
            except OSError as problem:
                why = problem.strerror or str(problem)
                raise Unreachable(f"No server answers at {self.url} ({why}).") from None
            # The connection hands its socket to a response that ends with it: both must be closed.
            ending.callback(response.close)
            if response.status != 200:
                raise self._refusal(response)
            yield response

    def _connect(self, ending: contextlib.ExitStack) -> http.client.HTTPConnection:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=CONNECT_SECONDS)
        ending.callback(connection.close)
        connection.connect()
        return connection

    def _refusal(self, response: http.client.HTTPResponse) -> Failure:
        try:
            body = response.read(MAX_ERROR_BYTES)
        except (OSError, http.client.HTTPException):
            body = b""
        message, log = _told(body)
        if message:
            return Refused(message, response.status, log)
        return Foreign(f"{self.url} answered {response.status}, and not as an OpenAI server does.")

    def _decode(self, body: bytes, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Foreign(f"{self.url} does not answer as an OpenAI server does.") from None


def _told(body: bytes) -> tuple[str, list[str]]:
    """The words of an error in OpenAI's envelope, or in one of the looser ones, ``""`` for none; and the
    engine's log that our server adds.
    """
    try:
        error = msgspec.json.decode(body, type=dict[str, Any]).get("error")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", []
    envelope = error if isinstance(error, dict) else {"message": error}
    message, log = envelope.get("message"), envelope.get("engine_log")
    words = " ".join(message.split()) if isinstance(message, str) else ""
    return words, [str(line) for line in log] if isinstance(log, list) else []


def _split(url: str) -> SplitResult:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        right = False
    if not right:
        raise ValueError("the server's address must be like http://HOST:PORT")
    # With or without the /v1 that OpenAI's own clients want.
    return parts._replace(path=parts.path.rstrip("/").removesuffix("/v1"))


def add_server_flags(command: argparse.ArgumentParser) -> None:
    """Where the server is, and the key for it."""
    command.add_argument("--url", help=f"the server's address (INGLENOOK_URL, else {DEFAULT_URL})")
    command.add_argument(
        "--api-key",
        metavar="KEY",
        help="a key for it; others on this machine cannot see it in INGLENOOK_API_KEY",
    )


def named_url(arguments: argparse.Namespace) -> str:
    """The address that flag or environment name; ``""`` when neither does."""
    return str(arguments.url or os.environ.get("INGLENOOK_URL", ""))


def server_at(url: str, arguments: argparse.Namespace) -> Server:
    """The server at ``url``, with the key that flag or environment give. Raises ``ValueError``."""
    key = arguments.api_key or os.environ.get("INGLENOOK_API_KEY", "")
    return Server(url, key.strip())
