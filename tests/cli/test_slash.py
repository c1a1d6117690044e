"""What a person types in a chat, understood."""

from __future__ import annotations

import pytest

from inglenook.cli.conversation import Mistake
from inglenook.cli.slash import COMMANDS, Draft, completions, help_text, read_command


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("hello /help", None),
        (" /etc/passwd", None),
        ("/help", ("help", "")),
        ("/?", ("help", "")),
        ("/EXIT", ("bye", "")),
        ("/set  seed 3 ", ("set", "seed 3")),
        ("/system Be brief.", ("system", "Be brief.")),
        ("/system Be brief.\nBe kind.", ("system", "Be brief.\nBe kind.")),
    ],
)
def test_a_line_is_a_command_or_a_message(line: str, command: tuple[str, str] | None) -> None:
    """Only a slash at the very beginning makes a command."""
    assert read_command(line) == command


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/hlep", "did you mean /help"),
        ("/xyzzy", "/help shows what there is"),
        ("/", "/help shows what there is"),
    ],
)
def test_an_unknown_command_has_a_near_match(line: str, says: str) -> None:
    """A slip of the finger is not sent to the model."""
    with pytest.raises(Mistake, match=says):
        read_command(line)


def test_the_help_has_every_command() -> None:
    """The help is made from the table that is obeyed."""
    assert all(f"  /{name}" in help_text() for name in COMMANDS)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("/se", ["/set "]),
        ("/s", ["/system ", "/set ", "/save ", "/stats "]),
        ("/model st", ["starter "]),
        ("/set t", ["temperature ", "top_p "]),
        ("/set temperature 0", []),
        ("/save x", []),
        ("se", []),
        ("", []),
    ],
)
def test_tab_completes_commands_and_their_words(line: str, found: list[str]) -> None:
    """Messages are never completed."""
    assert completions(line, ["starter", "team/echo"]) == found


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["hello"], "hello"),
        ([""], ""),
        (["one\\", "two"], "one\ntwo"),
        (["C:\\\\"], "C:\\\\"),
        (['"""one', "", 'two"""'], "one\n\ntwo"),
        (['"""', "one\\", '"""'], "one\\"),
        (['"""one"""'], "one"),
        (['say """'], 'say """'),
    ],
)
def test_messages_of_several_lines(lines: list[str], text: str) -> None:
    """A backslash goes on for a line, three quotes until they come again."""
    draft = Draft()
    assert [draft.add(line) for line in lines] == [False] * (len(lines) - 1) + [True]
    assert draft.text == text


def test_a_quoted_draft_needs_no_opening_quotes() -> None:
    """/multi has opened it."""
    draft = Draft(quoted=True)
    assert [draft.add(line) for line in ("one", 'two"""')] == [False, True]
    assert draft.text == "one\ntwo"
