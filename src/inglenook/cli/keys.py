"""``inglenook keys``: who may ask a server, kept in a SQLite file that it watches."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from inglenook.cli.subcommands import Commands
from inglenook.config.load import SettingsError, load
from inglenook.store.keys import KeyStore, KeyStoreError, StoredKey, database, new_key, new_row

_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_COLUMNS = ("ID", "CLIENT", "KEY", "STATE", "EXPIRES", "MODELS", "LIMITS")
MAX_NAME = 64


def add_commands(commands: Commands) -> None:
    group = commands.add_parser("keys", help="say who may ask a server, and how much")
    kinds = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_create(kinds)
    show = kinds.add_parser("list", help="show every key's client, limits and state; never the key itself")
    show.add_argument("--json", action="store_true", help="as JSON, moments in Unix time")
    _add_place(show, list_command)
    says = "make a key, or all of a client's, worth nothing; a running server knows within two seconds"
    revoke = kinds.add_parser("revoke", help=says, description=f"{says[0].upper()}{says[1:]}.")
    revoke.add_argument("which", metavar="ID|CLIENT", help="as `inglenook keys list` shows it")
    _add_place(revoke, revoke_command)


def _add_create(kinds: Commands) -> None:
    create = kinds.add_parser(
        "create",
        help="make a key for a client and print it, once",
        description="Make a key for a client and print it on standard output, once: only a hash of it is "
        "kept. A running server knows it within two seconds. Once there is a key, every request needs one.",
    )
    create.add_argument("client", metavar="CLIENT", help="who it is for, in logs and limits")
    create.add_argument("--model", action="append", default=[], metavar="ID", help="a model it may use (all)")
    for flag, says in (
        ("--requests-per-minute", "requests in any minute (as `[limits]` has it)"),
        ("--tokens-per-minute", "tokens in any minute (as `[limits]` has it)"),
        ("--concurrency", "requests at the same time (as `[limits]` has it)"),
    ):
        create.add_argument(flag, type=_count, default=0, metavar="N", help=says)
    create.add_argument(
        "--weight", type=_weight, default=1.0, metavar="W", help="its share of a busy model (1)"
    )
    says = "30m, 12h, 30d, 2w, or the last day"
    create.add_argument("--expires", default="", metavar="30d|DATE", help=says)
    _add_place(create, create_command)


def _add_place(command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    command.add_argument("--config", metavar="FILE", type=Path, help="the server's settings")
    command.add_argument("--database", metavar="FILE", help="the file of keys (auth.database)")
    command.set_defaults(run=_safely(run))


def _safely(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command whose failures are one sentence on standard error."""

    def told(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except (SettingsError, ValueError) as problem:
            print(f"inglenook: {problem}", file=sys.stderr)
            return 2
        except KeyStoreError as problem:
            print(f"inglenook: {problem}", file=sys.stderr)
            return 1

    return told


def _store(arguments: argparse.Namespace) -> KeyStore:
    """Raises ``SettingsError``."""
    said = arguments.database
    path = database(said or load(arguments.config, os.environ, {}).auth.database, os.environ)
    if path is None:
        raise SettingsError("auth.database: is none, so there is no file for keys; name one with --database")
    return KeyStore(path)


def create_command(arguments: argparse.Namespace) -> int:
    now = time.time()
    store = _store(arguments)
    key = new_key()
    row = replace(
        new_row(key, _name(arguments.client), now),
        models=tuple(arguments.model),
        requests_per_minute=arguments.requests_per_minute,
        tokens_per_minute=arguments.tokens_per_minute,
        concurrency=arguments.concurrency,
        weight=arguments.weight,
        expires=expiry(arguments.expires, now),
    )
    store.add(row)
    until = f" until {_moment(row.expires)}" if row.expires else ""
    print(f"Key {row.id} of {row.client}{until}, in {store.path}.", file=sys.stderr)
    print("Keep it now: only its hash is stored, and it is not shown again.", file=sys.stderr)
    print(key)
    return 0


def list_command(arguments: argparse.Namespace) -> int:
    rows = _store(arguments).all()
    now = time.time()
    if arguments.json:
        print(json.dumps([_shown(row, now) for row in rows], indent=2))
        return 0
    if not rows:
        print("There are no keys: every request is let in.", file=sys.stderr)
        return 0
    _print_table([_COLUMNS, *(_cells(row, now) for row in rows)])
    return 0


def revoke_command(arguments: argparse.Namespace) -> int:
    meant = _store(arguments).revoke(arguments.which, time.time())
    if not meant:
        raise KeyStoreError(f"no key has the id or client {arguments.which!r}; see `inglenook keys list`")
    for row in meant:
        how = "was revoked before" if row.revoked else "is revoked"
        print(f"Key {row.id} of {row.client} {how}.", file=sys.stderr)
    return 0


def expiry(text: str, now: float) -> float:
    """Unix time that ``--expires`` means; 0 for nothing. A date counts to its end, in UTC.

    Raises ``ValueError`` with the words for whoever wrote it.
    """
    if not text:
        return 0.0
    if span := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        seconds = int(span[1]) * _SECONDS[span[2]]
        if seconds:
            return now + seconds
    try:
        end = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise ValueError(f"--expires {text}: write it like 30d, 12h or 2027-12-31") from None
    if end.timestamp() <= now:
        raise ValueError(f"--expires {text}: is in the past")
    return end.timestamp()


def state(row: StoredKey, now: float) -> str:
    if row.revoked:
        return "revoked"
    return "expired" if row.expires and now >= row.expires else "good"


def _name(client: str) -> str:
    if not client.strip() or not client.isprintable() or len(client) > MAX_NAME:
        raise ValueError(f"CLIENT: must be a name of at most {MAX_NAME} printable characters")
    return client


def _shown(row: StoredKey, now: float) -> dict[str, object]:
    shown = {name: value for name, value in asdict(row).items() if name != "digest"}
    return shown | {"state": state(row, now)}


def _cells(row: StoredKey, now: float) -> tuple[str, ...]:
    limits = (
        (row.requests_per_minute, f"{row.requests_per_minute} requests/min"),
        (row.tokens_per_minute, f"{row.tokens_per_minute} tokens/min"),
        (row.concurrency, f"{row.concurrency} at once"),
        (row.weight != 1, f"weight {row.weight:g}"),
    )
    return (
        row.id,
        row.client,
        f"{row.start}…",
        state(row, now),
        _moment(row.expires) if row.expires else "never",
        ", ".join(row.models) or "all",
        ", ".join(words for is_set, words in limits if is_set) or "-",
    )


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _moment(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**53:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise argparse.ArgumentTypeError("must be a number above 0")
    return weight
