"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from inglenook.gateway.cached import CachedGateway
from inglenook.gateway.gateway import Gateway
from inglenook.gateway.noting import noted
from inglenook.gateway.reply import Reply
from inglenook.http.edge import Handler
from inglenook.http.exchange import Departure, Exchange
from inglenook.telemetry.call import Call
from inglenook.wire.check import R, check_chat, check_completion, reader
from inglenook.wire.openai import ChatRequest, CompletionRequest


def chat(gateway: Gateway | CachedGateway, max_body: int) -> Handler:
    return _posted(reader(ChatRequest, check_chat), gateway.chat, max_body)


def completions(gateway: Gateway | CachedGateway, max_body: int) -> Handler:
    return _posted(reader(CompletionRequest, check_completion), gateway.complete, max_body)


def _posted(
    read: Callable[[bytes], R],
    serve: Callable[[Call, R, bytes, Reply], Awaitable[None]],
    max_body: int,
) -> Handler:
    async def handle(exchange: Exchange) -> None:
        body = exchange.body_now(max_body)
        if body is None:
            body = await exchange.body(max_body)
        request = read(body)
        with Departure(exchange):
            call = exchange.call
            await serve(call, request, body, noted(call.trace, request, body, exchange))

    return handle
