"""A GGUF behind llama.cpp's own HTTP server, on a unix socket, for the length of a `with`."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xllamacpp

Json = dict[str, Any]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Engine:
    """Asks a running server; one connection for each request."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def post(self, route: str, body: Json) -> Json:
        connection = _Connection(self._path)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", route, json.dumps(body), headers)
            answer = connection.getresponse()
            read: Json = json.loads(answer.read())
            if answer.status != 200:
                raise RuntimeError(f"{route} answered {answer.status}: {read}")
            return read
        finally:
            connection.close()

    def chat(self, messages: list[Json], **more: Any) -> Json:
        """The choice that answers `messages`; greedy unless `more` says otherwise."""
        body = {"messages": messages, "temperature": 0, "max_tokens": 700, **more}
        choice: Json = self.post("/v1/chat/completions", body)["choices"][0]
        return choice


def _wait_until_ready(path: Path) -> None:
    for _ in range(200):
        try:
            connection = _Connection(path)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"no answer on {path} within ten seconds")


@contextmanager
def serving(gguf: Path, threads: int = 1) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "engine.sock"
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.hostnames = [str(path)]
        params.n_ctx = 2048
        params.n_parallel = 1
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.use_jinja = True
        params.verbosity = 0
        server = xllamacpp.Server(params)
        _wait_until_ready(path)
        yield Engine(path)
        del server
