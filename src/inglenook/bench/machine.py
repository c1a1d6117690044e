"""What the kernel tells about the machine and about processes: CPU time, memory, theft. Reads /proc
and nothing else.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")


@dataclass(frozen=True)
class CpuTimes:
    """One CPU's time since boot, in ticks."""

    busy: int
    idle: int
    steal: int

    @property
    def total(self) -> int:
        return self.busy + self.idle + self.steal


def parse_stat(text: str) -> dict[int, CpuTimes]:
    """The per-CPU lines of /proc/stat."""
    times = {}
    for line in text.splitlines():
        name, *rest = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, idle, iowait, irq, softirq, steal = (int(n) for n in rest[:8])
            busy = user + nice + system + irq + softirq
            times[int(name[3:])] = CpuTimes(busy, idle + iowait, steal)
    return times


def cpu_times() -> dict[int, CpuTimes]:
    return parse_stat((PROC / "stat").read_text())


def busy_share(before: CpuTimes, after: CpuTimes) -> float:
    """The share of its time that a CPU worked."""
    return (after.busy - before.busy) / max(1, after.total - before.total)


def steal_share(before: dict[int, CpuTimes], after: dict[int, CpuTimes]) -> float:
    """The share of its time that the machine wanted to work and another machine did."""
    total = sum(after[cpu].total - before[cpu].total for cpu in before)
    return sum(after[cpu].steal - before[cpu].steal for cpu in before) / max(1, total)


@dataclass(frozen=True)
class ProcessStat:
    """What /proc/PID/stat says of one process."""

    parent: int
    cpu_ticks: int


def parse_process_stat(text: str) -> ProcessStat:
    """Read /proc/PID/stat. A name may hold spaces and brackets: the fields begin after the last bracket."""
    fields = text[text.rindex(")") + 2 :].split()
    return ProcessStat(parent=int(fields[1]), cpu_ticks=int(fields[11]) + int(fields[12]))


def process_stat(pid: int) -> ProcessStat | None:
    """None when there is no such process any more."""
    try:
        return parse_process_stat((PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (stat := process_stat(int(entry.name))):
            children.setdefault(stat.parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes so far, all their threads together."""
    ticks = sum(stat.cpu_ticks for pid in pids if (stat := process_stat(pid)))
    return ticks / os.sysconf("SC_CLK_TCK")


def waited_seconds(pids: Iterable[int]) -> float:
    """How long the threads of these processes were ready to run and had no CPU."""
    paths = [path for pid in pids for path in (PROC / str(pid)).glob("task/*/schedstat")]
    return sum(_second_number(path) for path in paths) / 1e9


def _second_number(path: Path) -> int:
    try:
        return int(path.read_text().split()[1])
    except OSError:
        return 0


def resident_kib(pids: Iterable[int]) -> int:
    """Resident memory of these processes; what they share counts in each."""
    return sum(_field_kib(PROC / str(pid) / "status", "VmRSS:") for pid in pids)


def proportional_kib(pids: Iterable[int]) -> int:
    """Resident memory of these processes; what they share counts once."""
    return sum(_field_kib(PROC / str(pid) / "smaps_rollup", "Pss:") for pid in pids)


def _field_kib(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def command_line(pid: int) -> list[str]:
    """A process's arguments; empty when it has gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def describe() -> dict[str, object]:
    """What the machine is, for the record of a run."""
    info = (PROC / "cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": os.cpu_count(),
        "memory_kib": _field_kib(PROC / "meminfo", "MemTotal:"),
        "kernel": platform.release(),
        "system": platform.platform(),
    }


@dataclass(frozen=True)
class Layout:
    """Which CPU does what. On two CPUs the mock and the generator share one, and a gateway has the
    other alone.
    """

    gateway: int | None
    mock: int | None
    generator: int | None


def layout() -> Layout:
    """Lay the work out on the CPUs we may use; on a single one nothing is pinned."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return Layout(None, None, None)
    return Layout(allowed[0], allowed[1], allowed[2] if len(allowed) > 2 else allowed[1])


def share_priority(pid: int) -> None:
    """Give the session of a process that we started our own nice value.

    With autogroups, which most Linux desktops have, a nice value counts only within its session.
    """
    with suppress(OSError):
        (PROC / str(pid) / "autogroup").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))


@contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Processes started inside run on this CPU. (A child inherits its parent's CPUs.)"""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
