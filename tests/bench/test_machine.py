"""What the kernel says about real processes, and the reading of its files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from inglenook.bench import machine
from inglenook.bench.machine import CpuTimes

STAT = """cpu  10 0 10 100 0 0 0 5 0 0
cpu0 1 2 3 40 5 6 7 8 0 0
cpu1 9 0 8 60 0 0 0 0 0 0
intr 1 2 3
"""
BURN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
end = time.process_time() + 0.1
while time.process_time() < end:
    pass
print(child.pid, flush=True)
sys.stdin.read()
child.stdin.close()
child.wait()
"""


@pytest.fixture
def burner() -> Iterator[tuple[int, int]]:
    """A process that has used 100 ms of CPU, and its child."""
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        yield process.pid, int(process.stdout.readline())


def test_cpus_are_told_apart() -> None:
    """The sum over all CPUs is left out; waiting for a disk is idling."""
    times = machine.parse_stat(STAT)
    assert times == {0: CpuTimes(busy=19, idle=45, steal=8), 1: CpuTimes(busy=17, idle=60, steal=0)}


def test_shares_are_of_the_time_between() -> None:
    """Of all the machine's time for theft, of one CPU's for work."""
    before = {0: CpuTimes(0, 0, 0), 1: CpuTimes(100, 0, 0)}
    after = {0: CpuTimes(50, 40, 10), 1: CpuTimes(200, 0, 0)}
    assert machine.steal_share(before, after) == pytest.approx(0.05)
    assert machine.busy_share(before[0], after[0]) == pytest.approx(0.5)
    assert machine.busy_share(before[0], before[0]) == 0.0


def test_a_process_may_have_any_name() -> None:
    """Spaces and brackets in it do not move the fields."""
    text = "42 (a) (b c) S 7 42 42 0 -1 0 1 2 3 4 150 50 9 9 20 0 1 0 100"
    told = machine.parse_process_stat(text)
    assert (told.parent, told.cpu_ticks) == (7, 200)


def test_a_tree_and_its_time(burner: tuple[int, int]) -> None:
    """A process and its children, the CPU time and memory that they really have."""
    parent, child = burner
    assert machine.tree(parent) == [parent, child]
    assert 0.09 <= machine.cpu_seconds([parent]) < 5.0
    assert machine.resident_kib([parent, child]) > 5_000
    assert machine.proportional_kib([parent, child]) > 1_000
    assert machine.waited_seconds([parent]) >= 0.0
    assert machine.command_line(parent)[1:] == ["-c", BURN]


def test_a_process_that_has_gone_counts_nothing() -> None:
    """It may end between the look at the list and the look at it."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert machine.process_stat(gone.pid) is None
    assert machine.cpu_seconds([gone.pid]) == 0.0
    assert machine.resident_kib([gone.pid]) == 0
    assert machine.command_line(gone.pid) == []


def test_children_are_pinned_and_we_are_not() -> None:
    """What starts inside runs on the CPU; afterwards everything is as it was."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    with machine.pinned(cpu):
        told = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert told.stdout.strip() == str({cpu})
    assert os.sched_getaffinity(0) == before


def test_the_layout_keeps_the_gateway_apart() -> None:
    """Nothing else runs on the gateway's CPU, where there is more than one."""
    found = machine.layout()
    if len(os.sched_getaffinity(0)) == 1:
        assert found.gateway is None
    else:
        assert found.gateway not in (found.mock, found.generator)


def test_the_machine_is_described() -> None:
    """Enough to know later what the figures came from."""
    found = machine.describe()
    assert found["kernel"] == os.uname().release
    assert found["cpu"]
