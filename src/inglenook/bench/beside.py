"""The embeddings benchmark side by side: a server, and the library that would be used without one.

Every round runs its arms on the same texts: ``ours`` (the server), ``ideal`` (the library, all texts at
once, sorted, in its best batch size), ``unbatched`` (the library, one text after the other) and
``plain_server`` (the library behind HTTP, each request on its own: the module of that name). ``against``
is one more server, or one more model of ours, where one is named. Each round begins with another arm.
What is compared are ratios within a round: a machine that slows down, slows all of them.
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import os
import select
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from inglenook.bench import embeddings, machine
from inglenook.bench.embeddings import Plan
from inglenook.bench.posts import Measured, Progress
from inglenook.bench.processes import BenchError
from inglenook.bench.statistics import median

LIBRARY = ("ideal", "unbatched")
ROUNDS = 5
CHECKED = 16
LOAD_SECONDS = 600.0
ARM_SECONDS = 3600.0
LAST_WORDS_SECONDS = 5.0

Watch = Callable[[str, int, int], None]
Arm = Callable[[Progress], Measured | float]
"""Does all texts once; gives what was measured, or the seconds that it took."""


class Library:
    """A process of the library (`library`), told to do one thing after the other."""

    def __init__(self, process: subprocess.Popen[str], log: IO[bytes]) -> None:
        assert process.stdin and process.stdout
        self._stdin, self._stdout = process.stdin, process.stdout
        self._process, self._log = process, log

    def tell(self, line: str, seconds: float) -> dict[str, Any]:
        """One line there, one answer back. Raises `BenchError` with the end of what the library said."""
        try:
            self._stdin.write(line + "\n")
            self._stdin.flush()
        except OSError:
            raise self._failed() from None
        ready, _, _ = select.select([self._stdout], [], [], seconds)
        answer = self._stdout.readline() if ready else ""
        if not answer:
            raise self._failed()
        told: dict[str, Any] = json.loads(answer)
        return told

    def _failed(self) -> BenchError:
        # Its last words come after its last answer.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS_SECONDS)
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip()
        if "No module named 'sentence_transformers'" in said:
            return BenchError("--compare needs the library: pip install sentence-transformers")
        return BenchError(f"The library failed or took too long. The end of what it said:\n{said[-2000:]}")


@contextlib.contextmanager
def library() -> Iterator[Library]:
    """A process of the library, which has ended when the block is left."""
    leash = [sys.executable, "-m", "inglenook.workers.leash", "--"]
    command = [*leash, sys.executable, "-m", "inglenook.bench.library"]
    pipe = subprocess.PIPE
    # What our worker sets for itself. Threads that spin while they wait would take the processor from the arm
    # that is measured, long after the library's own turn: measured, half of our speed.
    environ = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    with tempfile.TemporaryFile() as log:
        # Exactly as a server starts its engines, so that the kernel shares the CPUs alike between both.
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=log, text=True, start_new_session=True, env=environ
        )
        try:
            yield Library(process, log)
        finally:
            process.kill()
            process.wait()
            _close(process)


def _close(process: subprocess.Popen[str]) -> None:
    for end in (process.stdin, process.stdout):
        # What was still to be written to a process that has gone.
        with contextlib.suppress(OSError):
            if end:
                end.close()


def perform(
    plan: Plan, directory: Path, rounds: int, watch: Watch, against: Plan | None = None
) -> dict[str, object]:
    """Do a whole run beside the library with the model in ``directory``; its report has a ``comparison``.

    ``results`` are those of the round whose speed is the median. Raises `BenchError`.
    """
    embeddings.check(plan)
    if against:
        embeddings.check(against)
    if not directory.is_dir():
        raise BenchError(f"--compare needs a model's directory; there is none at {directory}")
    given = embeddings.texts(plan, plan.requests * plan.batch_size)
    with library() as beside:
        watch("loading the library", 0, 1)
        job = json.dumps({"directory": str(directory.resolve()), "texts": given})
        about = beside.tell(job, LOAD_SECONDS)
        agreement = _agreement(plan, beside, given[:CHECKED])
        arms = _arms(plan, given, beside, against)
        each = [_round(plan, arms, number, watch) for number in range(rounds)]
    return {
        "config": embeddings.config(plan),
        "results": embeddings.results(plan, _middle(plan, [measured for measured, _ in each])),
        "comparison": {
            "directory": str(directory),
            "library": about,
            "machine": machine.describe() if sys.platform.startswith("linux") else {},
            "lowest_cosine": agreement,
            **({"against": {"base_url": against.base_url, "model": against.model}} if against else {}),
            "rounds": [told for _, told in each],
            "median": _medians([told for _, told in each]),
        },
    }


def _arms(plan: Plan, given: Sequence[str], beside: Library, against: Plan | None) -> dict[str, Arm]:
    """What each arm does in a round, and how it measured itself."""

    def asked(plan: Plan) -> Arm:
        return lambda watch: embeddings.load(plan, given, watch)

    def told(order: str) -> Arm:
        return lambda watch: _timed(beside.tell(order, ARM_SECONDS)["seconds"], watch)

    port = beside.tell("serve", LOAD_SECONDS)["port"]
    arms = {"ours": asked(plan), **{name: told(name) for name in LIBRARY}}
    arms["plain_server"] = asked(replace(plan, base_url=f"http://127.0.0.1:{port}", key=""))
    return arms | ({"against": asked(against)} if against else {})


def _timed(seconds: float, watch: Progress) -> float:
    watch(1, 1)
    return seconds


def _round(plan: Plan, arms: Mapping[str, Arm], number: int, watch: Watch) -> tuple[Measured, dict[str, Any]]:
    """All arms once; what ours measured, and what is told of the round."""
    names = list(arms)
    at = number % len(names)
    order = names[at:] + names[:at]
    speeds: dict[str, float] = {}
    faults: Counter[str] = Counter()
    ours = Measured()
    for name in order:
        watched = _labelled(watch, f"round {number + 1}, {name}")
        watched(0, 1)
        measured = arms[name](watched)
        if isinstance(measured, Measured):
            speeds[name] = embeddings.texts_per_second(plan, measured)
            if not speeds[name]:
                raise BenchError(f"Not one request to {name} succeeded: {dict(measured.faults)}")
            faults += measured.faults
            ours = measured if name == "ours" else ours
        else:
            speeds[name] = plan.requests * plan.batch_size / measured
    told = {
        "order": order,
        "texts_per_second": {name: speeds[name] for name in names},
        "failed_requests": faults.total(),
        # Where others compute too, an engine of several threads loses more than its share.
        "load_average": os.getloadavg()[0],
        **{f"ours_to_{name}": speeds["ours"] / speeds[name] for name in names if name != "ours"},
    }
    return ours, told


def _labelled(watch: Watch, label: str) -> Callable[[int, int], None]:
    return lambda done, total: watch(label, done, total)


def _middle(plan: Plan, measured: Sequence[Measured]) -> Measured:
    ranked = sorted(measured, key=lambda each: embeddings.texts_per_second(plan, each))
    return ranked[len(ranked) // 2]


def _medians(rounds: Sequence[dict[str, Any]]) -> dict[str, object]:
    arms = list(rounds[0]["texts_per_second"])
    speeds = {arm: median([each["texts_per_second"][arm] for each in rounds]) for arm in arms}
    ratios = [f"ours_to_{arm}" for arm in arms if arm != "ours"]
    return {"texts_per_second": speeds, **{name: median([each[name] for each in rounds]) for name in ratios}}


def _agreement(plan: Plan, beside: Library, given: Sequence[str]) -> float:
    """The lowest cosine between the server's vector of a text and the library's: is it the same model?"""
    ours = ask_vectors(plan, given)
    theirs = beside.tell(f"vectors {len(given)}", ARM_SECONDS)["vectors"]
    if any(len(mine) != len(other) for mine, other in zip(ours, theirs, strict=True)):
        raise BenchError(f"{plan.model} gives {len(ours[0])} numbers per text, the library {len(theirs[0])}")
    return min(cosine(mine, other) for mine, other in zip(ours, theirs, strict=True))


def ask_vectors(plan: Plan, given: Sequence[str]) -> list[list[float]]:
    """The server's vectors of these texts. Raises `BenchError`: without them nothing can be compared."""
    url = plan.base_url.rstrip("/").removesuffix("/v1") + embeddings.PATH
    headers = {"Content-Type": "application/json"}
    if plan.key:
        headers["Authorization"] = f"Bearer {plan.key}"
    body = json.dumps({"model": plan.model, "input": list(given)}).encode()
    try:
        request = urllib.request.Request(url, body, headers)
        with urllib.request.urlopen(request, timeout=plan.timeout_seconds) as response:
            rows = json.load(response)["data"]
        vectors = [[float(value) for value in row["embedding"]] for row in rows]
    except urllib.error.HTTPError as exc:
        with exc:
            said = exc.read(2000).decode(errors="replace").strip()
        raise BenchError(f"The server answered {exc.code}: {said}") from None
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise BenchError(f"The server at {plan.base_url} gave no vectors: {exc}") from None
    if len(vectors) != len(given):
        raise BenchError(f"The server gave {len(vectors)} vectors for {len(given)} texts.")
    return vectors


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """How alike two vectors point; 0 where one has no direction."""
    lengths = math.hypot(*one) * math.hypot(*other)
    return math.fsum(map(operator.mul, one, other)) / lengths if lengths else 0.0
