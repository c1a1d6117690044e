"""``inglenook load`` and ``inglenook unload`` against a real server."""

from __future__ import annotations

import re

import pytest

from inglenook.cli.main import main
from tests.conftest import StartServer

MODELS = """
models = [
    {id = "one", path = "builtin:echo"},
    {id = "two", path = "builtin:echo", aliases = ["zwei"]},
    {id = "bad", path = "builtin:echo", args = ["--fail-load"]},
]
"""


def test_models_come_and_go(serve: StartServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is told by its id when it is done, in the order of the command line."""
    server = serve(MODELS)
    assert main(["load", "one", "zwei", "--url", server.url]) == 0
    assert re.fullmatch(r"one is ready \(\d+\.\d s\)\ntwo is ready \(\d+\.\d s\)\n", capsys.readouterr().out)
    assert (server.state("one"), server.state("two")) == ("ready", "ready")
    assert main(["unload", "two", "--url", server.url]) == 0
    assert capsys.readouterr().out.startswith("two is stopped (")
    assert (server.state("one"), server.state("two")) == ("ready", "stopped")


def test_a_refusal_is_one_sentence(serve: StartServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The server's own, with the engine's log below it; what was done before it stands."""
    server = serve(MODELS)
    assert main(["load", "one", "ones", "two", "--url", server.url]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("one is ready (")
    assert said.err == "inglenook: The model 'ones' does not exist; did you mean 'one'?\n"
    assert server.state("two") == "stopped"
    assert main(["load", "bad", "--url", server.url]) == 1
    first, *log = capsys.readouterr().err.splitlines()
    assert first.startswith("inglenook: ")
    assert log
    assert all(line.startswith("  ") for line in log)


def test_no_server_and_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1 and 2, as everywhere."""
    assert main(["unload", "one", "--url", "http://127.0.0.1:1"]) == 1
    assert "No server answers at http://127.0.0.1:1" in capsys.readouterr().err
    assert main(["unload", "one", "--url", "ftp://there"]) == 2
    with pytest.raises(SystemExit) as ended:
        main(["load"])
    assert ended.value.code == 2
