"""What a run's rounds say, from figures written by hand."""

from __future__ import annotations

import json

from inglenook.bench import report
from inglenook.bench.cells import Cell
from inglenook.bench.gateway import Block, Plan, Run
from inglenook.bench.machine import Layout

RPS = {
    "direct": 50_000.0,
    "direct2": 50_500.0,
    "nginx": 20_000.0,
    "ours-min": 12_000.0,
    "ours-full": 10_000.0,
}


def block(number: int, scale: float, *, steal: float = 0.0, rps: dict[str, float] = RPS) -> Block:
    """One round in which the machine was so fast."""
    cells = tuple(Cell(arm, {"rps": value * scale}) for arm, value in rps.items())
    return Block(number, "throughput", tuple(rps), steal, 0.5, cells)


def run_of(*blocks: Block) -> Run:
    described: dict[str, object] = {"cpu": "a CPU", "cpus": 2, "kernel": "6.1"}
    return Run(Plan(), described, {"python": "3.11"}, Layout(0, 1, 1), blocks=list(blocks))


def test_only_paired_rounds_are_compared() -> None:
    """A machine that changes its speed between rounds changes no ratio."""
    rounds = report.Rounds([block(0, 1.0), block(1, 3.0), block(2, 0.2)])
    found = rounds.ratio("ours-full", "nginx", "rps", seed=1)
    assert found is not None
    assert (found.median, found.low, found.high, found.rounds) == (0.5, 0.5, 0.5, 3)
    assert rounds.ratio("ours-full", "litellm", "rps", seed=1) is None


def test_a_stolen_round_is_not_counted() -> None:
    """It stays in the record and says so."""
    run = run_of(block(0, 1.0), block(1, 9.0, steal=0.031))
    assert report.Rounds(run.blocks).values("direct", "rps") == [50_000.0]
    assert report.gates(run) == ["1 of 2 blocks were discarded for stolen CPU time"]
    kept = [told["kept"] for told in json.loads(report.document(run, ["bench"]))["blocks"]]
    assert kept == [True, False]


def test_a_run_whose_controls_differ_is_void() -> None:
    """Two ways that are the same must look the same."""
    run = run_of(block(0, 1.0, rps={**RPS, "direct2": 60_000.0}))
    assert report.gates(run) == ["VOID: direct2 / direct is 1.200, outside 0.95-1.05"]


def test_an_arm_too_fast_for_the_generator_is_named() -> None:
    """Its requests per second are not its own."""
    run = run_of(block(0, 1.0, rps={**RPS, "nginx": 30_000.0}))
    assert report.gates(run) == [
        "nginx: requests per second are generator-bound (direct is only 1.67 times as fast)"
    ]


def test_faults_and_a_busy_machine_are_told() -> None:
    """With the place where they happened."""
    run = run_of(block(0, 1.0))
    run.blocks[0].cells[2].faults.append("3 answers with status 502")
    run.blocks[0].cells[3].measures["waited_share"] = 0.4
    assert report.gates(run) == [
        "round 1 throughput, nginx: 3 answers with status 502",
        "the machine was not quiet: an arm waited 40% of the time for its CPU in 1 measurements",
    ]


def test_the_table_has_medians_ratios_and_goals() -> None:
    """One line per arm, with our server beside each, and the goals that can be judged."""
    lines = report.table(run_of(block(0, 1.0), block(1, 2.0))).splitlines()
    nginx = next(line.split() for line in lines if line.strip().startswith("nginx"))
    assert nginx[:3] == ["nginx", "30,000", "0.400"]
    assert "0.500" in nginx
    goal = next(line for line in lines if "requests per second / nginx" in line)
    assert goal.split()[-1] == "met"
    assert lines[-1] == "validity: every gate passed"


def test_memory_that_grows_is_told() -> None:
    """Per 100,000 requests, after the first rounds."""
    cells = [
        Cell("nginx", {"rps": 1.0, "requests": 1000.0, "rss_after_kib": 9_000.0 + 10 * number})
        for number in range(5)
    ]
    run = run_of(*(Block(n, "throughput", ("nginx",), 0.0, 0.0, (cell,)) for n, cell in enumerate(cells)))
    assert "  nginx: +1000 KiB resident per 100,000 requests, of 5,000" in report.table(run).splitlines()
