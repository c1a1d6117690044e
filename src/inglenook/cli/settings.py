"""``inglenook config``: check and show the settings without starting anything."""

from __future__ import annotations

import argparse
import sys

import msgspec

from inglenook.cli.serve import add_settings_flags, settings_from
from inglenook.cli.subcommands import Commands
from inglenook.config.load import SettingsError
from inglenook.config.reference import reference
from inglenook.config.settings import masked


def add_commands(commands: Commands) -> None:
    group = commands.add_parser("config", help="check or show the settings")
    kinds = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    explain = kinds.add_parser("explain", help="print every setting as Markdown")
    explain.set_defaults(run=explain_command)
    for name, run, says in (
        ("check", check_command, "say whether the settings are right, and where they are not"),
        ("show", show_command, "print the settings in effect as JSON, secrets masked"),
    ):
        command = kinds.add_parser(name, help=says, description=says)
        add_settings_flags(command)
        command.set_defaults(run=run)


def check_command(arguments: argparse.Namespace) -> int:
    try:
        settings_from(arguments)
    except SettingsError as problem:
        print(f"inglenook: {problem}", file=sys.stderr)
        return 2
    print("The settings are right.")
    return 0


def explain_command(arguments: argparse.Namespace) -> int:
    print(reference(), end="")
    return 0


def show_command(arguments: argparse.Namespace) -> int:
    try:
        settings = settings_from(arguments)
    except SettingsError as problem:
        print(f"inglenook: {problem}", file=sys.stderr)
        return 2
    shown = msgspec.json.encode(masked(settings))
    print(msgspec.json.format(shown, indent=2).decode())
    return 0
