"""What a start says can be copied as it stands."""

from __future__ import annotations

import json
import subprocess

from tests.conftest import StartServer
from tests.parts.server import Server


def curl_line(server: Server) -> str:
    """The example of the welcome, in its two lines."""
    assert server.process.stdout is not None
    for line in server.process.stdout:
        if "From curl:" in line:
            return line.split("From curl:")[1].strip() + "\n" + server.process.stdout.readline()
    raise AssertionError("no example")


def test_its_curl_line_gets_an_answer(serve: StartServer) -> None:
    """The first command that a newcomer tries."""
    command = curl_line(serve(""))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "The capital of France is Paris."


def test_a_pattern_is_no_name_to_ask_for(serve: StartServer) -> None:
    """Before a server of any models there is a word to replace."""
    server = serve('[[upstreams]]\nname = "all"\nurl = "http://127.0.0.1:9"\nmodels = ["*"]')
    assert '{"model": "MODEL", ' in curl_line(server)
