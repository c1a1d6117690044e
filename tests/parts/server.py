"""The shipped server as a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

START_SECONDS = 20.0
WAIT_SECONDS = 20.0


@dataclass
class Answer:
    """One HTTP answer, read whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error

    @property
    def events(self) -> list[Any]:
        """The data of each event; ``[DONE]`` as itself."""
        return list(parse_events(self.body))


def parse_events(body: bytes) -> Iterator[Any]:
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        if event.strip().startswith(b"data:"):
            data = event.strip()[5:].strip()
            yield "[DONE]" if data == b"[DONE]" else json.loads(data)


class Server:
    """A running ``inglenook serve``: its address, its process, its log."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process, self.url, self._log = process, url, log
        self.port = int(url.rsplit(":", 1)[1])

    @property
    def log(self) -> str:
        return self._log.read_text()

    def connect(self, timeout: float = WAIT_SECONDS) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request, its answer read to the end. ``body``: bytes as they are, else as JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def chat(self, content: str, model: str = "echo", **fields: Any) -> Answer:
        messages = [{"role": "user", "content": content}]
        return self.ask("POST", "/v1/chat/completions", {"model": model, "messages": messages, **fields})

    @contextlib.contextmanager
    def streaming(self, content: str, model: str = "echo", **fields: Any) -> Iterator[IO[bytes]]:
        """A chat stream, to be read line by line; leaving the block closes the connection."""
        messages = [{"role": "user", "content": content}]
        body = json.dumps({"model": model, "messages": messages, "stream": True, **fields})
        connection = self.connect()
        connection.request("POST", "/v1/chat/completions", body)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        try:
            yield response
        finally:
            response.close()
            connection.close()

    def state(self, model: str = "echo") -> str:
        state: str = self.get("/health").json["models"][model]
        return state

    def engines(self) -> list[int]:
        """The pids of this server's engine processes."""
        return children(self.process.pid)

    def until_log(self, text: str) -> None:
        until(lambda: text in self.log, f"{text!r} in the log")

    def signal(self, which: signal.Signals) -> None:
        self.process.send_signal(which)

    def wait(self, timeout: float = WAIT_SECONDS) -> int:
        return self.process.wait(timeout)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start(settings: str, directory: Path, flags: Sequence[str]) -> Server:
    """Start a server with the settings on a free port; returns once it listens."""
    directory.mkdir(exist_ok=True, parents=True)
    config = directory / "inglenook.toml"
    config.write_text(settings)
    log = directory / "log.txt"
    command = [
        sys.executable,
        "-P",
        "-m",
        "inglenook",
        "serve",
        "--config",
        str(config),
        "--port",
        "0",
        *flags,
    ]
    return launched(command, directory, log, os.environ)


def launched(command: Sequence[str], directory: Path, log: Path, environ: Mapping[str, str]) -> Server:
    """Run a command that serves; returns once it has told its address."""
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stream, text=True, cwd=directory, env=dict(environ)
        )
    assert process.stdout is not None
    first = process.stdout.readline()
    found = re.search(r"https?://\S+:\d+", first)
    if found is None:
        process.wait(START_SECONDS)
        process.stdout.close()
        raise AssertionError(f"the server did not start: {first} {log.read_text()}")
    return Server(process, found[0], log)


def until(condition: Any, what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until something outside this process is so. For what sends no event to us."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Direct children of a process, from /proc."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(child) for child in text.split()]


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
