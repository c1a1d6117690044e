"""What a request leaves behind in memory: nothing that waits for the garbage collector."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.parts import garbage

EVERYTHING = """
[auth]
database = "none"
keys = [{key = "a-key-for-tests", client = "tests"}]
[limits]
requests_per_minute = 1000
tokens_per_minute = 1000000
concurrency = 10
[cache]
enabled = true
sampled = true
[[models]]
id = "echo"
path = "builtin:echo"
"""


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_ended_leaves_no_circle(
    serve: StartServer, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """With a key, limits, log, metrics and cache: none of what they hold of a request refers to itself."""
    monkeypatch.setenv("PYTHONPATH", str(Path(garbage.__path__[0])), prepend=":")
    server = serve(EVERYTHING)
    connection = server.connect()

    def chat(text: str) -> None:
        body = f'{{"model": "echo", "stream": {str(stream).lower()}, "messages": [{{"role": "user", "content": "{text}"}}]}}'
        connection.request("POST", "/v1/chat/completions", body, {"authorization": "Bearer a-key-for-tests"})
        answer = connection.getresponse()
        assert (answer.status, b'"finish_reason":"stop"' in answer.read().replace(b" ", b"")) == (200, True)

    chat("warm")
    server.signal(signal.SIGUSR1)
    for number in range(20):
        chat(f"words{number}")
    connection.close()
    server.signal(signal.SIGUSR2)
    server.until_log("garbage=")
    found = re.search(r"garbage=(\d+)", server.log)
    # Some of the event loop's and the log's own; what a request left was thirty objects, so six hundred here.
    assert found is not None and int(found[1]) < 60
