"""A server for the time of one command: started on a free port, told to end on every way out.

It is leashed to the command: a command that is killed takes its server, and the server its engines, along.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from inglenook.cli.remote import Failure
from inglenook.policy.reference import BuiltinRef, FileRef, HubRef, ModelRef
from inglenook.workers.leash import PARENT_VARIABLE

START_SECONDS = 60.0
DRAIN_SECONDS = 1.0
END_SECONDS = DRAIN_SECONDS + 7.0
"""Its drain, the end of its engines, and a little."""


def short_name(ref: ModelRef) -> str:
    """What the model of ``ref`` is called on a server of its own."""
    match ref:
        case BuiltinRef(name):
            return name
        case HubRef(repo):
            return repo.partition("/")[2]
        case FileRef(path):
            return Path(path).stem


def environment(ref: ModelRef | None, environ: Mapping[str, str]) -> dict[str, str]:
    """What the server is started with: ``environ``'s own settings, or nothing but ``ref``'s model."""
    made = dict(environ) | {
        "INGLENOOK_SERVER__DRAIN_SECONDS": str(DRAIN_SECONDS),
        PARENT_VARIABLE: str(os.getpid()),
        # `-m` would import what lies in the working directory first, and that is anything.
        "PYTHONSAFEPATH": "1",
    }
    # It is for this command alone, which has neither a key for it nor a reason to trust its certificate.
    for name in ("INGLENOOK_API_KEY", "INGLENOOK_AUTH", "INGLENOOK_AUTH__KEYS"):
        made.pop(name, None)
    made |= {
        "INGLENOOK_AUTH__DATABASE": "none",
        "INGLENOOK_SERVER__TLS_CERT": "",
        "INGLENOOK_SERVER__TLS_KEY": "",
    }
    if ref is not None:
        made.pop("INGLENOOK_UPSTREAMS", None)
        path = os.path.abspath(os.path.expanduser(ref.path)) if isinstance(ref, FileRef) else str(ref)
        table = f"id = {_quoted(short_name(ref))}, path = {_quoted(path)}, preload = true"
        made["INGLENOOK_MODELS"] = f"[{{{table}}}]"
    return made


def _quoted(text: str) -> str:
    # A JSON string is a TOML string, but for a character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@contextlib.contextmanager
def own_server(ref: ModelRef | None, environ: Mapping[str, str]) -> Iterator[str]:
    """The address of a server that lives as long as this block. Raises ``Failure``."""
    serve = [sys.executable, "-m", "inglenook", "serve", "--host", "127.0.0.1", "--port", "0"]
    serve += ["--log-level", "warning", "--log-format", "text"]
    leashed = [sys.executable, "-m", "inglenook.workers.leash", "--", *serve]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            leashed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(ref, environ),
            # Ctrl-C in the terminal is for the chat alone.
            start_new_session=True,
        )
        # The pipe stays open to the end: a server that prints must not fail at it.
        assert server.stdout is not None
        with server.stdout:
            try:
                yield _address(server.stdout, log)
            finally:
                _end(server)


def _address(out: IO[bytes], log: IO[bytes]) -> str:
    """From the first line that a server prints: "Inglenook is listening on URL ..."."""
    line = b""
    until = time.monotonic() + START_SECONDS
    while not line.endswith(b"\n"):
        if not select.select([out], [], [], max(0.0, until - time.monotonic()))[0]:
            raise Failure(f"The server did not start within {START_SECONDS:.0f} seconds.")
        if not (byte := os.read(out.fileno(), 1)):
            raise Failure(f"The server did not start: {_last_line(log)}")
        line += byte
    words = line.decode(errors="replace").split()
    url = next((word for word in words if word.startswith("http://")), "")
    if not url:
        raise Failure("The server started, and did not say where it listens.")
    return url


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return said.removeprefix("inglenook: ")


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(END_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        # Late, or the person is in a hurry. The group, because the leash may be a process of its own.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
