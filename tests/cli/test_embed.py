"""`inglenook embed` and `inglenook rerank` against a running server."""

from __future__ import annotations

import io
import json

import pytest

from inglenook.cli.main import main
from tests.parts.server import Server


def run(server: Server, command: str, *words: str) -> int:
    return main([command, "--url", server.url, *words])


def rows(printed: str) -> list[list[float]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_a_vector_a_line(vectors: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """For each text of the command line, in order."""
    assert run(vectors, "embed", "--model", "hash", "hello world", "") == 0
    hello, empty = rows(capsys.readouterr().out)
    assert hello[0] == pytest.approx(0.26784691, abs=1e-6)
    assert empty == [0.0] * 8


def test_lines_of_standard_input(
    vectors: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than go into one request, and texts of the command line around them."""
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"line {number}\n" for number in range(150))))
    assert run(vectors, "embed", "--model", "hash", "--dimensions", "2", "first", "-", "last") == 0
    made = rows(capsys.readouterr().out)
    assert [len(row) for row in made] == [2] * 152
    run(vectors, "embed", "--model", "hash", "--dimensions", "2", "line 149", "last")
    assert rows(capsys.readouterr().out) == made[-2:]


def test_rerank(vectors: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """The best first, each after its score."""
    assert run(vectors, "rerank", "--model", "bert", "--top", "1", "the cat", "rocket moon", "the cat") == 0
    assert capsys.readouterr().out == "1.0000\tthe cat\n"


def test_nothing_to_put_in_order(
    vectors: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty pipe is no mistake."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(vectors, "rerank", "--model", "bert", "the cat") == 0
    assert run(vectors, "embed", "--model", "bert") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--model", "hash", "--dimensions", "9", "a"), "dimensions must be at most 8"),
        (("--model", "none", "a"), "'none' does not exist"),
        (("--model", "chat", "a"), "'chat' is there to chat"),
        (("--model", "bert", "cat " * 600), "maximum context length is 512"),
    ],
)
def test_a_refusal_is_one_sentence(
    vectors: Server, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    """The server's own, on stderr, with exit status 1."""
    assert run(vectors, "embed", *words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert run(vectors, "embed", *words, "--truncate") == (0 if "cat " * 600 in words else 1)
