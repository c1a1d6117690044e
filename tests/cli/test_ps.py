"""``inglenook ps`` against a real server."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import StartServer

MODELS = """
[[models]]
id = "e"
path = "builtin:echo"
[[models]]
id = "team/longer-name"
path = "builtin:echo"
"""


def ps(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inglenook", "ps", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_states_stand_in_a_column(serve: StartServer) -> None:
    """Every model has a line, in the order of the settings, with its state."""
    server = serve(MODELS)
    server.chat("hi", model="e")
    lines = ps("--url", server.url).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["MODEL", "STATE"],
        ["e", "ready"],
        ["team/longer-name", "stopped"],
    ]
    assert {line.index(line.split()[1]) for line in lines} == {len("team/longer-name") + 2}


def test_json_is_the_servers_own_answer(serve: StartServer) -> None:
    """Scripts get what GET /health has."""
    server = serve(MODELS)
    assert json.loads(ps("--json", "--url", server.url).stdout) == server.get("/health").json


def test_no_server_is_a_failure_in_one_sentence() -> None:
    """The address that was tried is named."""
    done = ps("--url", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "inglenook: No server answers at http://127.0.0.1:1 (Connection refused).\n"


def test_an_address_that_is_none_is_a_wrong_call() -> None:
    """Exit status 2, as for any wrong call."""
    assert ps("--url", "ftp://example.org").returncode == 2
