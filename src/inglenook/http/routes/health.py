"""GET /health: is the server up, and what are its models doing."""

from __future__ import annotations

from inglenook import __version__
from inglenook.gateway.gateway import Gateway
from inglenook.http.edge import Handler
from inglenook.http.exchange import Exchange
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
