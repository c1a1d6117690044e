"""``inglenook``: parse the command line, call one function, return its exit status.

0: done. 1: it failed, and one sentence on stderr says what to do. 2: the call itself was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from inglenook import __version__
from inglenook.cli import bench, chat, embed, keys, loading, models, ps, serve, settings


def main(argv: Sequence[str] | None = None) -> int:
    """The console script and ``python -m inglenook``."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`inglenook list | head`): nothing is left to say.
        sys.stderr.close()
        return 1


def parser() -> argparse.ArgumentParser:
    """Every command and flag; the man page and the docs are made from it."""
    top = argparse.ArgumentParser(
        prog="inglenook",
        description="Private language models on your own machines, behind the OpenAI API.",
    )
    top.add_argument("--version", action="version", version=f"inglenook {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in (serve, chat, embed, models, ps, loading, keys, settings, bench):
        group.add_commands(commands)
    return top
