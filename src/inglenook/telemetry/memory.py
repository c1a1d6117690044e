"""Memory of process groups, from ``/proc``. Where there is none (macOS), nothing is known."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

_SESSION, _PAGES = 3, 21
"""Places of a process's session and resident pages in its ``stat``, behind the name (proc(5))."""


def resident_bytes(sessions: Collection[int], proc: str = "/proc") -> dict[int, int]:
    """Resident bytes of all processes of each session, named by its first process's id.

    Looks at every process of the machine, some tens of microseconds each: call it in a thread.
    """
    if not sessions or not os.path.isdir(f"{proc}/self"):
        return {}
    page = os.sysconf("SC_PAGE_SIZE")
    sums = dict.fromkeys(sessions, 0)
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
            fields = Path(proc, name, "stat").read_bytes().rpartition(b")")[2].split()
            session = int(fields[_SESSION])
            if session in sums:
                sums[session] += int(fields[_PAGES]) * page
    return {session: size for session, size in sums.items() if size}
