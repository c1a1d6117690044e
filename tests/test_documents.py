"""What the documents point at is there: every link, every heading, every command of ours."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from inglenook.cli.main import parser
from inglenook.config.load import load

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(inglenook [^`]+)`")


def anchors(page: Path) -> set[str]:
    """Its headings as GitHub names them in links."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {head.replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the repository, and to a heading that it has."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


class Full(dict[str, str]):
    """An environment in which every variable is there."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "x"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_can_be_copied(page: Path, tmp_path: Path) -> None:
    """Each block of TOML is a file that a server starts with."""
    file = tmp_path / "inglenook.toml"
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "toml":
            file.write_text(block.replace('"file:', '"env:'))
            load(file, Full(), {})


def commands(page: Path) -> Iterator[list[str]]:
    """Every call of ``inglenook`` in its blocks and in its text, as the shell would split it."""
    text = page.read_text(encoding="utf-8")
    blocks = [block for language, block in BLOCK.findall(text) if language in ("", "sh", "bash")]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *INLINE.findall(text)]:
        if not re.search(r"\binglenook [a-z-]", line):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        words = ["1" if word == "N" else word for word in lexer]  # N stands for any number
        while "inglenook" in words:
            words = words[words.index("inglenook") + 1 :]
            end = next((at for at, word in enumerate(words) if word[0] in "|&;<>()"), len(words))
            yield words[:end]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_can_be_given(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As they stand: no flag is gone, no argument missing. One without a flag may be a mention of its name."""
    for words in commands(page):
        is_mention = len(words) <= 2 and not any(word.startswith("-") for word in words)
        try:
            parser().parse_args([*words, "--help"] if is_mention else words)
        except SystemExit as ended:
            assert ended.code == 0, (words, capsys.readouterr().err)
