"""A running echo engine and the plain HTTP that the tests speak to it."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inglenook

SECONDS = 15.0
"""How long anything may take before a test gives up."""

Json = Any


def until(condition: Callable[[], bool]) -> None:
    """Wait for ``condition``, which nothing announces, and fail when it does not come."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def python(*argv: str) -> list[str]:
    """Return the call of a module of the package."""
    return [sys.executable, "-m", *argv]


def environment() -> dict[str, str]:
    """Return the environment of a child that can import the package, installed or not."""
    return os.environ | {"PYTHONPATH": str(Path(inglenook.__file__).parents[1])}


class UnixConnection(http.client.HTTPConnection):
    """The standard library's HTTP client over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        """Return the body read as JSON."""
        return json.loads(self.body)

    @property
    def events(self) -> list[Json]:
        """Return the events of a body that is a stream; `[DONE]` as a string."""
        return read_events(self.body)


def read_events(body: bytes) -> list[Json]:
    """Return the data of each event in ``body``, comments left out."""
    lines = [line for line in body.decode().splitlines() if line.startswith("data: ")]
    return [line[6:] if line[6:] == "[DONE]" else json.loads(line[6:]) for line in lines]


def dechunk(raw: bytes) -> tuple[bytes, bool]:
    """Return the bytes in the chunks of a raw answer, and whether the last chunk came."""
    rest, body = raw.partition(b"\r\n\r\n")[2], b""
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            return body, True
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body, False


class Running:
    """One process, started with ``flags``; stderr goes to a file."""

    def __init__(self, folder: Path, flags: Sequence[str]) -> None:
        self.socket = folder / "engine.sock"
        self.log = folder / "engine.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*python("inglenook.workers.echo"), "--socket", str(self.socket), *flags],
                stderr=log,
                env=environment(),
                start_new_session=True,
            )

    def wait_until_listening(self) -> None:
        """Wait until the socket takes connections."""
        until(lambda: self.accepts() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    def wait_until_ready(self) -> None:
        """Wait until the engine has loaded."""
        self.wait_until_listening()
        until(lambda: self.get("/health").status == 200)

    def wait_for_exit(self) -> int:
        """Wait until the process is gone and return its code, negative for a signal."""
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        """Kill the process and all it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(SECONDS)

    def accepts(self) -> bool:
        """Return whether the socket takes a connection."""
        try:
            self.open().close()
        except OSError:
            return False
        return True

    def open(self) -> socket.socket:
        """Return a new connection."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        try:
            connection.connect(str(self.socket))
        except OSError:
            connection.close()
            raise
        return connection

    def send(self, path: str, body: Json) -> socket.socket:
        """Send a request on a new connection for it alone; the answer is left to the caller."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        connection = self.open()
        connection.sendall(head.encode() + data)
        return connection

    def raw(self, path: str, body: Json) -> bytes:
        """Return every byte that comes before the connection ends."""
        with self.send(path, body) as connection:
            return b"".join(receive(connection))

    def get(self, path: str) -> Answer:
        """Return the answer to a GET."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Json) -> Answer:
        """Return the answer to a POST of JSON, or of the bytes given."""
        return self._ask("POST", path, body if isinstance(body, bytes) else json.dumps(body))

    def chat(self, text: str, **more: Json) -> Answer:
        """Return the answer to a chat of one message."""
        return self.post("/v1/chat/completions", {"messages": user(text), **more})

    def counts(self) -> Json:
        """Return what the engine has counted."""
        return self.get("/echo").json

    def _ask(self, method: str, path: str, body: str | bytes | None) -> Answer:
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()


def receive(connection: socket.socket) -> Iterator[bytes]:
    """Yield what arrives until the other side ends, by whatever means."""
    while True:
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            return
        if not data:
            return
        yield data


def read_until(connection: socket.socket, marks: bytes, count: int = 1) -> bytes:
    """Return what arrives until ``marks`` has been seen ``count`` times."""
    seen = b""
    while seen.count(marks) < count:
        data = connection.recv(65536)
        assert data, f"ended after {seen!r}"
        seen += data
    return seen


def user(text: str) -> list[dict[str, str]]:
    """Return the messages of a chat of one message."""
    return [{"role": "user", "content": text}]
