"""``inglenook load`` and ``inglenook unload``: when a running server's models take memory."""

from __future__ import annotations

import argparse
import sys

import msgspec

from inglenook.cli.remote import DEFAULT_URL, Failure, add_server_flags, named_url, server_at
from inglenook.cli.subcommands import Commands
from inglenook.wire.loading import LoadedModel


def add_commands(commands: Commands) -> None:
    for name, says, more in (
        ("load", "load a model into a running server", "Says when the model is ready to answer."),
        (
            "unload",
            "free the memory that a running server's model takes",
            "Waits for the answers that the model is giving. The next request loads it again.",
        ),
    ):
        command = commands.add_parser(name, help=says, description=f"{says[0].upper()}{says[1:]}. {more}")
        command.add_argument("models", nargs="+", metavar="MODEL", help="an id that `inglenook ps` shows")
        add_server_flags(command)
        command.set_defaults(run=move_command, path=f"/v1/models/{name}")


def move_command(arguments: argparse.Namespace) -> int:
    """Load or unload the models one after the other, and say what became of each."""
    try:
        server = server_at(named_url(arguments) or DEFAULT_URL, arguments)
    except ValueError as problem:
        print(f"inglenook: {problem}", file=sys.stderr)
        return 2
    try:
        for model in arguments.models:
            told = server.post(arguments.path, msgspec.json.encode({"model": model}), LoadedModel)
            print(f"{told.model} is {told.state} ({told.seconds:.1f} s)", flush=True)
    except Failure as failure:
        print(f"inglenook: {failure}", file=sys.stderr)
        for line in failure.log:
            print(f"  {line}", file=sys.stderr)
        return 1
    return 0
