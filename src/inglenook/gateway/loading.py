"""Loading and unloading when somebody says so, not when a request comes or none has come for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from inglenook.errors import BadRequest, ModelLoading, Unavailable
from inglenook.gateway.gateway import Gateway
from inglenook.runtime.lane import LocalLane
from inglenook.telemetry.call import Call
from inglenook.wire.loading import LoadedModel

LOOK_SECONDS = 0.05
"""Between two looks at a busy model: turns tell nobody when the last one was given back."""


class Loading:
    """What the HTTP surface asks for, like ``Gateway``. Only the models of this server are ours to move."""

    def __init__(self, gateway: Gateway, local: Mapping[str, LocalLane], patience: float) -> None:
        """``patience``: seconds that a request may wait for its model to load, or to come to rest."""
        self._gateway, self._local, self._patience = gateway, local, patience

    async def load(self, call: Call, name: str) -> LoadedModel:
        """Make the model ready, and say so only then.

        Raises ``ModelNotFound``, ``BadRequest`` for an upstream's model, ``EngineStartFailed`` and
        ``ModelLoading``. Cancelled, it leaves the load to go on: others may wait for it.
        """
        lane = self._lane(call, name, "load")
        began = time.monotonic()
        try:
            await asyncio.wait_for(lane.ready(), self._patience)
        except TimeoutError:
            raise ModelLoading(
                "The model is still loading. Ask again in a few seconds.", retry_after=10
            ) from None
        return LoadedModel(model=call.model, state="ready", seconds=_since(began))

    async def unload(self, call: Call, name: str) -> LoadedModel:
        """End the model's engine once nobody has, or waits for, a turn; say so when its memory is free.

        No answer is cut off for it, and the next request loads the model again. Raises ``ModelNotFound``,
        ``BadRequest`` for an upstream's model, and ``Unavailable`` when it never came to rest. Cancelled
        while it waits, it changes nothing.
        """
        lane = self._lane(call, name, "unload")
        began = time.monotonic()
        while lane.turns.in_use or lane.turns.waiting:
            if time.monotonic() - began > self._patience:
                raise Unavailable(
                    "The model was never at rest, so it was not unloaded. Ask again when it has less to do.",
                    retry_after=10,
                )
            await asyncio.sleep(LOOK_SECONDS)
        # No `await` between the look and the wish: nobody can take a turn in between.
        if not await lane.process.unload():
            raise Unavailable("The model was asked for meanwhile, so it stays loaded.", retry_after=10)
        return LoadedModel(model=call.model, state="stopped", seconds=_since(began))

    def _lane(self, call: Call, name: str, wish: str) -> LocalLane:
        self._gateway.lane(call, name, "chat", "embed", "rerank")
        lane = self._local.get(call.model)
        if lane is None:
            raise BadRequest(
                f"The model {call.model!r} runs on an upstream server: {wish} it there.", param="model"
            )
        return lane


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
