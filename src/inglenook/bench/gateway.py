"""The protocol of a run: which arms, in which order, for how many rounds, and what is written down.

Only figures of one round are ever compared with each other: the machine may change between rounds,
and within one the order is dealt afresh.
"""

from __future__ import annotations

import os
import platform
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from inglenook import __version__
from inglenook.bench import arms, cells, machine, peers
from inglenook.bench.arms import Missing, Place
from inglenook.bench.cells import Arm, Bench, Cell
from inglenook.bench.machine import Layout
from inglenook.bench.processes import (
    BenchError,
    Recipe,
    allow_many_files,
    free_port,
    started,
    take_priority,
)

MAX_STEAL = 0.03
MEMORY_ROUNDS = 3
SECTIONS = ("throughput", "latency", "streams", "memory")
ARMS = (*arms.DIRECT, *arms.BUILDERS)
PEERS = tuple(peers.BUILDERS)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do."""

    rounds: int = 20
    seconds: float = 8.0
    warm_seconds: float = 10.0
    streams: int = 512
    latency_count: int = 500
    seed: int = 0
    nice: int = 0
    arms: tuple[str, ...] = ARMS
    sections: tuple[str, ...] = SECTIONS


@dataclass(frozen=True)
class Block:
    """One section of one round: every arm once, in the order given. Blocks with much theft are not
    counted.
    """

    round: int
    section: str
    order: tuple[str, ...]
    steal: float
    load: float
    cells: tuple[Cell, ...]

    @property
    def is_kept(self) -> bool:
        return self.steal <= MAX_STEAL


@dataclass
class Run:
    """Everything a run wrote down."""

    plan: Plan
    machine: dict[str, object]
    versions: dict[str, str]
    layout: Layout
    begun: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    left_out: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


def perform(plan: Plan, say: Say) -> Run:
    """Do a whole run. ``say`` is told in one line each what happens. Raises `BenchError`; leaves no
    process behind.
    """
    allow_many_files()
    take_priority(plan.nice)
    run = Run(plan, machine.describe(), versions(), machine.layout())
    with tempfile.TemporaryDirectory(prefix="inglenook-bench-") as made, ExitStack() as stack:
        directory = Path(made)
        bench = _bench(plan, run, directory, stack)
        recipes = _recipes(plan, bench, directory, run, say)
        if "memory" in plan.sections:
            _measure_memory(plan, bench, recipes, run, say)
        timed = [section for section in plan.sections if section in cells.SECTIONS]
        if timed:
            up = _start(plan, bench, recipes, stack, run, say)
            _warm(plan, bench, up, say)
            rng = random.Random(plan.seed)
            for number in range(plan.rounds):
                for section in timed:
                    run.blocks.append(_block(bench, number, section, up, rng))
                    say(_told(run.blocks[-1], plan))
    return run


def _bench(plan: Plan, run: Run, directory: Path, stack: ExitStack) -> Bench:
    """Start the mock, and gather what the measurements need."""
    place = Place(directory, free_port(), directory / "mock.sock", free_port())
    mock = stack.enter_context(started(arms.mock(place), directory, run.layout.mock))
    program = shutil.which("wrk")
    if program is None and "throughput" in plan.sections:
        run.left_out["wrk"] = "our own slower generator stands in; install it with: apt-get install wrk"
    return Bench(
        layout=run.layout,
        directory=directory,
        mock=mock.recipe.target,
        wrk=program,
        seconds=plan.seconds,
        streams=plan.streams,
        latency_count=plan.latency_count,
    )


def _recipes(plan: Plan, bench: Bench, directory: Path, run: Run, say: Say) -> dict[str, Recipe]:
    """How each arm that can be had is started; the others are noted in the run with the reason."""
    builders = {**arms.BUILDERS, **peers.BUILDERS}
    recipes = {}
    for name in plan.arms:
        if name not in builders:
            continue
        own = directory / name
        own.mkdir()
        if name in peers.BUILDERS:
            say(f"{name}: installing where that was not done before")
        made = builders[name](Place(own, free_port(), directory / "mock.sock", bench.mock.port))
        if isinstance(made, Missing):
            run.left_out[name] = made.why
        else:
            recipes[name] = made
    return recipes


def _start(
    plan: Plan, bench: Bench, recipes: dict[str, Recipe], stack: ExitStack, run: Run, say: Say
) -> list[Arm]:
    """All arms up and answering. One that does not come up is left out, unless nothing to measure remains."""
    up = [Arm(name, bench.mock) for name in plan.arms if name in arms.DIRECT]
    for name, recipe in recipes.items():
        say(f"{name}: starting")
        try:
            child = stack.enter_context(started(recipe, bench.directory, bench.layout.gateway))
            arm = Arm(name, recipe.target, recipe.is_exact, child)
            fault = cells.check_answer(arm)
            if fault:
                raise BenchError(f"{name}: {fault}")
        except (BenchError, OSError) as exc:
            run.left_out[name] = str(exc)
        else:
            up.append(arm)
    if not up:
        raise BenchError("No arm could be started: " + " ".join(run.left_out.values()))
    return up


def _warm(plan: Plan, bench: Bench, up: Sequence[Arm], say: Say) -> None:
    if plan.warm_seconds:
        for arm in up:
            say(f"{arm.name}: warming up")
            cells.closed_loop(bench, arm, plan.warm_seconds)


def _block(bench: Bench, number: int, section: str, up: Sequence[Arm], rng: random.Random) -> Block:
    order = rng.sample(list(up), len(up))
    with _theft() as theft:
        found = []
        for arm in order:
            found.append(cells.SECTIONS[section](bench, arm))
            if arm.child:
                arm.child.trim_log()
    names = tuple(arm.name for arm in order)
    return Block(number, section, names, theft[0], os.getloadavg()[0], tuple(found))


@contextmanager
def _theft() -> Iterator[list[float]]:
    """A list that holds the share of stolen time once the block is left."""
    before = machine.cpu_times()
    share: list[float] = []
    yield share
    share.append(machine.steal_share(before, machine.cpu_times()))


def _measure_memory(plan: Plan, bench: Bench, recipes: dict[str, Recipe], run: Run, say: Say) -> None:
    for number in range(min(plan.rounds, MEMORY_ROUNDS)):
        found = []
        for name in list(recipes):
            say(f"{name}: memory, round {number + 1}")
            try:
                found.append(cells.memory(bench, recipes[name]))
            except BenchError as exc:
                run.left_out[name] = str(exc)
                del recipes[name]
        order = tuple(cell.arm for cell in found)
        run.blocks.append(Block(number, "memory", order, 0.0, os.getloadavg()[0], tuple(found)))


def _told(block: Block, plan: Plan) -> str:
    faults = sum(len(cell.faults) for cell in block.cells)
    return (
        f"round {block.round + 1} of {plan.rounds}: {block.section}"
        + ("" if block.is_kept else f", discarded ({block.steal:.0%} of the time stolen)")
        + (f", {faults} faults" if faults else "")
    )


def estimated_seconds(plan: Plan) -> float:
    """About how long a run takes; arms slower than ours and nginx take longer."""
    each = {
        "throughput": plan.seconds + 0.5,
        "latency": 1.0 + plan.latency_count * 0.008,
        "streams": plan.seconds + cells.RAMP_SECONDS + 1.0,
    }
    rounds = sum(each.get(section, 0.0) for section in plan.sections) * plan.rounds
    memory = (plan.seconds + 10.0) * min(plan.rounds, MEMORY_ROUNDS) * ("memory" in plan.sections)
    return len(plan.arms) * (rounds + memory + plan.warm_seconds)


def versions() -> dict[str, str]:
    """The versions of everything that may take part; what is not there is not named."""
    found = {"inglenook": __version__, "python": platform.python_version(), **peers.VERSIONS}
    for package in ("uvloop", "httptools", "msgspec"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    here = str(Path(__file__).parent)
    commands = {
        "nginx": ["nginx", "-v"],
        "wrk": ["wrk", "-v"],
        "node": ["node", "--version"],
        "commit": ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=40"],
    }
    for name, command in commands.items():
        told = _first_line(command)
        number = re.search(r"\d+(\.\d+)+", told)
        if told:
            found[name] = number.group() if number else told
    return found


def _first_line(command: Sequence[str]) -> str:
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (told.stdout + told.stderr).strip().splitlines()
    # wrk prints its version and then fails for want of a URL.
    return lines[0] if lines and (told.returncode == 0 or command[0] == "wrk") else ""
