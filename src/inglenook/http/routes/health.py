"""GET /health: is the server up, and what are its models doing."""

from __future__ import annotations

from inglenook import __version__
from inglenook.gateway.gateway import Gateway
from inglenook.http.edge import Handler
from inglenook.http.exchange import Exchange


def health(gateway: Gateway) -> Handler:
    async def handle(exchange: Exchange) -> None:
        models = {name: lane.state.value for name, lane in gateway.lanes.items()}
        status = "draining" if gateway.draining else "ok"
        await exchange.json({"status": status, "version": __version__, "models": models})

    return handle
