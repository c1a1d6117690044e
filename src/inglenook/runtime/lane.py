"""The way to one model: its engine's facts, its turns, and a channel once it is ready.

A local process and a remote upstream are the same thing to whoever relays.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from inglenook.config.settings import ModelSettings
from inglenook.engines.base import Engine
from inglenook.runtime.channel import Channel
from inglenook.runtime.process import Process, State
from inglenook.runtime.turns import Turns


class Lane(Protocol):
    """What the gateway needs of a model."""

    model: ModelSettings
    engine: Engine
    turns: Turns
    takes_tools: bool
    """Whether tools reach the model. Known once it is ready."""

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


class LocalLane:
    """A model that we run ourselves."""

    def __init__(self, model: ModelSettings, engine: Engine, process: Process) -> None:
        self.model, self.engine, self.process = model, engine, process
        self.turns = Turns(engine.turns(model), model.max_queue)
        self.takes_tools = True  # written by the pool at each start
        self._idle_since: float | None = None
        self._taken = 0

    @property
    def channel(self) -> Channel | None:
        return self.process.channel

    def ready(self) -> asyncio.Future[Channel]:
        return self.process.ready()

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


class UpstreamLane:
    """A model that another server runs. It is always taken to be ready."""

    state = State.READY
    takes_tools = True

    def __init__(self, model: ModelSettings, engine: Engine, channel: Channel) -> None:
        self.model, self.engine = model, engine
        self.channel: Channel | None = channel
        self._channel = channel
        self.turns = Turns(engine.turns(model), 0)

    def ready(self) -> asyncio.Future[Channel]:
        future: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
        future.set_result(self._channel)
        return future

    async def after_loss(self, channel: Channel) -> None:
        return
