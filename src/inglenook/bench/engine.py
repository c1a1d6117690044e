"""The engine's benchmark: tokens per second through our server beside those from the very same
engine process.

Our server starts the engine. That listens on a unix socket, which its command line names; the
direct arm talks to it there. Nothing is pinned: an engine needs every CPU, and what the server
takes from it is part of the answer.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from inglenook.bench import jobs, machine
from inglenook.bench.gateway import versions
from inglenook.bench.jobs import Target
from inglenook.bench.processes import (
    BenchError,
    Recipe,
    free_port,
    generate,
    is_healthy,
    started,
    take_priority,
)
from inglenook.bench.reply import Garbled
from inglenook.bench.sockets import chat_request, connect, timed_exchange
from inglenook.bench.statistics import Estimate, estimate, median, percentile

MODEL = "bench"
STREAMS = (1, 2, 4, 8)
SLOTS = 8
LOAD_SECONDS = 900.0
ANSWER_SECONDS = 300.0
START_SECONDS = 60.0
GENERATOR_START_SECONDS = 15.0
_SOCKET_FLAGS = ("--host", "--socket")
_TOPICS = ("the sea", "a road", "winter", "an old clock", "bread", "rivers", "a lighthouse", "moss")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do. ``model`` is whatever a model's `path` setting takes."""

    model: str
    rounds: int = 20
    tokens: int = 128
    first_tokens: int = 20
    seed: int = 0
    nice: int = 0


@dataclass(frozen=True)
class Speed:
    """Both arms once at one number of streams; tokens per second."""

    round: int
    streams: int
    direct: float
    through: float
    is_same_text: bool


@dataclass(frozen=True)
class FirstToken:
    """Both arms' times to the first token in one round, in ms, asked in turn."""

    round: int
    direct: list[float]
    through: list[float]


@dataclass
class Run:
    """Everything a run wrote down."""

    plan: Plan
    machine: dict[str, object]
    versions: dict[str, str]
    speeds: list[Speed] = field(default_factory=list)
    first_tokens: list[FirstToken] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def settings(plan: Plan, port: int) -> str:
    """What our server is told."""
    return f"""\
[server]
host = "127.0.0.1"
port = {port}

[auth]
database = "none"

[[models]]
id = "{MODEL}"
path = {json.dumps(plan.model)}
parallel = {SLOTS}
"""


def perform(plan: Plan, say: Say) -> Run:
    """Do a whole run. Raises `BenchError`; leaves no process behind."""
    run = Run(plan, machine.describe(), versions())
    rng = random.Random(plan.seed)
    take_priority(plan.nice)
    with tempfile.TemporaryDirectory(prefix="inglenook-bench-") as made:
        directory = Path(made)
        recipe = _server(plan, directory)
        with started(recipe, directory, None) as child:
            say("loading the model")
            _ask_first(recipe.target)
            for pid in machine.tree(child.pid):
                machine.share_priority(pid)
            targets = {"through": recipe.target, "direct": find_engine(child.pid)}
            for number in range(plan.rounds):
                for streams in rng.sample(STREAMS, len(STREAMS)):
                    run.speeds.append(_speed(run, targets, number, streams, rng))
                run.first_tokens.append(_first_token(plan, targets, number, rng))
                say(f"round {number + 1} of {plan.rounds}")
    return run


def _server(plan: Plan, directory: Path) -> Recipe:
    port = free_port()
    config = directory / "inglenook.toml"
    config.write_text(settings(plan, port))
    argv = (sys.executable, "-m", "inglenook", "serve", "--config", str(config))
    return Recipe("inglenook", argv, Target(port=port), start_seconds=START_SECONDS)


def _ask_first(target: Target) -> None:
    """The first request loads the model, and tells whether it can answer at all."""
    raw = chat_request(target, _body(0, tokens=1))
    try:
        with closing(connect(target, LOAD_SECONDS)) as sock:
            _, status, payload = timed_exchange(sock, raw)
    except (OSError, Garbled) as exc:
        raise BenchError(f"The first request failed: {exc}") from exc
    if status != 200:
        raise BenchError(f"The first request was answered with {status}: {payload[:500].decode()}")


def find_engine(server: int) -> Target:
    """The engine's own socket, from the command lines of the server's descendants. Raises `BenchError`."""
    for pid in reversed(machine.tree(server)[1:]):
        for path in _named_sockets(machine.command_line(pid)):
            target = Target(unix=path)
            if is_healthy(target):
                return target
    raise BenchError("No process of the server's names a unix socket that answers: is the engine running?")


def _named_sockets(args: Sequence[str]) -> Iterator[str]:
    for flag, value in pairwise(args):
        if flag in _SOCKET_FLAGS and Path(value).is_socket():
            yield value


def _body(number: int, tokens: int) -> bytes:
    """A fixed request of its own for each stream; greedy, from an empty cache, always to its full length."""
    topic = _TOPICS[number % len(_TOPICS)]
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Write a long story about {topic}."}],
        "max_tokens": tokens,
        "temperature": 0,
        "cache_prompt": False,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(body, separators=(",", ":")).encode()


def _speed(run: Run, targets: dict[str, Target], number: int, streams: int, rng: random.Random) -> Speed:
    bodies = [_body(n, run.plan.tokens).decode() for n in range(streams)]
    rates: dict[str, float] = {}
    texts: dict[str, list[str]] = {}
    for arm in rng.sample(sorted(targets), len(targets)):
        job = jobs.Streams(targets[arm], streams, 0, 0, 0.0, ANSWER_SECONDS, bodies)
        told = generate(job, None, ANSWER_SECONDS + GENERATOR_START_SECONDS)
        run.faults += _faults(told, arm, number, streams)
        rates[arm] = sum(told["tokens"]) / told["seconds"] if told["seconds"] else 0.0
        texts[arm] = told["texts"]
    return Speed(number, streams, rates["direct"], rates["through"], texts["direct"] == texts["through"])


def _faults(told: dict[str, Any], arm: str, number: int, streams: int) -> list[str]:
    where = f"round {number + 1}, {streams} streams, {arm}"
    found = [f"{where}: {n} answers with status {s}" for s, n in told["statuses"].items() if s != "200"]
    found += [f"{where}: {n} times: {problem}" for problem, n in told["problems"].items()]
    if told["ended"] < streams:
        found.append(f"{where}: {streams - told['ended']} streams did not end with [DONE]")
    return found


def _first_token(plan: Plan, targets: dict[str, Target], number: int, rng: random.Random) -> FirstToken:
    """Ask both in turn, so that what disturbs the engine for a while disturbs both."""
    times: dict[str, list[float]] = {arm: [] for arm in targets}
    for request in range(plan.first_tokens):
        for arm in rng.sample(sorted(targets), len(targets)):
            times[arm].append(_time_to_first(targets[arm], arm, _body(request, tokens=1)))
    return FirstToken(number, times["direct"], times["through"])


def _time_to_first(target: Target, arm: str, body: bytes) -> float:
    """In ms. llama.cpp closes connections as it likes, so each request has a new one, not timed."""
    try:
        with closing(connect(target, ANSWER_SECONDS)) as sock:
            arrivals, status, _ = timed_exchange(sock, chat_request(target, body))
    except (OSError, Garbled) as exc:
        raise BenchError(f"{arm}: a request failed: {exc}") from exc
    if status != 200:
        raise BenchError(f"{arm}: a request was answered with {status}")
    return arrivals[0]


def table(run: Run) -> str:
    """The report for a reader."""
    seed = run.plan.seed
    lines = [
        f"{run.plan.rounds} rounds, {run.plan.tokens} tokens per stream, seed {seed}, model {run.plan.model}",
        "median of paired rounds [95 % interval] (middle half of the rounds)",
        "",
        "tokens per second: streams, direct, through, through / direct (goal >= 0.98)",
    ]
    for streams in STREAMS:
        speeds = [speed for speed in run.speeds if speed.streams == streams and speed.direct]
        if speeds:
            ratio = estimate([speed.through / speed.direct for speed in speeds], seed)
            direct, through = (median([getattr(s, arm) for s in speeds]) for arm in ("direct", "through"))
            lines.append(f"  {streams}  {direct:10.1f}  {through:10.1f}  {_shown(ratio)}")
    lines += ["", "added time to first token, ms (goals: p50 <= 0.5, p99 <= 3)", *_added_lines(run)]
    alone = [speed for speed in run.speeds if speed.streams == 1]
    same = sum(speed.is_same_text for speed in alone)
    lines += ["", f"same text through and direct, one stream: {same} of {len(alone)} rounds"]
    lines += [f"  {fault}" for fault in run.faults[:40]]
    return "\n".join(lines)


def _added_lines(run: Run) -> Iterator[str]:
    rounds = [told for told in run.first_tokens if told.direct and told.through]
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        added = [percentile(told.through, share) - percentile(told.direct, share) for told in rounds]
        if added:
            yield f"  {name}  {_shown(estimate(added, run.plan.seed))}"


def _shown(found: Estimate) -> str:
    return f"{found.median:.3f} [{found.low:.3f}, {found.high:.3f}] ({found.q1:.3f}-{found.q3:.3f})"


def document(run: Run, command: Sequence[str]) -> str:
    """The raw rounds and everything needed to read them later, as JSON."""
    return json.dumps({"command": list(command), **asdict(run)}, indent=1) + "\n"
