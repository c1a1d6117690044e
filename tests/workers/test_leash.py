"""A leashed process ends with its parent, however the parent ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.workers.running import SECONDS, environment, python, until

SLEEP = "import time; time.sleep(600)"
TIED = f"from inglenook.workers.leash import tie_to_parent; tie_to_parent(); print(1); {SLEEP}"
# The way of systems whose kernel does not help.
POLLED = "import inglenook.workers.leash as leash; leash._ask_kernel = lambda: False; "


def is_alive(pid: int) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def parent_of(*argv: str, session: bool = False) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a parent that starts ``argv``; yield it with the child's pid, once the child has spoken."""
    program = (
        "import os, subprocess, sys, time; env = os.environ | {'INGLENOOK_PARENT_PID': str(os.getpid())}; "
        f"child = subprocess.Popen({list(argv)!r}, stdout=subprocess.PIPE, env=env, "
        f"start_new_session={session}); "
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert parent.stdout
    pid = int(parent.stdout.readline())
    try:
        yield parent, pid
    finally:
        parent.kill()
        parent.wait(SECONDS)
        parent.stdout.close()
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def python_code(code: str) -> list[str]:
    """Return the call of a line of Python that says something first."""
    return [sys.executable, "-u", "-c", code]


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(python_code(TIED), id="tied"),
        pytest.param(python_code(POLLED + TIED), id="polling"),
        pytest.param(
            [*python("inglenook.workers.leash"), "--", *python_code(f"print(1); {SLEEP}")],
            id="program",
        ),
    ],
)
def test_a_tied_process_ends_when_its_parent_is_killed(argv: list[str]) -> None:
    """SIGKILL gives the parent no chance to say goodbye, and the child ends all the same."""
    with parent_of(*argv, session=True) as (parent, child):
        assert is_alive(child)
        parent.kill()
        parent.wait(SECONDS)
        until(lambda: not is_alive(child))


def test_an_untied_process_would_have_lived_on() -> None:
    """The other tests prove something: without the leash the child outlives its parent."""
    with parent_of(*python_code(f"print(1); {SLEEP}")) as (parent, child):
        parent.kill()
        parent.wait(SECONDS)
        assert is_alive(child)


def test_a_process_whose_parent_is_gone_already_does_not_start() -> None:
    """Who comes after the parent's end exits at once."""
    env = environment() | {"INGLENOOK_PARENT_PID": "1"}
    done = subprocess.run(python_code(TIED), env=env, capture_output=True, timeout=SECONDS)
    assert done.returncode == 1
    assert b"parent 1 is gone" in done.stderr
    call = [*python("inglenook.workers.leash"), "--", "true"]
    assert subprocess.run(call, env=env, timeout=SECONDS).returncode == 1


def test_without_the_variable_the_parent_at_hand_counts() -> None:
    """A program started by hand is tied to the shell that started it."""
    done = subprocess.run(
        python_code("from inglenook.workers.leash import tie_to_parent; tie_to_parent()"),
        env=environment(),
        timeout=SECONDS,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("prefix", ["", POLLED])
def test_the_program_keeps_its_exit_code(prefix: str) -> None:
    """What the program returns is what the leash returns, become or stood over."""
    code = f"{prefix}import sys; from inglenook.workers.leash import run; "
    code += f"sys.exit(run([{sys.executable!r}, '-c', 'raise SystemExit(7)']))"
    done = subprocess.run(python_code(code), env=environment(), timeout=SECONDS)
    assert done.returncode == 7


def test_where_it_stays_it_passes_signals_on() -> None:
    """SIGTERM to the leash reaches the program, and its end is told as shells do."""
    code = f"{POLLED}import sys; "
    code += f"sys.exit(leash.run({python_code(f'print(1); {SLEEP}')!r}))"
    leash = subprocess.Popen(python_code(code), stdout=subprocess.PIPE, text=True, env=environment())
    with leash:
        assert leash.stdout
        leash.stdout.readline()
        leash.terminate()
        assert leash.wait(SECONDS) == 128 + signal.SIGTERM


@pytest.mark.parametrize("leads", [True, False])
def test_where_it_stays_the_program_ends_with_the_parent(leads: bool) -> None:
    """The leash kills the program when its own parent is gone, whether or not it leads a group."""
    code = f"{POLLED}import sys; "
    code += f"sys.exit(leash.run({python_code(f'import os; print(os.getpid()); {SLEEP}')!r}))"
    relay = (
        "import subprocess, sys, os, time; "
        f"p = subprocess.Popen({python_code(code)!r}, stdout=subprocess.PIPE, start_new_session={leads}); "
        "print(p.stdout.readline().decode().strip(), flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", relay], stdout=subprocess.PIPE, text=True, env=environment()
    )
    with parent:
        assert parent.stdout
        program = int(parent.stdout.readline())
        parent.kill()
        until(lambda: not is_alive(program))


def test_a_leash_without_a_program_explains_itself() -> None:
    """The call is wrong, and the usage is told."""
    done = subprocess.run(
        python("inglenook.workers.leash"), env=environment(), capture_output=True, timeout=SECONDS
    )
    assert done.returncode == 2
    assert b"usage:" in done.stderr
