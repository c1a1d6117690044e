"""GET /health: is the server up, and what are its models doing.

GET /health/live: does it answer at all. GET /health/ready: may it be sent requests.
"""

from __future__ import annotations

from inglenook import __version__
from inglenook.gateway.gateway import Gateway
from inglenook.http.edge import Handler
from inglenook.http.exchange import Exchange
from inglenook.runtime.lane import Lane
from inglenook.runtime.process import State


def health(gateway: Gateway) -> Handler:
    hidden = {entry.id for entry in gateway.catalog.entries if not entry.listed}

    async def handle(exchange: Exchange) -> None:
        # What nobody was offered is told of only once somebody has asked for it.
        models = {
            name: lane.state.value
            for name, lane in gateway.lanes.items()
            if name not in hidden or lane.state is not State.STOPPED
        }
        status = "draining" if gateway.draining else "ok"
        await exchange.json({"status": status, "version": __version__, "models": models})

    return handle


async def live(exchange: Exchange) -> None:
    await exchange.json({"status": "ok"})


def ready(gateway: Gateway) -> Handler:
    async def handle(exchange: Exchange) -> None:
        lanes = [gateway.lanes[entry.id] for entry in gateway.catalog.entries if entry.listed]
        is_ready = not gateway.draining and (not lanes or any(map(_serves, lanes)))
        status = "ok" if is_ready else "not_ready"
        answer = {"status": status, "llm_models_loaded": is_ready}
        await exchange.json(answer, 200 if is_ready else 503)

    return handle


def _serves(lane: Lane) -> bool:
    """Whether its model is loaded, or will be when it is asked for.

    One that is to be loaded from the start on, and never came up, will not.
    """
    return lane.state is not State.FAILED and (lane.has_served or not lane.model.preload)
