"""The chat benchmark: so many chat requests to any server that speaks OpenAI's API, so many at once, timed.

Its flags and its six lines are those of the `load_test.py` that it takes the place of; what streams tell
beside them (the first token, the time for each further one) follows below, and all of it is in the report.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from inglenook.bench import posts, talks
from inglenook.bench.posts import Loop, Progress, Site
from inglenook.bench.processes import BenchError
from inglenook.bench.statistics import percentile, summary
from inglenook.bench.talks import Round

PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do. ``api_key`` is sent as the bearer, and never reported."""

    url: str = "http://127.0.0.1:8000"
    api_key: str = "local"
    model: str = "llama"
    prompt: str = "Say hello in one sentence."
    requests: int = 20
    concurrency: int = 4
    max_tokens: int = 64
    stream: bool = False
    warmup: int = 0
    timeout_seconds: float = 120.0

    def site(self) -> Site:
        """Where the requests go. Raises `BenchError`."""
        if not self.api_key.isascii() or not self.api_key.isprintable():
            raise BenchError("--api-key has characters that cannot be in a header")
        try:
            return posts.site(self.url.rstrip("/").removesuffix("/v1") + PATH, self.api_key)
        except ValueError:
            raise BenchError("--url must be an http:// or https:// address") from None

    def body(self) -> bytes:
        """The request, which is the same each time: it is the server that is measured, not its luck."""
        asked: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        if self.stream:
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(asked, separators=(",", ":")).encode()


def perform(plan: Plan, progress: Progress) -> Round:
    """Do a whole run. Raises `BenchError`, also when a single request goes wrong."""
    there = plan.site()
    raw = there.request(plan.body())
    loop = Loop(plan.concurrency, plan.timeout_seconds)
    return talks.measure(there, [raw] * plan.warmup, [raw] * plan.requests, loop, progress)


def lines(plan: Plan, done: Round) -> list[str]:
    """What is printed: six lines, and six more for streams. Times in seconds, but for a token's."""
    times = [talk.seconds for talk in done.talks]
    told = [
        f"requests={plan.requests}",
        f"concurrency={plan.concurrency}",
        f"elapsed_s={done.seconds:.3f}",
        f"rps={len(times) / _above_zero(done.seconds):.2f}",
        f"latency_p50_s={percentile(times, 0.5):.3f}",
        f"latency_p95_s={percentile(times, 0.95):.3f}",
    ]
    if not plan.stream:
        return told
    firsts, gaps = _firsts(done) or [0.0], _gaps_ms(done) or [0.0]
    return [
        *told,
        f"ttft_p50_s={percentile(firsts, 0.5):.3f}",
        f"ttft_p95_s={percentile(firsts, 0.95):.3f}",
        f"tpot_p50_ms={percentile(gaps, 0.5):.2f}",
        f"tpot_p95_ms={percentile(gaps, 0.95):.2f}",
        f"tokens={_tokens(done)}",
        f"tokens_per_s={_tokens(done) / _above_zero(done.seconds):.2f}",
    ]


def report(plan: Plan, done: Round) -> dict[str, object]:
    """The same and more as one JSON object."""
    results: dict[str, object] = {
        "elapsed_seconds": done.seconds,
        "requests_per_second": len(done.talks) / _above_zero(done.seconds),
        "latency_s": summary([talk.seconds for talk in done.talks]),
        "completion_tokens": _tokens(done),
        "tokens_per_second": _tokens(done) / _above_zero(done.seconds),
    }
    if plan.stream:
        results |= {
            "time_to_first_token_s": summary(_firsts(done)),
            "time_per_output_token_ms": summary(_gaps_ms(done)),
        }
    return {
        "config": {
            "url": plan.url,
            "model": plan.model,
            "prompt": plan.prompt,
            "requests": plan.requests,
            "concurrency": plan.concurrency,
            "max_tokens": plan.max_tokens,
            "stream": plan.stream,
            "warmup": plan.warmup,
            "timeout_seconds": plan.timeout_seconds,
        },
        "results": results,
    }


def _tokens(done: Round) -> int:
    return sum(talk.tokens for talk in done.talks)


def _firsts(done: Round) -> list[float]:
    return [talk.first for talk in done.talks if talk.first]


def _gaps_ms(done: Round) -> list[float]:
    return [talk.per_token * 1e3 for talk in done.talks if talk.per_token is not None]


def _above_zero(seconds: float) -> float:
    return max(seconds, 1e-9)
