"""The embeddings benchmark side by side: a server, and the library that would be used without one.

Every round runs three arms on the same texts: ``ours`` (the server), ``ideal`` (the library, all texts
at once, sorted, in its best batch size) and ``unbatched`` (the library, one text after the other). Each
round begins with another arm. What is compared are ratios within a round: a machine that slows down,
slows all three.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from inglenook.bench import embeddings, machine
from inglenook.bench.embeddings import Plan
from inglenook.bench.posts import Measured
from inglenook.bench.processes import BenchError
from inglenook.bench.statistics import median

ARMS = ("ours", "ideal", "unbatched")
ROUNDS = 5
CHECKED = 16
LOAD_SECONDS = 600.0
ARM_SECONDS = 3600.0
LAST_WORDS_SECONDS = 5.0

Watch = Callable[[str, int, int], None]


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
    with tempfile.TemporaryFile() as log:
        # Exactly as a server starts its engines, so that the kernel shares the CPUs alike between both.
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=log, text=True, start_new_session=True
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


def perform(plan: Plan, directory: Path, rounds: int, watch: Watch) -> dict[str, object]:
    """Do a whole run beside the library with the model in ``directory``; its report has a ``comparison``.

    ``results`` are those of the round whose speed is the median. Raises `BenchError`.
    """
    embeddings.check(plan)
    if not directory.is_dir():
        raise BenchError(f"--compare needs a model's directory; there is none at {directory}")
    given = embeddings.texts(plan, plan.requests * plan.batch_size)
    with library() as beside:
        watch("loading the library", 0, 1)
        job = json.dumps({"directory": str(directory.resolve()), "texts": given})
        about = beside.tell(job, LOAD_SECONDS)
        agreement = _agreement(plan, beside, given[:CHECKED])
        each = [_round(plan, given, beside, number, watch) for number in range(rounds)]
    return {
        "config": embeddings.config(plan),
        "results": embeddings.results(plan, _middle(plan, [measured for measured, _ in each])),
        "comparison": {
            "directory": str(directory),
            "library": about,
            "machine": machine.describe() if sys.platform.startswith("linux") else {},
            "lowest_cosine": agreement,
            "rounds": [told for _, told in each],
            "median": _medians([told for _, told in each]),
        },
    }


def _round(
    plan: Plan, given: Sequence[str], beside: Library, number: int, watch: Watch
) -> tuple[Measured, dict[str, Any]]:
    """All three arms once; what ours measured, and what is told of the round."""
    at = number % len(ARMS)
    order = ARMS[at:] + ARMS[:at]
    speeds: dict[str, float] = {}
    measured = Measured()
    for arm in order:
        label = f"round {number + 1}, {arm}"
        if arm == "ours":
            watched = _labelled(watch, label)
            measured = embeddings.load(plan, given, watched)
            speeds[arm] = embeddings.texts_per_second(plan, measured)
        else:
            watch(label, 0, 1)
            speeds[arm] = len(given) / beside.tell(arm, ARM_SECONDS)["seconds"]
            watch(label, 1, 1)
    told = {
        "order": list(order),
        "texts_per_second": speeds,
        "failed_requests": measured.faults.total(),
        # Where others compute too, an engine of several threads loses more than its share.
        "load_average": os.getloadavg()[0],
        "ours_to_ideal": speeds["ours"] / speeds["ideal"],
        "ours_to_unbatched": speeds["ours"] / speeds["unbatched"],
    }
    return measured, told


def _labelled(watch: Watch, label: str) -> Callable[[int, int], None]:
    return lambda done, total: watch(label, done, total)


def _middle(plan: Plan, measured: Sequence[Measured]) -> Measured:
    ranked = sorted(measured, key=lambda each: embeddings.texts_per_second(plan, each))
    return ranked[len(ranked) // 2]


def _medians(rounds: Sequence[dict[str, Any]]) -> dict[str, object]:
    speeds = {arm: median([each["texts_per_second"][arm] for each in rounds]) for arm in ARMS}
    ratios = ("ours_to_ideal", "ours_to_unbatched")
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
