"""POST /llm: a raw prompt in, its completion out. The same in every dialect.

Where the settings name a program and a GGUF file, that program is run once for each request; else the
default model answers: the first that chats, of those that the client may use. Contract: ``wire.awa``.
"""

from __future__ import annotations

from pathlib import PurePath

from inglenook.config.settings import ApiSettings, Settings
from inglenook.engines.llamacpp_cli import LlamaCppCli, OncePrompt
from inglenook.errors import InglenookError, ShuttingDown, Unavailable
from inglenook.gateway.gateway import Gateway
from inglenook.gateway.noting import noted
from inglenook.gateway.once import Once
from inglenook.gateway.retelling import Kept
from inglenook.http.edge import Routes
from inglenook.http.exchange import Departure, ErrorAnswer, Exchange, Present
from inglenook.policy.catalog import Entry
from inglenook.policy.client import Client
from inglenook.telemetry.call import Call
from inglenook.wire import awa as wire
from inglenook.wire.awa import LlmRequest

LLM = "/llm"


def once(api: ApiSettings, python: str) -> Once | None:
    """The program that answers ``/llm``, if the settings name one."""
    if not api.llm_binary:
        return None
    engine = LlamaCppCli(python, api.llm_binary, api.llm_gguf)
    return Once(engine, PurePath(api.llm_gguf).stem or "llm", api.llm_parallel, api.llm_timeout_seconds)


def routes(settings: Settings, gateway: Gateway, program: Once | None) -> Routes:
    """The one route."""
    max_body = int(settings.server.max_body_mb * 2**20)

    async def handle(exchange: Exchange) -> None:
        body = await exchange.body(max_body)
        asked = wire.read_llm(body)
        if gateway.draining:
            raise ShuttingDown("The server is shutting down.")
        with Departure(exchange):
            if program is None:
                await exchange.whole(wire.completed(await _asked(gateway, exchange.call, asked)))
            else:
                prompt = OncePrompt(asked.prompt, asked.max_tokens, asked.temperature)
                reply = noted(exchange.call.trace, prompt, body, exchange)
                await reply.whole(wire.completed(await program.complete(exchange.call, prompt)))

    return {LLM: {"POST": handle}}


async def _asked(gateway: Gateway, call: Call, asked: LlmRequest) -> str:
    """What the default model makes of it. Never from the cache: who asks twice wants two answers."""
    entry = default_model(gateway, call.client)
    if entry is None:
        raise Unavailable("This server has no model that completes a prompt. Add one to its settings.")
    request, body = wire.as_completion(asked, entry.id)
    if not request.max_tokens:
        return ""
    kept = Kept()
    await gateway.complete(call, request, body, noted(call.trace, request, body, kept))
    return wire.text_of(kept.body)


def default_model(gateway: Gateway, client: Client) -> Entry | None:
    """The first model that chats, of those that the client may use, else of all."""
    chat = [entry for entry in gateway.catalog.entries if entry.listed and gateway.chats(entry.id)]
    usable = [entry for entry in chat if client.may_use(entry.id, entry.aliases)]
    return next(iter(usable or chat), None)


def presenting(otherwise: Present) -> Present:
    """How errors look: ``{"detail": ...}`` on ``/llm``, as ``otherwise`` has it on all other paths."""

    def present(error: InglenookError, call: Call) -> ErrorAnswer:
        return ErrorAnswer(*wire.llm_refused(error)) if call.route == LLM else otherwise(error, call)

    return present
