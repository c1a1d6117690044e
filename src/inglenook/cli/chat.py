"""``inglenook run``: a chat in the terminal, or one answer for a script."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

from inglenook.cli.answer import receive
from inglenook.cli.conversation import Conversation, Mistake
from inglenook.cli.line_editor import history_file, line_editing
from inglenook.cli.place import place
from inglenook.cli.remote import Failure, Server, add_server_flags
from inglenook.cli.subcommands import Commands
from inglenook.cli.talk import Talk
from inglenook.cli.terminal import Terminal
from inglenook.config.load import SettingsError
from inglenook.policy.reference import FORMS
from inglenook.store import hub

_INTERRUPTED = 130  # what a shell shows for a program that Ctrl-C ended


def add_commands(commands: Commands) -> None:
    command = commands.add_parser(
        "run",
        help="chat with a model in the terminal",
        usage="inglenook run [OPTIONS] [MODEL] [PROMPT ...]",
        description="Chat with a model. With a prompt, or with standard input from a pipe, print one answer "
        "and end. Where no server runs, one is started for as long as it is needed.",
    )
    positionals = [
        command.add_argument(
            "model",
            metavar="MODEL",
            help=f"a model of the server (its first that chats, if none is named), or {FORMS}",
        ),
        command.add_argument(
            "prompt",
            nargs="+",
            default=[],
            metavar="PROMPT",
            help="answer this; a - in it stands for standard input",
        ),
    ]
    for each in positionals:
        # Not nargs="?" and "*": argparse takes those for absent at the first flag that comes before them.
        each.required = False
    add_server_flags(command)
    command.add_argument("--system", metavar="TEXT", default="", help="tell the model how to answer")
    command.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="temperature, top_p, max_tokens or seed; may be given several times",
    )
    command.add_argument("--verbose", action="store_true", help="show tokens and speed after answers")
    command.set_defaults(run=run_command)


def run_command(arguments: argparse.Namespace) -> int:
    """Chat, or answer once. 130 when Ctrl-C ended it; a chat is left with Ctrl-D or /bye."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a letter shows a mark for it; an answer never fails on one.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        conversation = _begun(arguments)
        prompt = _prompt(arguments.prompt, sys.stdin)
        with _ended_in_order(), place(arguments) as (server, model):
            terminal = Terminal(sys.stdin, sys.stdout, sys.stderr, os.environ)
            if prompt is not None:
                conversation.ask(prompt)
                return _answer_once(server, model, conversation, terminal, arguments.verbose)
            talk = Talk(server, model, conversation, terminal, stats=arguments.verbose)
            with line_editing(history_file(os.environ), talk.complete):
                talk.run()
            return 0
    except (ValueError, Mistake, SettingsError) as problem:
        return _fail(problem, 2)
    except (Failure, hub.HubError) as failure:
        return _fail(failure, 1)


def _begun(arguments: argparse.Namespace) -> Conversation:
    conversation = Conversation(system=arguments.system)
    for each in arguments.set:
        name, equals, value = each.partition("=")
        if not equals or not value:
            raise Mistake(f"--set takes NAME=VALUE, not {each!r}")
        conversation.set(name, value)
    return conversation


def _prompt(words: list[str], source: TextIO) -> str | None:
    """What is to be answered once; ``None`` for a chat. Raises ``Mistake`` when a pipe has nothing.

    With words, standard input is read only for a "-" among them: a script may keep it for other things.
    """
    if not words and source.isatty():
        return None
    parts = [_read(source) if word == "-" else word for word in words or ["-"]]
    prompt = " ".join(parts) if "-" not in words else "\n\n".join(parts)
    if not prompt.strip():
        raise Mistake("the prompt is empty: write it after the model, or into standard input")
    return prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read(source: TextIO) -> str:
    return source.buffer.read().decode("utf-8", "replace").strip("\n")


def _answer_once(
    server: Server, model: str, conversation: Conversation, terminal: Terminal, verbose: bool
) -> int:
    answer = receive(server, model, conversation, terminal)
    terminal.end_line()
    if answer.ending == "stopped":
        return _INTERRUPTED
    if answer.failure is not None:
        if verbose:
            terminal.log(answer.failure.log)
        raise answer.failure
    if answer.finish == "length":
        print("inglenook: the answer reached its limit of tokens", file=sys.stderr)
    if verbose:
        terminal.note(answer.cost)
    return 0


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM, and a terminal that is closed, leave through every ``finally``: the history is written and
    a server of our own ends.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # One that is ignored stays so: that is how nohup works.
    numbers = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in numbers:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _fail(reason: object, status: int) -> int:
    print(f"inglenook: {reason}", file=sys.stderr)
    return status
