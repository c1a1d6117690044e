"""What is below ``/api``: GET llms, POST generate, chat, and both as streams. The same in every dialect.

Contract: ``wire.inference``. Whoever comes while ``api.max_concurrent_requests`` are being answered is sent
away at once; a stream is being answered until its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from inglenook.config.settings import ApiSettings, Settings
from inglenook.errors import AtCapacity, EngineStartFailed, Forbidden, InglenookError, ModelNotFound
from inglenook.gateway.demand import Demand
from inglenook.gateway.gateway import Gateway
from inglenook.gateway.noting import noted
from inglenook.gateway.reply import Reply
from inglenook.gateway.retelling import Kept, Retold
from inglenook.http.edge import Handler, Routes
from inglenook.http.exchange import Departure, ErrorAnswer, Exchange, Present
from inglenook.policy.client import Client
from inglenook.telemetry.call import Call
from inglenook.wire import inference as wire
from inglenook.wire.inference import Asked, Bounds
from inglenook.wire.inference_models import listed

ALL = "*"
GENERATE, GENERATE_STREAM = "/api/generate", "/api/generate/stream"
CHAT, CHAT_STREAM = "/api/chat", "/api/chat/stream"
LLMS = "/api/llms"
PATHS = frozenset({GENERATE, GENERATE_STREAM, CHAT, CHAT_STREAM, LLMS})
RETRY_SECONDS = 10
COMPRESS_ABOVE = 64
"""Bytes of an answer. What asks here asks for few answers, and gzip's own header costs 20."""

Read = Callable[[bytes, bytes], Asked]
Write = Callable[[str], bytes]


def routes(settings: Settings, gateway: Gateway, demand: Demand) -> Routes:
    """All of them. ``demand`` puts up models that nobody configured, where the settings allow all."""
    max_body = min(wire.MAX_BODY, int(settings.server.max_body_mb * 2**20))
    native = _Native(settings.api, gateway, demand, max_body)
    return {
        LLMS: {"GET": native.llms},
        GENERATE: {"POST": native.whole(wire.read_generate)},
        GENERATE_STREAM: {"POST": native.stream(wire.read_generate, wire.text_event)},
        CHAT: {"POST": native.whole(wire.read_chat)},
        CHAT_STREAM: {"POST": native.stream(wire.read_chat, wire.content_event)},
    }


def presenting(otherwise: Present) -> Present:
    """How errors look: in the API's own words on its paths, as ``otherwise`` has it on all others."""

    def present(error: InglenookError, call: Call) -> ErrorAnswer:
        return as_api_error(error, call) if call.route in PATHS else otherwise(error, call)

    return present


def as_api_error(error: InglenookError, call: Call) -> ErrorAnswer:
    """``{"error": text, "code": CODE}``."""
    return ErrorAnswer(*wire.refused(error, begun=call.status == 200))


class _Native:
    """The handlers, and how many requests they are answering."""

    def __init__(self, api: ApiSettings, gateway: Gateway, demand: Demand, max_body: int) -> None:
        self._gateway, self._demand, self._max_body = gateway, demand, max_body
        self._allowed = frozenset(api.allowed_models)
        self._listed = tuple(name for name in api.allowed_models if name != ALL)
        self._bounds = Bounds(
            api.default_temperature, api.default_top_p, api.default_max_tokens, api.max_tokens_limit
        )
        self._most = api.max_concurrent_requests
        self._running = 0

    async def llms(self, exchange: Exchange) -> None:
        exchange.compress_above = COMPRESS_ABOVE
        names = [name for name in self._names() if self._may_use(exchange.call.client, name)]
        await exchange.json(listed(names, everything=ALL in self._allowed))

    def whole(self, read: Read) -> Handler:
        async def answer(exchange: Exchange, asked: Asked, model: str) -> None:
            if not wire.most_tokens(asked, self._bounds):
                await exchange.whole(wire.answer(asked, "", 0, "length"))
                return
            kept = Kept()
            await self._ask(exchange, asked, model, kept)
            usage = exchange.call.usage
            tokens = usage.completion_tokens if usage is not None else 0
            await exchange.whole(wire.whole_answer(asked, kept.body, tokens))

        return self._handler(read, answer)

    def stream(self, read: Read, write: Write) -> Handler:
        def retell(run: bytes) -> bytes:
            return b"".join(map(write, wire.texts(run)))

        async def answer(exchange: Exchange, asked: Asked, model: str) -> None:
            exchange.call.stream, exchange.call.stream_type = True, wire.STREAM
            retold = Retold(exchange, retell)
            if wire.most_tokens(asked, self._bounds):
                await self._ask(exchange, asked, model, retold)
            else:
                await retold.end()

        return self._handler(read, answer)

    def _handler(self, read: Read, answer: Callable[[Exchange, Asked, str], Awaitable[None]]) -> Handler:
        async def handle(exchange: Exchange) -> None:
            exchange.compress_above = COMPRESS_ABOVE
            self._check_capacity()
            body = await exchange.body(self._max_body)
            # Only now: who is slow to send takes nobody's place.
            self._check_capacity()
            self._running += 1
            try:
                asked = read(body, exchange.headers.get(b"content-type", b""))
                with Departure(exchange):
                    model = await self._find(exchange.call, asked.model)
                    await answer(exchange, asked, model)
            finally:
                self._running -= 1

        return handle

    def _check_capacity(self) -> None:
        if self._running >= self._most:
            raise AtCapacity("Too many requests below /api at once.", retry_after=RETRY_SECONDS)

    async def _ask(self, exchange: Exchange, asked: Asked, model: str, reply: Reply) -> None:
        call = exchange.call
        request, body = wire.prepared(asked, model, self._bounds, stream=call.stream)
        await self._gateway.chat(call, request, body, noted(call.trace, request, body, reply))

    # Which models there are.

    def _names(self) -> list[str]:
        """The models that may be asked for, as far as they have names already."""
        entries = [entry for entry in self._gateway.catalog.entries if entry.listed]
        chatting = [entry.id for entry in entries if self._gateway.chats(entry.id)]
        return [*self._listed, *chatting] if ALL in self._allowed else list(self._listed) or chatting

    def _may_use(self, client: Client, name: str) -> bool:
        entry = self._gateway.catalog.find(name)
        return client.may_use(name, entry.aliases if entry is not None else ())

    async def _find(self, call: Call, name: str) -> str:
        """The name by which the gateway has the model.

        Raises ``ModelNotFound`` for a model that is not allowed, ``EngineStartFailed`` for one not had."""
        if self._allowed and ALL not in self._allowed and name not in self._allowed:
            raise _unsupported(name)
        entry = self._gateway.catalog.find(name)
        if entry is not None and self._gateway.chats(entry.id):
            return entry.id
        if entry is None and ALL in self._allowed:
            if not self._may_use(call.client, name):
                raise Forbidden("Your API key is not for this model.")
            return await self._demand.put_up(name)
        if entry is None and name in self._allowed:
            raise EngineStartFailed("The settings allow this model, but have none of this name.")
        raise _unsupported(name)


def _unsupported(name: str) -> ModelNotFound:
    return ModelNotFound(f"Model {name[:200]} is not in the allowed models list", param="model")
