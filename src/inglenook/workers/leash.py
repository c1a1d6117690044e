"""Ties a process to its parent: when the parent is gone, however it went, so is the process.

Our own engine programs call `tie_to_parent` first. A program that is not ours is started through
`python -m inglenook.workers.leash -- PROGRAM ARGS...`. Standard library only, and nothing else of
ours.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

PARENT_VARIABLE = "INGLENOOK_PARENT_PID"
POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def tie_to_parent() -> None:
    """Arrange for SIGKILL when the parent ends; exit at once if it has ended already.

    Called once, first thing in `main`, by the main thread. The parent says who it is in
    `INGLENOOK_PARENT_PID`; without that, whoever is the parent now counts. On Linux the signal is
    sent when the *thread* that started this process ends, so parents start processes from a thread
    that lives as long as they do.
    """
    parent = _expected_parent()
    if not _ask_kernel():
        threading.Thread(target=_watch, args=(parent,), name="leash", daemon=True).start()
    if os.getppid() != parent:
        sys.exit(f"leash: parent {parent} is gone")


def run(argv: Sequence[str]) -> int:
    """Become ``argv``, tied; where the kernel cannot tie, run it as a child: return its code."""
    parent = _expected_parent()
    if _ask_kernel():
        if os.getppid() != parent:
            return 1
        # The tie outlives exec, unless the program is setuid.
        os.execvp(argv[0], list(argv))
    return stand_over(argv, parent)


def stand_over(argv: Sequence[str], parent: int) -> int:
    """Run ``argv`` as a child until it ends, or ``parent`` does: then the whole group is killed."""
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []  # Signals that came before there was a child.

    def forward(number: int, frame: FrameType | None) -> None:
        if not children:
            early.append(number)
        for child in children:
            child.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    # The child's parent is this process, not the one that the variable names.
    child = subprocess.Popen(argv, env=os.environ | {PARENT_VARIABLE: str(os.getpid())})
    children.append(child)
    for number in early:
        child.send_signal(number)
    while True:
        try:
            code = child.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                child.kill()
                _end_group()
        else:
            return code if code >= 0 else 128 - code


def _expected_parent() -> int:
    return int(os.environ.get(PARENT_VARIABLE) or os.getppid())


def _ask_kernel() -> bool:
    """Return whether the kernel has promised to kill this process when its parent ends."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only.
    return prctl is not None and prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    _end_group()


def _end_group() -> None:
    # Only a group of our own: without one, the group holds processes that are not ours to end.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Read `-- PROGRAM ARGS...` and run it; 2 when there is no program."""
    argv = sys.argv[1:]
    if argv[:1] == ["--"]:
        argv = argv[1:]
    if not argv:
        sys.stderr.write("usage: python -m inglenook.workers.leash -- PROGRAM [ARGS...]\n")
        return 2
    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
