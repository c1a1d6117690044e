"""What the rounds of a run say: paired figures, how sure they are, and whether they may be trusted
at all. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from inglenook.bench.arms import DIRECT, OURS
from inglenook.bench.gateway import Block, Run
from inglenook.bench.statistics import Estimate, estimate, median, slope

CONTROL = (0.95, 1.05)
HEADROOM = 2.0
WAITED_SHARE = 0.1
WARM_ROUNDS = 2  # not counted in the growth of memory: caches and pools fill up


@dataclass(frozen=True)
class Metric:
    """One figure of the table. `versus_direct` is "ratio", "difference" or "" where direct has no
    such figure.
    """

    section: str
    name: str
    title: str
    versus_direct: str
    digits: int = 1


METRICS = (
    Metric("throughput", "rps", "requests per second, 32 connections", "ratio", 0),
    Metric("throughput", "cpu_us_per_request", "CPU time per request, µs", ""),
    Metric("throughput", "p99_ms", "p99 with 32 connections, ms", "", 2),
    Metric("latency", "latency_1k_p50_ms", "1 KB request alone, p50 ms", "difference", 3),
    Metric("latency", "latency_1k_p99_ms", "1 KB request alone, p99 ms", "difference", 3),
    Metric("latency", "latency_60k_p50_ms", "60 KB request alone, p50 ms", "difference", 3),
    Metric("latency", "latency_60k_p99_ms", "60 KB request alone, p99 ms", "difference", 3),
    Metric("latency", "latency_400k_p50_ms", "400 KB request alone, p50 ms", "difference", 3),
    Metric("latency", "latency_400k_p99_ms", "400 KB request alone, p99 ms", "difference", 3),
    Metric("latency", "ttft_p50_ms", "first event of a stream alone, p50 ms", "difference", 3),
    Metric("latency", "ttft_p99_ms", "first event of a stream alone, p99 ms", "difference", 3),
    Metric("streams", "delivered_share", "events delivered, share of those due", "", 4),
    Metric("streams", "lost_bytes", "bytes of text lost or garbled", "", 0),
    Metric("streams", "cpu_us_per_event", "CPU time per event, µs", ""),
    Metric("streams", "waited_share", "share of the time that the arm was ready and had no CPU", "", 3),
    Metric("streams", "gap_p999_ms", "silence on a stream, p99.9 ms", "difference"),
    Metric("streams", "gap_max_ms", "longest silence on a stream, ms", "difference"),
    Metric("streams", "gap_own_max_ms", "the same without our own stalls, ms", "difference"),
    Metric("memory", "rss_idle_kib", "resident when idle, KiB", "", 0),
    Metric("memory", "kib_per_idle_connection", "per idle connection, KiB", ""),
    Metric("memory", "kib_per_live_stream", "per live stream, KiB", ""),
)


@dataclass(frozen=True)
class Goal:
    """A goal for our server: a figure of its own, or its ratio to another arm's, on one side of a bound."""

    title: str
    metric: str
    bound: float
    other: str = ""
    is_floor: bool = False
    is_added: bool = False  # what is meant is the difference to direct


GOALS = (
    Goal("requests per second / nginx", "rps", 0.35, other="nginx", is_floor=True),
    Goal("requests per second / LiteLLM", "rps", 100, other="litellm", is_floor=True),
    Goal("requests per second / Portkey", "rps", 10, other="portkey", is_floor=True),
    Goal("CPU per request / bare relay", "cpu_us_per_request", 1.35, other="ours-min"),
    Goal("CPU per streamed event, µs", "cpu_us_per_event", 25),
    Goal("longest silence on a stream, ms", "gap_own_max_ms", 100),
    Goal("added time to first event p50, ms", "ttft_p50_ms", 0.5, is_added=True),
    Goal("added time to first event p99, ms", "ttft_p99_ms", 3, is_added=True),
    Goal("resident when idle, KiB", "rss_idle_kib", 90 * 1024),
    Goal("per live stream, KiB", "kib_per_live_stream", 40),
)


class Rounds:
    """The figures of the rounds that count, by arm and name."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.kept = [block for block in blocks if block.is_kept]
        self.arms = list(dict.fromkeys(cell.arm for block in blocks for cell in block.cells))
        self.arms.sort(key=lambda arm: (arm not in DIRECT, arm in OURS, arm))

    def values(self, arm: str, name: str) -> list[float]:
        return [value for _, value in self._figures(arm, name)]

    def pairs(self, arm: str, other: str, name: str) -> list[tuple[float, float]]:
        """Both arms' figures of the same rounds."""
        theirs = dict(self._figures(other, name))
        return [(value, theirs[number]) for number, value in self._figures(arm, name) if number in theirs]

    def _figures(self, arm: str, name: str) -> Iterator[tuple[int, float]]:
        for block in self.kept:
            for cell in block.cells:
                if cell.arm == arm and name in cell.measures:
                    yield block.round, cell.measures[name]

    def ratio(self, arm: str, other: str, name: str, seed: int) -> Estimate | None:
        """How many times the other's figure this arm's is; None where the two never stood beside
        each other.
        """
        ratios = [a / b for a, b in self.pairs(arm, other, name) if b]
        return estimate(ratios, seed) if ratios else None

    def difference(self, arm: str, other: str, name: str, seed: int) -> Estimate | None:
        differences = [a - b for a, b in self.pairs(arm, other, name)]
        return estimate(differences, seed) if differences else None

    def median(self, arm: str, name: str) -> float | None:
        values = self.values(arm, name)
        return median(values) if values else None

    @property
    def ours(self) -> str | None:
        """The arm that stands for our server: with everything on where that was run."""
        return next((arm for arm in reversed(OURS) if arm in self.arms), None)


def gates(run: Run) -> list[str]:
    """Reasons not to trust the run, or a figure of it; none is what one hopes for."""
    rounds = Rounds(run.blocks)
    found = [
        f"round {block.round + 1} {block.section}, {cell.arm}: {fault}"
        for block in run.blocks
        for cell in block.cells
        for fault in cell.faults
    ]
    control = rounds.ratio("direct2", "direct", "rps", run.plan.seed)
    if control and not CONTROL[0] <= control.median <= CONTROL[1]:
        found.append(f"VOID: direct2 / direct is {control.median:.3f}, outside {CONTROL[0]}-{CONTROL[1]}")
    discarded = len(run.blocks) - len(rounds.kept)
    if discarded:
        found.append(f"{discarded} of {len(run.blocks)} blocks were discarded for stolen CPU time")
    return found + _disturbed(rounds) + _generator_bound(rounds)


def _disturbed(rounds: Rounds) -> list[str]:
    """How often an arm was ready to run and somebody else had its CPU."""
    shares = [
        share for arm in rounds.arms for share in rounds.values(arm, "waited_share") if share > WAITED_SHARE
    ]
    if not shares:
        return []
    waited = f"an arm waited {median(shares):.0%} of the time for its CPU in {len(shares)} measurements"
    return [f"the machine was not quiet: {waited}"]


def _generator_bound(rounds: Rounds) -> list[str]:
    """Arms so fast that the generator, not they, may have set their requests per second."""
    direct = rounds.median("direct", "rps")
    return [
        f"{arm}: requests per second are generator-bound (direct is only {direct / rps:.2f} times as fast)"
        for arm in rounds.arms
        if direct and arm not in DIRECT and (rps := rounds.median(arm, "rps")) and direct < HEADROOM * rps
    ]


def table(run: Run) -> str:
    """The whole report for a reader."""
    rounds = Rounds(run.blocks)
    seed = run.plan.seed
    lines = [_heading(run), ""]
    lines += [f"left out: {name}: {why}" for name, why in run.left_out.items()]
    for metric in METRICS:
        rows = list(_rows(rounds, metric, seed))
        if rows:
            lines += ["", f"{metric.title} ({metric.section})", *_aligned([_columns(rounds, metric), *rows])]
    lines += _share_lines(rounds) + _growth_lines(rounds)
    lines += ["", "goals", *_aligned(list(_goal_rows(rounds, seed)))] if rounds.ours else []
    problems = gates(run)
    lines += ["", "validity: " + ("every gate passed" if not problems else "")]
    lines += [f"  {problem}" for problem in problems[:40]]
    if len(problems) > 40:
        lines.append(f"  and {len(problems) - 40} more")
    return "\n".join(lines)


def _heading(run: Run) -> str:
    plan = run.plan
    words = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return (
        f"{plan.rounds} rounds of {plan.seconds:g} s, seed {plan.seed}, {plan.streams} streams\n"
        f"{run.machine['cpu']}, {run.machine['cpus']} CPUs, kernel {run.machine['kernel']}; {words}\n"
        "median of paired rounds [95 % interval] (middle half of the rounds); compare only within this run"
    )


def _columns(rounds: Rounds, metric: Metric) -> list[str]:
    versus = {"ratio": "/ direct", "difference": "- direct", "": ""}[metric.versus_direct]
    ours = f"{rounds.ours} / arm" if rounds.ours else ""
    return ["arm", "median", versus, ours]


def _rows(rounds: Rounds, metric: Metric, seed: int) -> Iterator[list[str]]:
    for arm in rounds.arms:
        middle = rounds.median(arm, metric.name)
        if middle is None:
            continue
        beside = None
        if metric.versus_direct == "ratio":
            beside = rounds.ratio(arm, "direct", metric.name, seed)
        elif metric.versus_direct == "difference":
            beside = rounds.difference(arm, "direct", metric.name, seed)
        ours = rounds.ours and rounds.ours != arm and rounds.ratio(rounds.ours, arm, metric.name, seed)
        yield [
            arm,
            f"{middle:,.{metric.digits}f}",
            _shown(beside) if beside and arm != "direct" else "",
            _shown(ours) if ours else "",
        ]


def _shown(found: Estimate) -> str:
    return f"{found.median:.3f} [{found.low:.3f}, {found.high:.3f}] ({found.q1:.3f}-{found.q3:.3f})"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _share_lines(rounds: Rounds) -> list[str]:
    """What in the times looks like Nagle's algorithm: next to nothing is what one hopes for."""
    names = ("latency_1k_nagle_bump", "latency_60k_nagle_bump", "ttft_nagle_bump", "gap_nagle_bump")
    lines = []
    for arm in rounds.arms:
        shares = [max(values) for name in names if (values := rounds.values(arm, name))]
        if shares and max(shares) > 0.01:
            lines.append(f"{arm}: {max(shares):.0%} of some times stand out at 38-46 ms: Nagle's mark")
    return ["", *lines] if lines else []


def _growth_lines(rounds: Rounds) -> list[str]:
    """How resident memory grew with the requests of the later rounds."""
    lines = []
    for arm in rounds.arms:
        done = 0.0
        points = []
        for requests, rss in zip(
            rounds.values(arm, "requests"), rounds.values(arm, "rss_after_kib"), strict=False
        ):
            done += requests
            points.append((done, rss))
        if len(points) > WARM_ROUNDS + 1:
            grown = slope(points[WARM_ROUNDS:]) * 100_000
            lines.append(f"  {arm}: {grown:+.0f} KiB resident per 100,000 requests, of {done:,.0f}")
    return ["", "growth of memory (throughput)", *lines] if lines else []


def _goal_rows(rounds: Rounds, seed: int) -> Iterator[list[str]]:
    for goal in GOALS:
        reached = _reached(rounds, goal, seed)
        if reached is not None:
            is_met = reached >= goal.bound if goal.is_floor else reached <= goal.bound
            bound = f"{'>=' if goal.is_floor else '<='} {goal.bound:g}"
            yield [goal.title, f"{reached:,.3f}", bound, "met" if is_met else "MISSED"]


def _reached(rounds: Rounds, goal: Goal, seed: int) -> float | None:
    ours = rounds.ours
    if ours is None or ours == goal.other:
        return None
    if goal.other:
        found = rounds.ratio(ours, goal.other, goal.metric, seed)
        return found.median if found else None
    if goal.is_added:
        found = rounds.difference(ours, "direct", goal.metric, seed)
        return found.median if found else None
    return rounds.median(ours, goal.metric)


def document(run: Run, command: Sequence[str]) -> str:
    """The raw rounds and everything needed to read them later, as JSON."""
    whole = asdict(run)
    for told, block in zip(whole["blocks"], run.blocks, strict=True):
        told["kept"] = block.is_kept
    return json.dumps({"command": list(command), "problems": gates(run), **whole}, indent=1) + "\n"
