"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from inglenook.gateway.gateway import Gateway
from inglenook.http.edge import Handler
from inglenook.http.exchange import Exchange

PREFIX = "/v1/models/"


def list_models(gateway: Gateway) -> Handler:
    async def handle(exchange: Exchange) -> None:
        await exchange.json({"object": "list", "data": gateway.models()})

    return handle


def get_model(gateway: Gateway) -> Handler:
    async def handle(exchange: Exchange) -> None:
        # Ids may hold slashes: everything after the prefix is the id.
        await exchange.json(gateway.model(exchange.scope["path"].removeprefix(PREFIX)))

    return handle
