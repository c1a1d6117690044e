"""``inglenook ps``: what a running server's models are doing."""

from __future__ import annotations

import argparse
import json
import sys

from inglenook.cli.remote import DEFAULT_URL, Failure, add_server_flags, named_url, server_at
from inglenook.cli.subcommands import Commands


def add_commands(commands: Commands) -> None:
    says = "show what a running server's models are doing"
    command = commands.add_parser("ps", help=says, description=f"{says[0].upper()}{says[1:]}.")
    add_server_flags(command)
    command.add_argument("--json", action="store_true", help="print the server's own answer")
    command.set_defaults(run=ps_command)


def ps_command(arguments: argparse.Namespace) -> int:
    """Print every model and its state, in the server's order."""
    try:
        server = server_at(named_url(arguments) or DEFAULT_URL, arguments)
    except ValueError as problem:
        print(f"inglenook: {problem}", file=sys.stderr)
        return 2
    try:
        health = server.health()
    except Failure as failure:
        print(f"inglenook: {failure}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(health, indent=2))
        return 0
    rows = [("MODEL", "STATE"), *((name, str(state)) for name, state in health["models"].items())]
    width = max(len(name) for name, _ in rows)
    for name, state in rows:
        print(f"{name:{width}}  {state}")
    if health.get("status") == "draining":
        print("The server is shutting down: what runs may finish.", file=sys.stderr)
    return 0
