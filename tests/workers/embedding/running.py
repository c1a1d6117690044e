"""A running embedding worker, and what the tests ask of it."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from inglenook.workers.embedding.backends.base import Batched, Floats
from tests.workers.running import Json, UnixConnection, environment, python

WORKER = "inglenook.workers.embedding"
TOY = "tests.workers.embedding.toy"
ANSWER_SECONDS = 50.0
START_SECONDS = 50.0
"""How long a start may take: importing torch is slow where others compute too."""


@dataclass(frozen=True)
class Reply:
    """An answer: JSON, or a frame's head with its floats."""

    status: int
    head: Json
    floats: Floats

    @property
    def error(self) -> Json:
        """Return what the error says, without its code."""
        assert self.head["error"].pop("code") == self.status
        return self.head["error"]

    @property
    def dense(self) -> Floats:
        """Return the dense vectors, which come first."""
        count, width = self.head["count"], self.head["dimension"]
        return self.floats[: count * width].reshape(count, width)

    @property
    def colbert(self) -> list[Floats]:
        """Return the vectors of each text, which come last."""
        lengths, width = self.head["colbert"], self.head["dimension"]
        flat = self.floats[self.floats.size - sum(lengths) * width :].reshape(-1, width)
        return np.split(flat, np.cumsum(lengths)[:-1])


class Running:
    """One process of a module, started with ``flags``; stderr goes to a file."""

    def __init__(self, folder: Path, module: str, flags: Sequence[str]) -> None:
        self.socket = folder / "worker.sock"
        self.log = folder / "worker.log"
        root = Path(__file__).parents[3]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*python(module), "--socket", str(self.socket), *flags],
                stderr=log,
                env=environment(),
                cwd=root,
                start_new_session=True,
            )

    def wait_until_listening(self) -> None:
        """Wait until the socket takes connections."""
        self._wait(lambda: self.status("/health") != 0)

    def wait_until_ready(self) -> None:
        """Wait until the model has loaded."""
        self._wait(lambda: self.status("/health") == 200)

    def wait_for_exit(self) -> int:
        """Wait until the process is gone and return its code, negative for a signal."""
        return self.process.wait(30)

    def kill(self) -> None:
        """Kill the process and all it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def status(self, path: str) -> int:
        """Return the status that a GET gives, 0 when nobody listens."""
        try:
            return self.get(path).status
        except (OSError, http.client.HTTPException):
            return 0

    def connect(self) -> UnixConnection:
        """Return a new connection."""
        connection = UnixConnection(self.socket)
        try:
            connection.connect()
        except OSError:
            connection.close()
            raise
        connection.sock.settimeout(ANSWER_SECONDS)
        return connection

    def get(self, path: str) -> Reply:
        """Return the answer to a GET."""
        return ask(self.connect(), "GET", path, None)

    def post(self, path: str, body: Json) -> Reply:
        """Return the answer to a POST of JSON, or of the bytes given."""
        return ask(self.connect(), "POST", path, body)

    def embed(self, *texts: str, **more: Any) -> Reply:
        """Return the answer to a request for vectors of ``texts``."""
        return self.post("/embed", {"texts": texts, **more})

    def counts(self) -> Json:
        """Return what the worker has counted."""
        return self.get("/counts").head

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def resident(self) -> int:
        """Return how many bytes of memory the process holds."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def embed(backend: Batched, texts: Sequence[str], *, truncate: bool = False) -> Floats:
    """Return the dense vectors of ``texts`` that a model in this process makes in one batch."""
    encoded = backend.read(texts, truncate=truncate)
    dense = backend.compute(encoded.items, frozenset(("dense",)), alone=True).dense
    assert dense is not None
    return dense


def ask(connection: UnixConnection, method: str, path: str, body: Json) -> Reply:
    """Return the answer to one request on ``connection``, and close it."""
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, data)
        return read(connection.getresponse())
    finally:
        connection.close()


def read(response: http.client.HTTPResponse) -> Reply:
    """Return an answer whose head has been read."""
    data = response.read()
    if response.headers.get_content_type() == "application/json":
        return Reply(response.status, json.loads(data or b"null"), np.empty(0, np.float32))
    size = int.from_bytes(data[:4], "little")
    head = msgspec.json.decode(data[4 : 4 + size])
    return Reply(response.status, head, np.frombuffer(data, "<f4", offset=4 + size))
