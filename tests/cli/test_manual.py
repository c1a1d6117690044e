"""The manual page is the commands' own, and a page that man can show."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from inglenook import __version__
from inglenook.cli.main import parser
from inglenook.cli.manual import manual

PAGE = Path(__file__).parents[2] / "docs" / "inglenook.1"


def shown(page: str) -> str:
    """The page as a reader sees it, on one line."""
    command = ["groff", "-man", "-Tutf8", "-P-cbou", "-ww"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return " ".join(done.stdout.split())


def test_the_page_in_the_repository_is_of_these_commands() -> None:
    """Made anew with ``python -m inglenook.cli.manual > docs/inglenook.1``."""
    assert manual(parser(), __version__) == PAGE.read_text(encoding="utf-8")


def test_every_command_and_option_is_there() -> None:
    """Those of groups such as ``bench`` too."""
    page = manual(parser(), __version__).replace("\\-", "-")
    for command in ("serve", "run", "load", "bench embeddings", "config explain"):
        assert f'.SS "\\fBinglenook {command}\\fR' in page
    for option in ("--config", "--input-chars", "--api-key", "--truncate"):
        assert f"\\fB{option}\\fR" in page
    assert "%(" not in page
    assert "==SUPPRESS==" not in page


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff to show it")
def test_man_shows_it_without_complaint() -> None:
    """With its words, its dashes that can be copied, and no sign of troff."""
    page = shown(manual(parser(), __version__))
    assert "inglenook run [MODEL] [PROMPT ...] Chat with a model." in page
    assert "--max-tokens MAX-TOKENS of an answer (64)" in page
    assert re.findall(r"\\f|\\-|\\\[", page) == []


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff to show it")
def test_nothing_in_a_help_is_taken_for_troff() -> None:
    """Backslashes, quotes, leading dots, letters beyond ASCII; what is suppressed is left out."""
    top = argparse.ArgumentParser(prog="tool", description="It does.")
    command = top.add_subparsers().add_parser("do", help='say "it"')
    command.add_argument("files", nargs="*", metavar="FILE", help=".start 'quoted' \\n \N{BULLET}")
    command.add_argument("--way", choices=["a", "b"], default="b", help="one of `these` (%(default)s)")
    command.add_argument("--secret", help=argparse.SUPPRESS)
    page = shown(manual(top, "1"))
    assert 'tool do [FILE ...] Say "it".' in page
    assert " FILE .start 'quoted' \\n \N{BULLET}" in page
    assert "--way a|b one of these (b)" in page
    assert "secret" not in page
