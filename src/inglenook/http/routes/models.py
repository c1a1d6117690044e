"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from inglenook.gateway.gateway import Gateway
from inglenook.http.edge import Handler
from inglenook.http.exchange import Exchange
from inglenook.runtime.upstream import Listings

PREFIX = "/v1/models/"


def list_models(gateway: Gateway, listings: Listings) -> Handler:
    async def handle(exchange: Exchange) -> None:
        await listings.look()
        await exchange.json({"object": "list", "data": gateway.models(exchange.call.client)})

    return handle


def get_model(gateway: Gateway) -> Handler:
    async def handle(exchange: Exchange) -> None:
        # Ids may hold slashes: everything after the prefix is the id.
        name = exchange.scope["path"].removeprefix(PREFIX)
        await exchange.json(gateway.model(exchange.call.client, name))

    return handle
