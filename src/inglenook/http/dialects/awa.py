"""AWA's LLM microservice: its health, FastAPI's words for errors, and one model behind every name.

``POST /llm`` is everybody's: ``routes.llm``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from inglenook.errors import InglenookError
from inglenook.gateway.noting import noted
from inglenook.gateway.reply import Reply
from inglenook.http.dialects.base import Core, Surface
from inglenook.http.edge import Handler, Routes
from inglenook.http.exchange import Departure, ErrorAnswer, Exchange
from inglenook.http.routes.llm import default_model
from inglenook.telemetry.call import Call
from inglenook.wire import awa as wire
from inglenook.wire.check import R, check_chat, check_completion, reader
from inglenook.wire.model_name import with_model
from inglenook.wire.openai import ChatRequest, CompletionRequest

READY = "/ready"


class AwaSurface(Surface):
    """One model, whatever a client calls it: its own client says ``gpt-4o-mini``."""

    opened = (READY,)

    def routes(self, plain: Routes, core: Core) -> Routes:
        chat = self._asking(core, reader(ChatRequest, check_chat), core.talk.chat)
        completions = self._asking(core, reader(CompletionRequest, check_completion), core.talk.complete)
        return {
            **plain,
            "/health": {"GET": _health},
            READY: {"GET": self._ready(core, plain["/health/ready"]["GET"])},
            "/v1/chat/completions": {"POST": chat},
            "/chat/completions": {"POST": chat},
            "/v1/completions": {"POST": completions},
            "/completions": {"POST": completions},
        }

    def present(self, error: InglenookError, call: Call) -> ErrorAnswer:
        return ErrorAnswer(*wire.refused(error))

    def _ready(self, core: Core, plain: Handler) -> Handler:
        """Whether ``/llm`` can answer: by its program if it has one, else by the model."""

        async def handle(exchange: Exchange) -> None:
            if core.once is None:
                await plain(exchange)
                return
            is_ready = core.once.is_there() and not core.gateway.draining
            answer = {"status": "ok" if is_ready else "not_ready", "llm_models_loaded": is_ready}
            await exchange.json(answer, 200 if is_ready else 503)

        return handle

    def _asking(
        self,
        core: Core,
        read: Callable[[bytes], R],
        serve: Callable[[Call, R, bytes, Reply], Awaitable[None]],
    ) -> Handler:
        max_body = int(self.settings.server.max_body_mb * 2**20)

        async def handle(exchange: Exchange) -> None:
            call = exchange.call
            body = await exchange.body(max_body)
            request = read(body)
            if core.gateway.catalog.find(request.model) is None:
                entry = default_model(core.gateway, call.client)
                if entry is not None:
                    request, body = replace(request, model=entry.id), with_model(body, entry.id)
            with Departure(exchange):
                await serve(call, request, body, noted(call.trace, request, body, exchange))

        return handle


async def _health(exchange: Exchange) -> None:
    await exchange.json({"status": "ok"})
