"""Requests to answers, for one loaded model: how many may wait, and what becomes of each."""

import asyncio
from dataclasses import asdict, dataclass

from inglenook.workers.embedding.asking import Ask, Json, Refusal, RerankAsk
from inglenook.workers.embedding.backends.base import Backend, Facts, Reranker
from inglenook.workers.embedding.compute import Thread
from inglenook.workers.embedding.jobs import Answer, Job
from inglenook.workers.embedding.lines import Counts, line_of


@dataclass(frozen=True)
class Limits:
    """How much may wait; one request alone may be larger."""

    requests: int = 1024
    characters: int = 64 << 20


class Service:
    """Answers requests with one model. `run` has to run for anything to happen."""

    def __init__(self, backend: Backend, thread: Thread, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._facts = backend.facts
        self._reranks = isinstance(backend, Reranker)
        self._counts = Counts()
        self._line = line_of(backend, thread, self._counts)
        self._requests = 0
        self._characters = 0

    @property
    def facts(self) -> Facts:
        """Return what is true of the model."""
        return self._facts

    @property
    def props(self) -> Json:
        """Return what `/props` tells."""
        facts = self._facts
        return {
            "dimension": facts.dimension,
            "context": facts.context,
            "normalized": facts.normalized,
            "kinds": [] if self._reranks else facts.kinds,
            "tasks": ["rerank"] if self._reranks else ["embed"],
            "scale": facts.scale,
        }

    @property
    def counts(self) -> Json:
        """Return what `/counts` tells."""
        return asdict(self._counts) | {"requests_waiting": self._requests}

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for pump in self._line.pumps:
                group.create_task(pump.run())

    async def answer(self, ask: Ask) -> Answer:
        """Return the answer to ``ask``; raise `Refusal`, or whatever the model raised.

        Being cancelled takes the request out of everything that waits.
        """
        if isinstance(ask, RerankAsk) != self._reranks:
            able = "reranks" if self._reranks else "embeds"
            raise Refusal(400, "not_supported_error", f"This model only {able}.")
        job = Job(ask, self._facts.dimension or 1, asyncio.get_running_loop().create_future())
        size = sum(job.sizes)
        self._check_space(size)
        self._requests += 1
        self._characters += size
        try:
            self._line.add(job)
            return await job.done
        except asyncio.CancelledError:
            self._counts.dropped += 1
            raise
        finally:
            self._requests -= 1
            self._characters -= size

    def _check_space(self, size: int) -> None:
        most = self._limits
        full = self._requests >= most.requests or self._characters + size > most.characters
        if self._requests and full:
            self._counts.refused += 1
            raise Refusal(503, "unavailable_error", "Too many requests wait for this model.")


def head_of(ask: Ask, answer: Answer, facts: Facts) -> Json:
    """Return the head of the frame for ``answer``."""
    head: Json = {"count": len(answer.tokens), "tokens": answer.tokens, "truncated": answer.truncated}
    if isinstance(ask, RerankAsk):
        return head | {"scale": facts.scale}
    head |= {"dimension": facts.dimension, "normalized": facts.normalized}
    if answer.vectors.sparse is not None:
        head["sparse"] = answer.vectors.sparse
    if answer.vectors.colbert is not None:
        head["colbert"] = [len(each) for each in answer.vectors.colbert]
    return head
