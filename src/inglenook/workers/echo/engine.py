"""The engine as its clients see it: routes, the state of loading, and what is counted."""

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable

from inglenook.workers.echo.asking import (
    Ask,
    Json,
    Refusal,
    read_chat,
    read_inputs,
    read_native,
    read_object,
    read_text,
    render_chat,
)
from inglenook.workers.echo.connection import Reply, Request
from inglenook.workers.echo.embedding import embeddings_body
from inglenook.workers.echo.faults import Faults, Spoiled
from inglenook.workers.echo.flags import Settings
from inglenook.workers.echo.generation import Generation, Means
from inglenook.workers.echo.outlet import Outlet
from inglenook.workers.echo.shapes import Label, shape_for
from inglenook.workers.echo.slots import Slots
from inglenook.workers.echo.speech import Chain, Echo
from inglenook.workers.echo.tokens import Tokenizer, UnknownToken, piece_bytes

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Route = Callable[[Request, Reply], Awaitable[None]]
Reader = Callable[[Json, Tokenizer, int], Ask]


class LoadFailed(Exception):
    """Loading failed, as a flag asked for."""


class Engine:
    """Answers requests; every refusal becomes an answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tokenizer = Tokenizer(split_characters=settings.split_characters)
        chain = Chain(self._tokenizer, length=settings.tokens)
        speaker = chain if settings.chain else Echo(self._tokenizer)
        self._means = Means(settings, speaker, time.monotonic)
        self._slots = Slots(settings.slots)
        self._ready = False
        self._served = 0
        self._cancelled = 0
        self._tokens = 0
        self._routes = self._all_routes()

    async def load(self) -> None:
        """Become ready; raise `LoadFailed`, or never return, if the flags say so."""
        await asyncio.sleep(self._settings.load_seconds)
        if self._settings.fail_load:
            raise LoadFailed
        if self._settings.hang_load:
            await asyncio.Event().wait()
        self._ready = True

    async def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request."""
        try:
            await self._route(request)(request, reply)
        except Spoiled:
            pass  # The garbage was the answer.
        except Refusal as refusal:
            await reply.json(refusal.code, refusal.body)

    def _route(self, request: Request) -> Route:
        if not self._ready:
            raise Refusal(503, "Loading model", "unavailable_error")
        route = self._routes.get((request.method, request.path))
        if route is None:
            raise Refusal(404, "File Not Found", "not_found_error")
        return route

    def _all_routes(self) -> dict[tuple[str, str], Route]:
        chat, text, native = map(self._answering, (read_chat, read_text, read_native))
        return {
            ("GET", "/health"): self._health,
            ("GET", "/v1/health"): self._health,
            ("GET", "/props"): self._props,
            ("GET", "/slots"): self._show_slots,
            ("GET", "/echo"): self._counts,
            ("GET", "/models"): self._models,
            ("GET", "/v1/models"): self._models,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/detokenize"): self._detokenize,
            ("POST", "/apply-template"): self._apply_template,
            ("POST", "/completion"): native,
            ("POST", "/completions"): native,
            ("POST", "/v1/completions"): text,
            ("POST", "/chat/completions"): chat,
            ("POST", "/v1/chat/completions"): chat,
            ("POST", "/embeddings"): self._embeddings,
            ("POST", "/v1/embeddings"): self._embeddings,
        }

    async def _health(self, request: Request, reply: Reply) -> None:
        await reply.json(200, {"status": "ok"})

    async def _props(self, request: Request, reply: Reply) -> None:
        props = {
            "default_generation_settings": {"n_ctx": self._settings.context},
            "total_slots": self._settings.slots,
            "model_alias": self._settings.model,
            "model_path": self._settings.model,
            "modalities": {"vision": False, "audio": False},
            "chat_template": TEMPLATE,
            "build_info": "echo",
        }
        await reply.json(200, props)

    async def _models(self, request: Request, reply: Reply) -> None:
        meta = {"n_ctx": self._settings.context, "n_embd": self._settings.dimension}
        model = {"id": self._settings.model, "object": "model", "created": int(time.time())}
        await reply.json(200, {"object": "list", "data": [model | {"owned_by": "inglenook", "meta": meta}]})

    async def _show_slots(self, request: Request, reply: Reply) -> None:
        shown = [
            {
                "id": slot.id,
                "n_ctx": self._settings.context,
                "is_processing": slot.is_processing,
                "cancelled": slot.cancelled,
            }
            for slot in self._slots.all
        ]
        await reply.json(200, shown)

    async def _counts(self, request: Request, reply: Reply) -> None:
        counts = {
            "pid": os.getpid(),
            "served": self._served,
            "cancelled": self._cancelled,
            "waiting": self._slots.waiting,
            "processing": sum(slot.is_processing for slot in self._slots.all),
            "tokens": self._tokens,
        }
        await reply.json(200, counts)

    async def _tokenize(self, request: Request, reply: Reply) -> None:
        body = read_object(request.body)
        ids = self._tokenizer.encode(str(body.get("content", "")))
        if not body.get("with_pieces"):
            await reply.json(200, {"tokens": ids})
            return
        await reply.json(200, {"tokens": [{"id": number, "piece": _shown_piece(number)} for number in ids]})

    async def _detokenize(self, request: Request, reply: Reply) -> None:
        ids = read_object(request.body).get("tokens", [])
        try:
            content = self._tokenizer.decode(ids).decode(errors="replace")
        except (UnknownToken, TypeError) as wrong:
            raise Refusal(400, "'tokens' must be an array of token ids") from wrong
        await reply.json(200, {"content": content})

    async def _apply_template(self, request: Request, reply: Reply) -> None:
        await reply.json(200, {"prompt": render_chat(read_object(request.body))[0]})

    async def _embeddings(self, request: Request, reply: Reply) -> None:
        body = read_object(request.body)
        inputs = read_inputs(body, self._tokenizer)
        outlet = Outlet(reply, streams=False, ping_seconds=0)
        faults = Faults(self._settings, outlet)
        answer = embeddings_body(
            self._settings.model,
            inputs,
            dimension=self._settings.dimension,
            packed=body.get("encoding_format") == "base64",
        )
        slots = await self._slots.take(1)
        try:
            await outlet.quiet(self._settings.first_token_seconds)
            await faults.strike(0, b"")
            await faults.send_whole(answer)
        finally:
            self._slots.give_back(slots)

    def _answering(self, read: Reader) -> Route:
        async def answer(request: Request, reply: Reply) -> None:
            await self._answer(read(read_object(request.body), self._tokenizer, self._settings.slots), reply)

        return answer

    async def _answer(self, ask: Ask, reply: Reply) -> None:
        slots = []
        generation = None
        try:
            slots = await self._slots.take(len(ask.prompts))
            self._refuse_long_prompts(ask)
            label = Label(f"chatcmpl-{secrets.token_hex(16)}", int(time.time()), self._settings.model)
            outlet = Outlet(reply, streams=ask.stream, ping_seconds=self._settings.ping_seconds)
            shape = shape_for(ask, label)
            generation = Generation(self._means, ask, slots, shape=shape, outlet=outlet)
            await generation.run()
            self._served += 1
        except asyncio.CancelledError:
            self._cancelled += 1
            for slot in slots:
                slot.cancelled += 1
            raise
        finally:
            self._tokens += generation.sent if generation else 0
            self._slots.give_back(slots)

    def _refuse_long_prompts(self, ask: Ask) -> None:
        context = self._settings.context
        for count in map(len, ask.prompts):
            if count >= context:
                raise Refusal(
                    400,
                    f"request ({count} tokens) exceeds the available context size "
                    f"({context} tokens), try increasing it",
                    "exceed_context_size_error",
                    n_prompt_tokens=count,
                    n_ctx=context,
                )


def _shown_piece(number: int) -> str | list[int]:
    """Return the text of an id, or its bytes where they are no text, as `/tokenize` shows them."""
    piece = piece_bytes(number)
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
