"""How much may wait for a model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from inglenook.workers.embedding.asking import EmbedAsk, Refusal
from inglenook.workers.embedding.compute import Thread
from inglenook.workers.embedding.service import Limits, Service
from tests.workers.embedding.toy import Toy


def ask(text: str) -> EmbedAsk:
    """Return a request for one vector."""
    return EmbedAsk([text], frozenset(("dense",)), False)


@asynccontextmanager
async def serving(limits: Limits) -> AsyncIterator[Service]:
    """Run a service with the toy."""
    service = Service(Toy(), Thread("compute"), limits)
    running = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        running.cancel()


@pytest.mark.parametrize("limits", [Limits(requests=2), Limits(characters=10)])
async def test_a_request_over_the_bound_is_refused_and_none_is_lost(limits: Limits) -> None:
    """Refused at once, and taken again as soon as there is space."""
    async with serving(limits) as service:
        waiting = [asyncio.create_task(service.answer(ask("slow"))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="Too many requests") as refusal:
            await service.answer(ask("abc"))
        assert (refusal.value.code, service.counts["refused"]) == (503, 1)
        assert [answer.tokens for answer in await asyncio.gather(*waiting)] == [[1], [1]]
        assert (await service.answer(ask("abc"))).tokens == [1]
        assert service.counts["requests_waiting"] == 0


async def test_one_request_alone_may_be_larger_than_the_bound() -> None:
    """It would never be served otherwise."""
    async with serving(Limits(characters=1)) as service:
        assert (await service.answer(ask("abc def"))).tokens == [2]
