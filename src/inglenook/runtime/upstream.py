"""One upstream: the way to it, and what is known of how it does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from inglenook.config.settings import UpstreamSettings
from inglenook.errors import InglenookError
from inglenook.policy.breaker import Breaker
from inglenook.policy.catalog import Listed, read_listing
from inglenook.policy.retry import Budget
from inglenook.runtime.channel import TICK_SECONDS, Address, Channel

PATIENCE = 1.0
"""Seconds that a client waits for upstreams' lists at most."""
REMEMBER_SECONDS = 60.0
"""How long an upstream's list of models, or that it gave none, is taken for true."""
LISTING_BYTES = 8 << 20


class Upstream:
    """Shared by all models that it answers to. Written by ``gateway.attempts``, read by the metrics."""

    def __init__(self, settings: UpstreamSettings) -> None:
        """Raises ``ValueError`` for an address that is none."""
        self.settings = settings
        self.name = settings.name
        key, timeouts = settings.api_key, settings.timeouts
        self.channel = Channel(
            Address.parse(settings.url),
            (("authorization", f"Bearer {key}"),) if key else (),
            connect_seconds=timeouts.connect,
            tick_seconds=min(
                TICK_SECONDS, *(getattr(timeouts, name) / 4 for name in timeouts.__struct_fields__)
            ),
        )
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_seconds)
        self.budget = Budget(time.monotonic())
        self.in_flight = 0
        self.requests = 0
        """Tries so far, further ones included."""
        self.retries = 0
        """Further tries of a request, here because this or another replica failed it."""
        self.failures = 0
        """Tries that failed by the upstream's fault."""
        self.warned_of = 0
        """The status, saying that it does not serve us, that the log has already told of."""
        self.silence = {
            "/v1/chat/completions": timeouts.chat,
            "/v1/completions": timeouts.completions,
            "/v1/embeddings": timeouts.embeddings,
            "/v1/rerank": timeouts.rerank,
            "/v2/rerank": timeouts.rerank,
            "/rerank": timeouts.rerank,
            "/v1/models": timeouts.models,
        }
        """Seconds without a byte, by path."""
        self.listed: list[Listed] | None = None
        """Its own list of models when last asked; ``None``: it gave none, or was never asked."""

    @property
    def load(self) -> float:
        return self.in_flight / self.settings.weight

    def close(self) -> None:
        self.channel.close()


class Listings:
    """The upstreams' own lists of models: asked all at once when somebody wants to know, then remembered."""

    def __init__(self, upstreams: Sequence[Upstream]) -> None:
        self._upstreams = upstreams
        self._wish, self._done = asyncio.Event(), asyncio.Event()
        self._began = -REMEMBER_SECONDS

    async def run(self) -> None:
        """Ask whenever it is wished, until cancelled."""
        while True:
            await self._wish.wait()
            async with asyncio.TaskGroup() as tasks:
                for upstream in self._upstreams:
                    tasks.create_task(_ask(upstream))
            self._wish.clear()
            self._done.set()

    async def look(self) -> None:
        """See that the lists are no older than a minute. Does not wait longer than a second for them."""
        now = time.monotonic()
        if now - self._began > REMEMBER_SECONDS and not self._wish.is_set():
            self._began = now
            self._done.clear()
            self._wish.set()
        left = self._began + PATIENCE - now
        if left > 0 and self._upstreams:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), left)


async def _ask(upstream: Upstream) -> None:
    seconds = upstream.settings.timeouts.models
    try:
        async with asyncio.timeout(seconds):
            response = await upstream.channel.request("GET", "/v1/models")
            try:
                body = await response.body(LISTING_BYTES)
            finally:
                response.close()
        upstream.listed = read_listing(body) if response.status == 200 else None
    except (InglenookError, TimeoutError, ValueError):
        upstream.listed = None
