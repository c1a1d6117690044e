"""Starting, watching and ending the processes of a benchmark, each in a process group of its own.

Nothing here ends a process that it did not start.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inglenook.bench import exchange, jobs
from inglenook.bench.jobs import Target
from inglenook.bench.machine import pinned, share_priority
from inglenook.bench.reply import Garbled
from inglenook.bench.sockets import ask_once

STOP_SECONDS = 15.0
LOG_BYTES = 16 << 20
WANTED_FILES = 20_000


class BenchError(Exception):
    """A benchmark that cannot go on; the words name the mend where there is one."""


@dataclass(frozen=True)
class Recipe:
    """How one process is started and reached.

    ``is_exact`` says that it passes the upstream's bytes on unchanged.
    """

    name: str
    argv: tuple[str, ...]
    target: Target
    health: str = "/health"
    env: dict[str, str] = field(default_factory=dict)
    start_seconds: float = 30.0
    is_exact: bool = True


def spawn(argv: Sequence[str], cpu: int | None, **options: Any) -> subprocess.Popen[Any]:
    """Start a process on this CPU, in a session of its own that has our priority."""
    with pinned(cpu):
        process = subprocess.Popen(argv, start_new_session=True, **options)
    share_priority(process.pid)
    return process


class Child:
    """One started process, tied to us. `stop` ends it and everything in its group."""

    def __init__(self, recipe: Recipe, directory: Path, cpu: int | None) -> None:
        self.recipe = recipe
        self.log = directory / f"{recipe.name}.log"
        argv = [sys.executable, "-m", "inglenook.workers.leash", "--", *recipe.argv]
        env = {**os.environ, **recipe.env}
        # Appending, so that `trim_log` may cut the file under the writer.
        with self.log.open("ab") as log:
            self._process = spawn(
                argv, cpu, cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Return once the health path answers 200.

        Raises `BenchError` with the end of the log when that never comes.
        """
        end = time.monotonic() + self.recipe.start_seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise BenchError(self._explain(f"ended with status {self._process.returncode}"))
            if is_healthy(self.recipe.target, self.recipe.health):
                return
            time.sleep(0.05)
        raise BenchError(self._explain(f"was not ready within {self.recipe.start_seconds:.0f} s"))

    def _explain(self, what: str) -> str:
        tail = self.log.read_bytes()[-2000:].decode(errors="replace").strip()
        return f"{self.recipe.name} {what}. The end of its log:\n{tail}"

    def trim_log(self) -> None:
        """Keep a long run from filling the disk with access logs."""
        if self.log.stat().st_size > LOG_BYTES:
            os.truncate(self.log, 0)

    def stop(self) -> None:
        """Ask the group to end, and end it when it does not."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        # Whatever the process left behind in its group, and itself when it is deaf.
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def is_healthy(target: Target, path: str = "/health") -> bool:
    """Whether a GET of this path is answered with 200 at once."""
    raw = exchange.http_request("GET", path, target.headers)
    try:
        status, _ = ask_once(target, raw, seconds=5.0)
    except (OSError, Garbled):
        return False
    return status == 200


@contextmanager
def started(recipe: Recipe, directory: Path, cpu: int | None) -> Iterator[Child]:
    """A process that is ready, and that has ended when the block is left."""
    child = Child(recipe, directory, cpu)
    try:
        child.wait_ready()
        yield child
    finally:
        child.stop()


class Generator:
    """A generator process at work on one job."""

    def __init__(self, job: jobs.Job, cpu: int | None) -> None:
        argv = [sys.executable, "-m", "inglenook.bench.load"]
        self._process = spawn(argv, cpu, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin and self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._stdin.write(jobs.encode(job))
        self._stdin.flush()

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    def result(self, seconds: float) -> dict[str, Any]:
        """What it measured; the generator then waits, with its connections open, until the block is left."""
        ready, _, _ = select.select([self._stdout], [], [], seconds)
        line = self._stdout.readline() if ready else ""
        if not line:
            raise BenchError("The generator failed or gave no result in time; its message is above.")
        measured: dict[str, Any] = json.loads(line)
        return measured


def generate(job: jobs.Job, cpu: int | None, seconds: float) -> dict[str, Any]:
    """Run one job in a generator process; ``seconds`` is how long that may take."""
    with Generator(job, cpu) as generator:
        return generator.result(seconds)


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def take_priority(nice: int) -> None:
    """Change our own nice value, which the processes we start inherit; 0 leaves it as it is.

    Raises `BenchError`.
    """
    if nice == 0:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        raise BenchError(f"Only root may ask for a nice value of {nice}; leave --nice out.") from None


def allow_many_files() -> None:
    """Raise our own limit on open files, which the processes we start inherit: streams are sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
