"""A server in a dialect, as somebody starts it who comes from that system: its variables and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.parts.server import START_SECONDS, Server, launched

KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "XDG_DATA_HOME")
"""What the server's environment has of this one."""


def command(dialect: str, *flags: str) -> list[str]:
    return [sys.executable, "-P", "-m", "inglenook", "serve", "--dialect", dialect, *flags]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT if name in os.environ} | dict(variables)


def start_dialect(dialect: str, directory: Path, variables: Mapping[str, str], *flags: str) -> Server:
    """Start it in ``directory``, without a file of settings; returns once it listens. Say a port somewhere."""
    directory.mkdir(exist_ok=True, parents=True)
    return launched(command(dialect, *flags), directory, directory / "log.txt", environment(variables))


def refused_start(dialect: str, directory: Path, variables: Mapping[str, str]) -> str:
    """What a start says that has to fail: one line on stderr, exit status 2."""
    done = subprocess.run(
        command(dialect, "--port", "0"),
        capture_output=True,
        text=True,
        cwd=directory,
        env=environment(variables),
        timeout=START_SECONDS,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("inglenook: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("inglenook: ").strip()
