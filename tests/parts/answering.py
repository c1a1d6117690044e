"""An HTTP server on loopback that answers as it is told to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENDLESS = 1_000_000


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Answering:
    """What is answered: change it between requests."""

    url: str
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    dribble: threading.Event | None = None
    """Answer one byte at a time, for ever, until this is set."""
    arrived: threading.Event = field(default_factory=threading.Event)
    asked: list[Request] = field(default_factory=list)
    connections: int = 0

    def say(self, value: Any, status: int = 200, **headers: str) -> None:
        """Answer with JSON from now on."""
        self.status, self.body = status, json.dumps(value).encode()
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        self.headers = {"content-type": "application/json", **named}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.there = Answering(f"http://127.0.0.1:{self.server_address[1]}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.server.there.connections += 1
        super().setup()

    def do_GET(self) -> None:
        there = self.server.there
        length = int(self.headers.get("content-length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        there.asked.append(Request(self.command, self.path, headers, self.rfile.read(length)))
        there.arrived.set()
        self.send_response(there.status)
        for name, value in there.headers.items():
            self.send_header(name, value)
        if "content-length" not in there.headers:
            self.send_header("content-length", str(ENDLESS if there.dribble else len(there.body)))
        self.end_headers()
        if there.dribble is None:
            self.wfile.write(there.body)
        else:
            self._dribble(there.dribble)

    do_POST = do_GET

    def _dribble(self, until: threading.Event) -> None:
        self.close_connection = True
        # Its end is that the client has gone.
        with suppress(OSError):
            while not until.wait(0.02):
                self.wfile.write(b" ")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def answering() -> Iterator[Answering]:
    """A server that listens for as long as the block lasts."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.there
    finally:
        if server.there.dribble is not None:
            server.there.dribble.set()
        server.shutdown()
        thread.join()
        server.server_close()
