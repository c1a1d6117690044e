"""The embeddings benchmark: so many requests to any server that speaks OpenAI's embeddings, timed.

Its flags and its report keep the shape that `bench_embeddings.py` of aegis-llm-server had, so that
figures of before and after can be laid side by side; what is ours (`texts`) shows only when it is used.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from inglenook.bench import posts
from inglenook.bench.posts import Loop, Measured, Progress, Site
from inglenook.bench.processes import BenchError
from inglenook.bench.statistics import summary

PATH = "/v1/embeddings"
FIXED, MIXED = "fixed", "mixed"
# Characters per text as a corpus has them: many short ones and a few long, which decide what padding costs.
# The longest still fits a model that reads 256 tokens.
MIXED_CHARS = (18, 22, 26, 30, 34, 38, 43, 48, 54, 60, 68, 76, 86, 98, 112, 130, 155, 190, 240, 320, 480, 900)
TEXT_SEED = 20_260_222
WARM_SEED = 22
# A text is made of words: a long run of one letter is a single unknown token to most tokenizers.
WORDS = """
    the of and to in a is that for it was on are as with his they at be this from have or by one had not but
    what all were when we there can an your which their said if do will each about how up out them then she
    many some so these would other into has more her two like him see time could no make than first been its
    who now people my made over did down only way find use may water long little very after words called
    just where most know get through back much before go good new write our used me man too any day same
    right look think also around another came come work three word must because does part even place well
    such here take why things help put years different away again off went old number great tell men say
    small every found still between name should home big give air line set own under read last never us left
    end along while might next sound below saw
""".split()


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do. ``key`` is sent as the bearer, and never reported."""

    base_url: str = "http://127.0.0.1:8181"
    model: str = "nomic-embed-text"
    requests: int = 300
    warmup: int = 30
    concurrency: int = 20
    batch_size: int = 1
    input_chars: int = 256
    timeout_seconds: float = 30.0
    texts: str = FIXED
    key: str = ""

    @property
    def loop(self) -> Loop:
        return Loop(self.concurrency, self.timeout_seconds)

    def site(self) -> Site:
        """Where the requests go. Raises `BenchError`."""
        try:
            return posts.site(self.base_url.rstrip("/").removesuffix("/v1") + PATH, self.key)
        except ValueError:
            raise BenchError("--base-url must be an http:// or https:// address") from None


def check(plan: Plan) -> None:
    """Raises `BenchError` with the first thing that is wrong, in the words of the flag."""
    wrong = [
        (plan.requests > 0, "--requests must be > 0"),
        (plan.warmup >= 0, "--warmup must be >= 0"),
        (plan.concurrency > 0, "--concurrency must be > 0"),
        (plan.batch_size > 0, "--batch-size must be > 0"),
        (plan.input_chars > 0, "--input-chars must be > 0"),
        (0 < plan.timeout_seconds < math.inf, "--timeout-seconds must be > 0"),
    ]
    for is_right, words in wrong:
        if not is_right:
            raise BenchError(words)
    plan.site()


def texts(plan: Plan, count: int, seed: int = TEXT_SEED) -> list[str]:
    """So many texts of ``input_chars``, or of mixed lengths; the same plan and seed give the same ones."""
    rng = random.Random(seed)
    lengths = [plan.input_chars] * count
    if plan.texts == MIXED:
        lengths = rng.choices(MIXED_CHARS, k=count)
    return [_text(rng, length) for length in lengths]


def _text(rng: random.Random, length: int) -> str:
    # No word is shorter than a letter and its space.
    return " ".join(rng.choices(WORDS, k=length // 2 + 1))[:length]


def bodies(plan: Plan, given: Sequence[str]) -> list[bytes]:
    """A request for every ``batch_size`` of the texts; a batch of one is asked as a string."""
    size = plan.batch_size
    batches = (given[at : at + size] for at in range(0, len(given), size))
    asked = ({"model": plan.model, "input": batch[0] if size == 1 else batch} for batch in batches)
    return [json.dumps(body, separators=(",", ":")).encode() for body in asked]


def load(plan: Plan, given: Sequence[str], progress: Progress) -> Measured:
    """Ask for all these texts once, after the warm-up."""
    warm = bodies(plan, texts(plan, plan.warmup * plan.batch_size, WARM_SEED))
    return posts.measure(plan.site(), plan.loop, warm, bodies(plan, given), progress)


def perform(plan: Plan, progress: Progress) -> dict[str, object]:
    """Do a whole run and give its report. Raises `BenchError`; requests that fail are only counted."""
    check(plan)
    measured = load(plan, texts(plan, plan.requests * plan.batch_size), progress)
    return {"config": config(plan), "results": results(plan, measured)}


def config(plan: Plan) -> dict[str, object]:
    """What was asked for, for the report."""
    told: dict[str, object] = {
        "base_url": plan.base_url,
        "model": plan.model,
        "requests": plan.requests,
        "warmup": plan.warmup,
        "concurrency": plan.concurrency,
        "batch_size": plan.batch_size,
        "input_chars": plan.input_chars,
        "timeout_seconds": plan.timeout_seconds,
    }
    return told if plan.texts == FIXED else {**told, "texts": plan.texts}


def results(plan: Plan, measured: Measured) -> dict[str, object]:
    """What came of it, for the report. Texts and times are those of requests that succeeded."""
    seconds = max(measured.seconds, 1e-9)
    return {
        "total_requests": measured.count,
        "success_requests": len(measured.times_ms),
        "failed_requests": measured.faults.total(),
        "error_breakdown": dict(sorted(measured.faults.items())),
        "elapsed_seconds": measured.seconds,
        "requests_per_second": measured.count / seconds,
        "texts_per_second": texts_per_second(plan, measured),
        "latency_ms": summary(measured.times_ms),
    }


def texts_per_second(plan: Plan, measured: Measured) -> float:
    return len(measured.times_ms) * plan.batch_size / max(measured.seconds, 1e-9)
