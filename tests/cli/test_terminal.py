"""Where each thing that a chat says goes, and what a terminal is told."""

from __future__ import annotations

import io

import pytest

from inglenook.cli.terminal import Terminal

DIM, PLAIN, ERASE = "\033[2m", "\033[0m", "\r\033[K"


class Screen(io.StringIO):
    """A stream that is a terminal, or is not."""

    def __init__(self, *, tty: bool) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


def terminal(*, tty: bool, source: str = "", **environ: str) -> tuple[Terminal, Screen, Screen]:
    out, err = Screen(tty=tty), Screen(tty=tty)
    return Terminal(io.StringIO(source), out, err, environ), out, err


def test_thoughts_are_dimmed_and_end_before_the_answer() -> None:
    """The answer alone is on standard output."""
    shown, out, err = terminal(tty=True)
    shown.thought("let me")
    shown.thought(" see")
    shown.answer("Yes.")
    shown.end_line()
    assert err.getvalue() == f"{DIM}let me see{PLAIN}\n"
    assert out.getvalue() == "Yes.\n"


def test_a_notice_is_erased_by_what_follows() -> None:
    """Whatever that is."""
    shown, out, err = terminal(tty=True)
    shown.notice("loading")
    shown.answer("Yes.")
    assert err.getvalue() == f"{DIM}{ERASE}loading{PLAIN}{ERASE}"
    assert out.getvalue() == "Yes."
    shown.notice("late")
    assert "late" not in err.getvalue()


def test_what_is_no_terminal_gets_no_codes() -> None:
    """No notice, no thought, no colour; the answer as it came."""
    shown, out, err = terminal(tty=False)
    shown.notice("loading")
    shown.thought("hm")
    shown.answer("a\x1bb\n")
    shown.end_line()
    shown.error("no")
    assert (out.getvalue(), err.getvalue()) == ("a\x1bb\n", "no\n")


def test_what_a_server_says_cannot_drive_a_terminal() -> None:
    """Neither in the answer nor in an error."""
    shown, out, err = terminal(tty=True, NO_COLOR="1")
    shown.answer("a\x1b[2Jb\tc\n\x9bd")
    shown.error("e\x1b]0;f\x07")
    assert out.getvalue() == "a[2Jb\tc\nd\n"
    assert err.getvalue() == "e]0;f\n"


def test_lines_of_a_pipe_are_messages_until_it_ends() -> None:
    """The prompt is beside the answers, on standard error; an end within a message sends it."""
    shown, out, err = terminal(tty=False, source="one\\\ntwo\n\nlast\\\n")
    assert [shown.message(), shown.message(), shown.message()] == ["one\ntwo", "", "last"]
    with pytest.raises(EOFError):
        shown.message()
    assert out.getvalue() == ""
    assert err.getvalue() == "> … > > … > "
