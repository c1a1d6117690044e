"""``inglenook embed`` and ``inglenook rerank``: vectors and order for texts, in a shell's pipes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TextIO

import msgspec

from inglenook.cli.place import place
from inglenook.cli.remote import Failure, Server, add_server_flags
from inglenook.cli.subcommands import Commands
from inglenook.config.load import SettingsError
from inglenook.policy.reference import FORMS
from inglenook.store import hub

MODEL = "starter-embed"
AT_ONCE = 64
"""Lines of standard input sent together: they need not fit into memory."""


def add_commands(commands: Commands) -> None:
    embed = commands.add_parser(
        "embed",
        help="make vectors of texts",
        description="Print the vector of each text, a JSON array a line. Without texts, of each line of "
        "standard input.",
    )
    embed.add_argument("texts", nargs="*", metavar="TEXT", help="a text; - stands for standard input")
    embed.add_argument("--dimensions", type=int, metavar="N", help="only so many numbers of each vector")
    embed.add_argument("--truncate", action="store_true", help="cut what is longer than the model reads")
    _add_common(embed, embed_texts)
    rerank = commands.add_parser(
        "rerank",
        help="put texts in the order in which they fit a query",
        description="Print each text after its score, the best first. Without texts, the lines of standard "
        "input are put in order.",
    )
    rerank.add_argument("query", metavar="QUERY", help="what is looked for")
    rerank.add_argument("texts", nargs="*", metavar="TEXT", help="a text; - stands for standard input")
    rerank.add_argument("--top", type=int, metavar="N", help="print only so many of the best")
    rerank.add_argument("--truncate", action="store_true", help="cut what is longer than the model reads")
    _add_common(rerank, rerank_texts)


Run = Callable[[Server, str, argparse.Namespace], None]


def _add_common(command: argparse.ArgumentParser, run: Run) -> None:
    command.add_argument(
        "--model", default=MODEL, help=f"a model of the server ({MODEL} if none is named), or {FORMS}"
    )
    add_server_flags(command)
    command.set_defaults(run=lambda arguments: _at_its_place(run, arguments))


def _at_its_place(run: Run, arguments: argparse.Namespace) -> int:
    try:
        with place(arguments) as (server, model):
            run(server, model, arguments)
    except (Failure, ValueError, hub.HubError, SettingsError) as problem:
        print(f"inglenook: {problem}", file=sys.stderr)
        for line in getattr(problem, "log", ()):
            print(f"  {line}", file=sys.stderr)
        return 1
    return 0


class _Row(msgspec.Struct):
    embedding: msgspec.Raw


class _Rows(msgspec.Struct):
    data: list[_Row]


class _Score(msgspec.Struct):
    score: float
    document: str


class _Scores(msgspec.Struct):
    data: list[_Score]


def embed_texts(server: Server, model: str, arguments: argparse.Namespace) -> None:
    """Print a vector for each text as soon as it is there. Raises ``Failure``."""
    texts = _texts(arguments.texts, sys.stdin)
    while batch := list(islice(texts, AT_ONCE)):
        asked = {"model": model, "input": batch, "truncate": arguments.truncate}
        if arguments.dimensions is not None:
            asked["dimensions"] = arguments.dimensions
        for row in server.post("/v1/embeddings", msgspec.json.encode(asked), _Rows).data:
            print(bytes(row.embedding).decode())
        sys.stdout.flush()


def rerank_texts(server: Server, model: str, arguments: argparse.Namespace) -> None:
    """Print the texts, the best first. Raises ``Failure``."""
    texts = list(_texts(arguments.texts, sys.stdin))
    if not texts:
        return
    asked = {
        "model": model,
        "query": arguments.query,
        "documents": texts,
        "top_n": arguments.top,
        "truncate": arguments.truncate,
    }
    for row in server.post("/v1/rerank", msgspec.json.encode(asked), _Scores).data:
        print(f"{row.score:.4f}\t{row.document}")


def _texts(given: Sequence[str], stdin: TextIO) -> Iterator[str]:
    """The texts of the command line, and those of standard input in the place of a ``-``."""
    for text in given or ("-",):
        if text == "-":
            yield from (line.rstrip("\r\n") for line in stdin)
        else:
            yield text
