"""The way to one model: its engine's facts, its turns, and a channel once it is ready.

A local process and a remote upstream are the same thing to whoever relays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from inglenook.config.settings import ModelSettings
from inglenook.engines.base import Engine
from inglenook.policy.balance import Balance
from inglenook.runtime.channel import Channel
from inglenook.runtime.process import Process, State
from inglenook.runtime.turns import Turns
from inglenook.runtime.upstream import Upstream


class Lane(Protocol):
    """What the gateway needs of a model."""

    model: ModelSettings
    engine: Engine
    turns: Turns
    takes_tools: bool
    """Whether tools reach the model. Known once it is ready."""
    upstream: Upstream | None
    """Whose model it is; ``None``: our own."""

    @property
    def busy(self) -> int:
        """Requests that it has, or that wait for it."""
        ...

    def closed_for(self, now: float) -> float:
        """Seconds for which it is left alone, because it failed too often; 0: it may be asked."""
        ...

    def wake(self) -> None:
        """Make it ready, for others than who asks now."""
        ...

    @property
    def channel(self) -> Channel | None:
        """The channel if it is ready now."""
        ...

    def ready(self) -> asyncio.Future[Channel]:
        """Make it ready. The future raises ``Unavailable`` when that fails; cancel it to stop waiting."""
        ...

    async def after_loss(self, channel: Channel) -> None:
        """Called when ``channel`` broke: waits until the process's owner has seen why, not for long."""
        ...

    @property
    def state(self) -> State: ...

    @property
    def has_served(self) -> bool:
        """Whether it was ever ready."""
        ...


class LocalLane:
    """A model that we run ourselves."""

    def __init__(self, model: ModelSettings, engine: Engine, process: Process) -> None:
        self.model, self.engine, self.process = model, engine, process
        self.turns = Turns(engine.turns(model), model.max_queue)
        self.takes_tools = True  # written by the pool at each start
        self.upstream: Upstream | None = None
        self._idle_since: float | None = None
        self._taken = 0

    @property
    def channel(self) -> Channel | None:
        return self.process.channel

    def ready(self) -> asyncio.Future[Channel]:
        return self.process.ready()

    @property
    def busy(self) -> int:
        return self.turns.in_use + self.turns.waiting

    def closed_for(self, now: float) -> float:
        return self.process.closed_for()

    def wake(self) -> None:
        # A failure is logged by the process and told to requests.
        self.process.ready().add_done_callback(_seen)

    def idle_too_long(self, now: float) -> bool:
        """Whether the model was without a request for its ``ttl_seconds``. Asked once a second."""
        worked = self.turns.in_use > 0 or self.turns.taken != self._taken
        self._taken = self.turns.taken
        if worked or not self.model.ttl_seconds or self.channel is None:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        else:
            return now - self._idle_since >= self.model.ttl_seconds
        return False

    async def after_loss(self, channel: Channel) -> None:
        await self.process.after_loss(channel)

    @property
    def state(self) -> State:
        return self.process.state

    @property
    def has_served(self) -> bool:
        return self.process.load_seconds > 0


class UpstreamLane:
    """A model that another server runs. It is always taken to be ready."""

    state = State.READY
    has_served = True
    takes_tools = True

    def __init__(self, model: ModelSettings, engine: Engine, upstream: Upstream) -> None:
        self.model, self.engine = model, engine
        self.upstream: Upstream | None = upstream
        self._upstream = upstream
        self.channel: Channel | None = upstream.channel
        self.turns = Turns(engine.turns(model), 0)

    @property
    def busy(self) -> int:
        return self._upstream.in_flight

    def closed_for(self, now: float) -> float:
        return self._upstream.breaker.closed_for(now)

    def wake(self) -> None:
        return

    def ready(self) -> asyncio.Future[Channel]:
        future: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
        future.set_result(self._upstream.channel)
        return future

    async def after_loss(self, channel: Channel) -> None:
        return


class Stop:
    """One model on a route: its replicas, all of which answer to the same name."""

    def __init__(self, model: str, lanes: tuple[Lane, ...]) -> None:
        self.model, self.lanes = model, lanes
        settings = [lane.upstream.settings for lane in lanes if lane.upstream is not None]
        self.balance = Balance(
            [lane.upstream.settings.weight if lane.upstream is not None else 1.0 for lane in lanes]
        )
        self.retries = max((each.retries for each in settings), default=0)
        """Further tries of one request here."""
        self.backoff = max((each.backoff_seconds for each in settings), default=0.0)


class Route:
    """Where the requests for one model go: to it, and to its fallbacks in their order."""

    def __init__(self, stops: tuple[Stop, ...]) -> None:
        self.stops = stops
        self.model = stops[0].model
        first = stops[0].lanes[0]
        self.first = first
        alone = len(stops) == 1 and len(stops[0].lanes) == 1 and first.upstream is None
        self.alone = first if alone else None
        """The one model of our own that there is to ask: nothing to decide."""

    def only(self, fits: Callable[[Lane], bool]) -> Route:
        """The same without the fallbacks that do not fit."""
        fitting = tuple(stop for stop in self.stops[1:] if fits(stop.lanes[0]))
        return self if len(fitting) == len(self.stops) - 1 else Route((self.stops[0], *fitting))


def _seen(future: asyncio.Future[Channel]) -> None:
    if not future.cancelled():
        future.exception()
