"""One measurement of one arm: throughput, latency, streams or memory. Each gives figures, and
faults in words.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inglenook.bench import exchange, jobs, machine, wrk
from inglenook.bench.jobs import Target
from inglenook.bench.machine import Layout
from inglenook.bench.processes import BenchError, Child, Generator, Recipe, generate, spawn, started
from inglenook.bench.reply import Garbled
from inglenook.bench.sockets import ask_once, chat_request
from inglenook.bench.statistics import merge, outside, percentile

BODY_BYTES = 1000
LATENCY_SIZES = {"1k": 1_000, "60k": 60_000, "400k": 400_000}
INTERVAL_US = 20_000
RAMP_SECONDS = 1.0
GRACE_SECONDS = 20.0
SETTLE_SECONDS = 1.0
GENERATOR_START_SECONDS = 15.0
WRK_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Arm:
    """One way to the mock that is up and ready. `child` is None where there is nothing between."""

    name: str
    target: Target
    is_exact: bool = True
    child: Child | None = None


@dataclass(frozen=True)
class Bench:
    """What every measurement needs to know."""

    layout: Layout
    directory: Path
    mock: Target
    wrk: str | None
    seconds: float
    streams: int
    latency_count: int


@dataclass
class Cell:
    """What one measurement gave. A fault is a reason not to trust the figures."""

    arm: str
    measures: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def note_answers(self, told: Mapping[str, Any], wanted: str | None) -> None:
        """Look at what a generator counted; ``wanted`` is the hash every answer must have, if that
        is known.
        """
        for status, count in told.get("statuses", {}).items():
            # Status 0 is an answer that did not begin: it is among the problems.
            if status != "0" and not status.startswith("2"):
                self.faults.append(f"{count} answers with status {status}")
        for problem, count in {**told.get("failures", {}), **told.get("problems", {})}.items():
            self.faults.append(f"{count} times: {problem}")
        other = {h: n for h, n in told.get("hashes", {}).items() if wanted and h != wanted}
        if other:
            self.faults.append(f"{sum(other.values())} answers that differ from direct's")


@contextmanager
def _watched(bench: Bench, arm: Arm, cell: Cell) -> Iterator[None]:
    """Put into the cell what the CPUs and the arm's processes did meanwhile."""
    pids = machine.tree(arm.child.pid) if arm.child else []
    begun = time.monotonic()
    cpus, used, waited = machine.cpu_times(), machine.cpu_seconds(pids), machine.waited_seconds(pids)
    yield
    if arm.child:
        pids = sorted({*pids, *machine.tree(arm.child.pid)})
    now = machine.cpu_times()
    cell.measures["cpu_s"] = machine.cpu_seconds(pids) - used
    seconds = time.monotonic() - begun
    cell.measures["waited_share"] = (machine.waited_seconds(pids) - waited) / seconds
    for name, cpu in (("gateway", bench.layout.gateway), ("generator", bench.layout.generator)):
        if cpu is not None:
            cell.measures[f"{name}_cpu_busy"] = machine.busy_share(cpus[cpu], now[cpu])


def throughput(bench: Bench, arm: Arm) -> Cell:
    """Requests per second in a closed loop, and CPU time per request."""
    cell = Cell(arm.name)
    fault = check_answer(arm)
    if fault:
        cell.faults.append(fault)
    with _watched(bench, arm, cell):
        measured = closed_loop(bench, arm, bench.seconds)
    count, seconds = measured.requests, measured.seconds
    cell.measures |= {
        "rps": count / seconds if seconds else 0.0,
        "p50_ms": measured.p50_ms,
        "p99_ms": measured.p99_ms,
        "max_ms": measured.max_ms,
    }
    cell.measures["requests"] = count
    if arm.child and count:
        cell.measures["cpu_us_per_request"] = cell.measures["cpu_s"] / count * 1e6
        cell.measures["rss_after_kib"] = machine.resident_kib(machine.tree(arm.child.pid))
    cell.faults += [f"{n} failures of kind {kind!r}" for kind, n in measured.failures.items()]
    return cell


def closed_loop(bench: Bench, arm: Arm, seconds: float) -> wrk.Wrk:
    """Keep an arm busy with 32 connections for so long, by wrk or, where it is missing, by our own
    generator.
    """
    if bench.wrk is None:
        return _own_closed_loop(bench, arm, seconds)
    script = bench.directory / f"{arm.name}.lua"
    wrk.write_script(script, arm.target.headers, BODY_BYTES)
    whole = max(1, math.ceil(seconds))
    command = wrk.command(bench.wrk, script, arm.target.port, whole)
    pipe = subprocess.PIPE
    process = spawn(command, bench.layout.generator, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = process.communicate(timeout=whole + WRK_GRACE_SECONDS)
    finally:
        process.kill()
        process.wait()
    try:
        return wrk.parse(output)
    except ValueError as exc:
        raise BenchError(str(exc)) from exc


def _own_closed_loop(bench: Bench, arm: Arm, seconds: float) -> wrk.Wrk:
    job = jobs.Requests(arm.target, wrk.CONNECTIONS, seconds, BODY_BYTES)
    told = generate(job, bench.layout.generator, seconds + GENERATOR_START_SECONDS)
    bad = {f"status {s}": n for s, n in told["statuses"].items() if not s.startswith("2")}
    return wrk.Wrk(
        requests=told["count"],
        seconds=told["seconds"],
        p50_ms=told.get("p50_ms", 0.0),
        p99_ms=told.get("p99_ms", 0.0),
        max_ms=told.get("max_ms", 0.0),
        failures={**bad, **told["failures"]},
    )


def check_answer(arm: Arm) -> str:
    """Ask once and compare with what the mock answers; the fault in words, or nothing."""
    raw = chat_request(arm.target, exchange.chat_body("check", size=BODY_BYTES))
    try:
        status, payload = ask_once(arm.target, raw)
    except (OSError, Garbled) as exc:
        return f"the check failed: {exc}"
    if status != 200:
        return f"the check was answered with {status}: {payload[:300].decode(errors='replace')}"
    expected = exchange.answer_body()
    is_same = payload == expected if arm.is_exact else _said(payload) == _said(expected)
    return "" if is_same else "its answer differs from direct's"


def _said(payload: bytes) -> object:
    try:
        return json.loads(payload)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None


def latency(bench: Bench, arm: Arm) -> Cell:
    """Times of single requests by body size, and of single streams to their first event."""
    cell = Cell(arm.name)
    wanted = hashlib.sha256(exchange.answer_body()).hexdigest() if arm.is_exact else None
    for label, size in LATENCY_SIZES.items():
        job = jobs.Latency(arm.target, size, bench.latency_count, bench.seconds)
        told = generate(job, bench.layout.generator, bench.seconds + GENERATOR_START_SECONDS + GRACE_SECONDS)
        cell.note_answers(told, wanted)
        _take_times(cell, f"latency_{label}", told)
    first = jobs.FirstToken(arm.target, bench.latency_count, bench.seconds)
    told = generate(first, bench.layout.generator, bench.seconds + GENERATOR_START_SECONDS + GRACE_SECONDS)
    cell.note_answers(told, _first_token_hash() if arm.is_exact else None)
    _take_times(cell, "ttft", told)
    cell.measures["gap_nagle_bump"] = told["gap_nagle_bump"]
    return cell


def _first_token_hash() -> str:
    events = exchange.stream_events(exchange.FIRST_TOKEN_PACE.deltas, usage=True)
    return hashlib.sha256(b"".join(events)).hexdigest()


def _take_times(cell: Cell, name: str, told: Mapping[str, Any]) -> None:
    if not told["count"]:
        cell.faults.append(f"{name}: not one answer came")
        return
    for figure in ("p50_ms", "p99_ms", "nagle_bump", "count"):
        cell.measures[f"{name}_{figure}"] = told[figure]


def streams(bench: Bench, arm: Arm) -> Cell:
    """Many paced streams at once: what came, what was lost, how long it was silent, and the CPU
    time per event.
    """
    cell = Cell(arm.name)
    _mock_stalls(bench)  # forget what was before
    with _watched(bench, arm, cell):
        told = generate(_streams_job(bench, arm.target), bench.layout.generator, _streams_limit(bench))
    mock = _mock_stalls(bench)
    cell.note_answers(told, None)
    cell.measures |= {
        "events": told["events"],
        "events_per_second": told["events"] / told["seconds"] if told["seconds"] else 0.0,
        "delivered_share": told["events"] / (told["streams"] * _events_due(bench)),
        "lost_bytes": told["lost_bytes"],
        "garbled_streams": told["garbled"],
        "rewritten_streams": told["same_text"],
        "generator_late_max_ms": told["late_max_s"] * 1e3,
        "mock_late_max_ms": mock["late_max_s"] * 1e3,
    }
    cell.measures |= {f"gap_{name}_ms": value for name, value in told["gaps_ms"].items()}
    cell.measures["gap_own_max_ms"] = _own_gap(told, mock)
    if told["first_ms"]:
        cell.measures["stream_ttft_p50_ms"] = percentile(told["first_ms"], 0.5)
        cell.measures["stream_ttft_p99_ms"] = percentile(told["first_ms"], 0.99)
    if arm.child and told["events"]:
        cell.measures["cpu_us_per_event"] = cell.measures["cpu_s"] / told["events"] * 1e6
    differing = told["garbled"] + (told["same_text"] if arm.is_exact else 0)
    if differing:
        cell.faults.append(f"{differing} of {told['streams']} streams differ")
    return cell


def _events_due(bench: Bench) -> int:
    """How many events the mock sends on one stream."""
    return len(exchange.stream_events(_deltas(bench), usage=True))


def _deltas(bench: Bench) -> int:
    return max(1, round(bench.seconds * 1e6 / INTERVAL_US))


def _streams_job(bench: Bench, target: Target) -> jobs.Streams:
    deadline = RAMP_SECONDS + bench.seconds + GRACE_SECONDS
    return jobs.Streams(target, bench.streams, _deltas(bench), INTERVAL_US, RAMP_SECONDS, deadline)


def _streams_limit(bench: Bench) -> float:
    return RAMP_SECONDS + bench.seconds + GRACE_SECONDS + GENERATOR_START_SECONDS


def _mock_stalls(bench: Bench) -> dict[str, Any]:
    _, payload = ask_once(bench.mock, exchange.http_request("GET", "/stats", {}))
    told: dict[str, Any] = json.loads(payload)
    return told


def _own_gap(told: Mapping[str, Any], mock: Mapping[str, Any]) -> float:
    """The longest silence in ms, less the time in which the mock or the generator did not run."""
    if not told["long_gaps"]:
        return float(told["gaps_ms"].get("max", 0.0))
    stalls = merge((start, end) for start, end in [*told["stalls"], *mock["stalls"]])
    return max(outside((start, end), stalls) for start, end in told["long_gaps"]) * 1e3


Measure = Callable[[Bench, Arm], Cell]
SECTIONS: dict[str, Measure] = {"throughput": throughput, "latency": latency, "streams": streams}


def memory(bench: Bench, recipe: Recipe) -> Cell:
    """Resident memory of freshly started processes: idle, per idle connection, per live stream.

    Streams get a process of their own: memory that connections gave back would hide theirs.
    """
    cell = Cell(recipe.name)
    with started(recipe, bench.directory, bench.layout.gateway) as child:
        _settle(bench, recipe)
        pids = machine.tree(child.pid)
        empty = machine.resident_kib(pids)
        cell.measures["rss_idle_kib"] = empty
        cell.measures["pss_idle_kib"] = machine.proportional_kib(pids)
        with Generator(jobs.Idle(recipe.target, bench.streams), bench.layout.generator) as generator:
            cell.note_answers(generator.result(60.0), None)
            time.sleep(SETTLE_SECONDS)
            full = machine.resident_kib(machine.tree(child.pid))
        cell.measures["kib_per_idle_connection"] = (full - empty) / bench.streams
    with started(recipe, bench.directory, bench.layout.gateway) as child:
        _settle(bench, recipe)
        empty = machine.resident_kib(machine.tree(child.pid))
        with Generator(_streams_job(bench, recipe.target), bench.layout.generator) as generator:
            time.sleep(RAMP_SECONDS + bench.seconds / 2)
            full = machine.resident_kib(machine.tree(child.pid))
            cell.note_answers(generator.result(_streams_limit(bench)), None)
        cell.measures["kib_per_live_stream"] = (full - empty) / bench.streams
    return cell


def _settle(bench: Bench, recipe: Recipe) -> None:
    """A few requests first: what is loaded with the first request is not what a connection costs."""
    job = jobs.Latency(recipe.target, BODY_BYTES, 100, 10.0)
    generate(job, bench.layout.generator, 10.0 + GENERATOR_START_SECONDS + GRACE_SECONDS)
    time.sleep(SETTLE_SECONDS)
