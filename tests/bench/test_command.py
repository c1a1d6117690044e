"""The command line of the benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inglenook.cli.main import main


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--arms", "direct,apache"], "unknown: apache; known: direct, direct2, nginx"),
        (["--only", "speed"], "unknown: speed; known: throughput"),
        (["--rounds", "0"], "must be above 0"),
    ],
)
def test_a_wrong_call_is_told(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what would be right, and status 2."""
    with pytest.raises(SystemExit) as ended:
        main(["bench", "gateway", *flags])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_run_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table for a reader, the raw rounds for later; nothing on stderr in a pipe."""
    output = tmp_path / "rounds.json"
    flags = ["--quick", "--rounds", "1", "--seconds", "1", "--only", "latency", "--arms", "direct2,direct"]
    assert main(["bench", "gateway", *flags, "--seed", "5", "--output", str(output)]) == 0
    told = capsys.readouterr()
    assert "1 rounds of 1 s, seed 5" in told.out
    assert told.err == ""
    assert json.loads(output.read_text())["plan"]["arms"] == ["direct", "direct2"]


def test_a_run_that_cannot_be_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, with status 1."""
    flags = ["--model", str(tmp_path / "no.gguf"), "--rounds", "1"]
    assert main(["bench", "engine", *flags]) == 1
    assert capsys.readouterr().err.startswith("inglenook: ")
