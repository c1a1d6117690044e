"""A whole run, short; nothing is asserted about speed."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from inglenook.bench import gateway, machine, report
from inglenook.bench.jobs import Target
from inglenook.bench.processes import BenchError, Recipe, started

QUICK = gateway.Plan(
    rounds=1,
    seconds=1.0,
    warm_seconds=0.0,
    streams=16,
    latency_count=5,
    seed=3,
    arms=("direct", "direct2"),
)


@pytest.mark.parametrize("has_wrk", [True, False])
def test_a_run_against_the_mock_alone(has_wrk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every section gives its figures without a fault, and no process is left."""
    if not has_wrk:
        monkeypatch.setenv("PATH", str(tmp_path))
    before = set(machine.tree(1))
    said: list[str] = []
    run = gateway.perform(QUICK, said.append)
    assert [block.section for block in run.blocks] == ["memory", "throughput", "latency", "streams"]
    assert [cell.faults for block in run.blocks for cell in block.cells] == [[]] * 6
    figures = {name for block in run.blocks for cell in block.cells for name in cell.measures}
    assert {"rps", "latency_400k_p99_ms", "ttft_p50_ms", "gap_own_max_ms", "delivered_share"} <= figures
    assert said[-1].startswith("round 1 of 1: streams")
    assert "requests per second" in report.table(run)
    assert json.loads(report.document(run, ["x"]))["plan"]["seed"] == 3
    left = [pid for pid in set(machine.tree(1)) - before if "inglenook.bench" in machine.command_line(pid)]
    assert left == []


def test_the_order_is_dealt_by_the_seed() -> None:
    """Afresh for every round, and the same for the same seed."""
    plan = replace(QUICK, rounds=4, sections=("latency",), latency_count=1)
    rng = random.Random(plan.seed)
    expected = [tuple(rng.sample(["direct", "direct2"], 2)) for _ in range(4)]
    assert expected == [block.order for block in gateway.perform(plan, list[str]().append).blocks]
    assert len(set(expected)) == 2


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    """With the end of its log."""
    recipe = Recipe("broken", ("/bin/sh", "-c", "echo no such luck; exit 3"), Target(port=1))
    with (
        pytest.raises(BenchError, match=r"ended with status 3(.|\n)*no such luck"),
        started(recipe, tmp_path, None),
    ):
        pass


def test_the_estimate_grows_with_the_work() -> None:
    """More rounds take longer."""
    assert gateway.estimated_seconds(replace(QUICK, rounds=9)) > gateway.estimated_seconds(QUICK)
