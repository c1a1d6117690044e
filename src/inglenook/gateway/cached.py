"""The gateway with a memory: the same request of the same client is given the same answer, without a turn.

Answers are kept only when they were complete. Requests that come while the same is under way join it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from inglenook.config.settings import CacheSettings, Settings
from inglenook.errors import ShuttingDown
from inglenook.gateway.embed import Embeddings
from inglenook.gateway.flight import Flight, Listener, Room
from inglenook.gateway.gateway import Gateway
from inglenook.gateway.reply import Reply, send
from inglenook.policy.cache_key import (
    Key,
    is_plain,
    is_repeatable,
    model_identity,
    owner,
    upstream_identity,
)
from inglenook.policy.client import NOBODY
from inglenook.runtime.lane import Route
from inglenook.store.answer_file import AnswerFile
from inglenook.store.answers import Answer, Answers
from inglenook.store.file_stamps import stamps
from inglenook.telemetry.call import Call
from inglenook.wire import sse
from inglenook.wire.embeddings import EmbeddingRequest, Inputs
from inglenook.wire.openai import ChatRequest, CompletionRequest, read_tail
from inglenook.wire.rerank import Reranking

G = TypeVar("G", ChatRequest, CompletionRequest)
Ask = Callable[[Route, Call, G, bytes, Reply], Awaitable[None]]
"""Has a generation's request answered, by the gateway behind the cache."""
Work = Callable[[Reply], Awaitable[None]]
"""Makes the answer and gives it to the reply."""
Check = Callable[[bytes, bool], bool]
"""Whether an answer, or all events of a stream (then ``True``), is complete and good."""

LOAD_SECONDS = 5.0
"""How long a start waits for the answers on disk. They are used whenever they come."""
_FINISH = b'"finish_reason"'  # with bare quotes: within a text they would be escaped
LARGEST_ERROR = 1 << 16
MOST_BEGUN = 4096
"""Beginnings of keys that are remembered."""
# RFC 9111: what lies between us and the client must not keep what is one client's.
_ALWAYS = [b"cache-control: no-store", b"vary: authorization"]
_HIT = [b"x-inglenook-cache: hit", *_ALWAYS]
_MISS = [b"x-inglenook-cache: miss", *_ALWAYS]
_JOINED = [b"x-inglenook-cache: joined", *_ALWAYS]


class Cache:
    """Answers kept, and requests under way. Used from one event loop only."""

    def __init__(self, settings: CacheSettings) -> None:
        self.answers = Answers(settings)
        self.file = AnswerFile(settings) if settings.directory else None
        self._room = Room(int(settings.max_mb * 2**20))
        self._flights: dict[bytes, Flight] = {}

    @property
    def under_way(self) -> int:
        """Requests that others could join, or could if they were not too large or too slow."""
        return len(self._flights)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What was kept on disk is there inside this block."""
        if self.file is None:
            yield
            return
        try:
            loaded = asyncio.wrap_future(self.file.start())
            loaded.add_done_callback(lambda done: self.answers.adopt(done.result(), time.monotonic()))
            await asyncio.wait((loaded,), timeout=LOAD_SECONDS)
            yield
        finally:
            self.file.close()

    def find(self, call: Call, key: bytes) -> Answer | Flight | None:
        """What there is for a request already: an answer, or one under way that may be joined."""
        if call.freshness == "no-cache":
            return None
        answer = self.answers.get(key, time.monotonic())
        if answer is not None:
            return answer
        flight = self._flights.get(key)
        return flight if flight is not None and flight.is_open else None

    def give(self, call: Call, found: Answer | Flight, reply: Reply) -> Awaitable[None]:
        """Answer ``call`` by what was found. Raises what the work of a joined one raises: a failure is that
        of all who waited. It has been through all retries, and each of them trying once more would turn one
        failure into many.
        """
        return _join(found, call, reply) if isinstance(found, Flight) else _replay(call, found, reply)

    def open(self, call: Call, key: bytes, reply: Reply) -> Flight:
        """What others may join from now on. ``fill`` has to follow at once."""
        call.cache = "miss"
        call.headers += _MISS
        flight = self._flights[key] = Flight(call, reply, self._room, self.answers.largest)
        call.departed = flight.departed
        return flight

    async def fill(self, flight: Flight, key: bytes, work: Awaitable[None], check: Check) -> None:
        """Do the work, whose reply is the ``flight``; keep an answer that passes the ``check``."""
        call = flight.call
        try:
            await work
            self._keep(key, flight, check)
            flight.land()
        except asyncio.CancelledError:
            flight.land(ShuttingDown("The server is shutting down."))
            flight.abandon()
            raise
        except Exception as failure:
            flight.land(failure)  # and ``rest`` raises it here too
        finally:
            call.departed = None
            if self._flights.get(key) is flight:
                del self._flights[key]
        await flight.rest()

    def _keep(self, key: bytes, flight: Flight, check: Check) -> None:
        call, answer = flight.call, flight.answer
        # Another model's answer is a makeshift, and not what was asked for.
        if call.instead_of or (answer is None and not flight.recorded):
            return
        body, content_type = answer or (b"".join(flight.runs), call.stream_type)
        if not check(body, answer is None):
            return
        made = Answer(body, content_type, answer is None, call.usage, time.monotonic())
        if self.answers.put(key, made) and self.file is not None:
            self.file.put(key, made)


class CachedGateway:
    """Stands before ``Gateway``, for the two routes that generate."""

    def __init__(self, gateway: Gateway, cache: Cache, settings: Settings, keys: Keys) -> None:
        self._gateway, self._cache, self._keys = gateway, cache, keys
        self._sampled = settings.cache.sampled
        self._cold = frozenset(model.id for model in settings.models if model.defaults.temperature == 0)

    def chat(self, call: Call, request: ChatRequest, body: bytes, reply: Reply) -> Awaitable[None]:
        """``POST /v1/chat/completions``, as ``Gateway.chat`` has it."""
        return self._answered(b"chat", self._gateway.chat_on, call, request, body, reply)

    def complete(self, call: Call, request: CompletionRequest, body: bytes, reply: Reply) -> Awaitable[None]:
        """``POST /v1/completions``, as ``Gateway.complete`` has it."""
        return self._answered(b"completions", self._gateway.complete_on, call, request, body, reply)

    def _answered(
        self, api: bytes, ask: Ask[G], call: Call, request: G, body: bytes, reply: Reply
    ) -> Awaitable[None]:
        route = self._gateway.route(call, request.model, "chat")
        key = None
        if self._sampled or is_repeatable(request, cold=call.model in self._cold):
            call.stream = bool(request.stream)
            key = self._keys.of(api, call, body, plain=is_plain(request))
        if key is None:
            return ask(route, call, request, body, reply)
        found = self._cache.find(call, key)
        if found is not None:
            return self._cache.give(call, found, reply)
        flight = self._cache.open(call, key, reply)
        return self._cache.fill(flight, key, ask(route, call, request, body, flight), is_finished)


class CachedEmbeddings:
    """Stands before ``Embeddings``: the same texts have the same vectors and scores."""

    def __init__(self, embeddings: Embeddings, gateway: Gateway, cache: Cache, keys: Keys) -> None:
        self._embeddings, self._gateway, self._cache, self._keys = embeddings, gateway, cache, keys

    async def embed(
        self, call: Call, request: EmbeddingRequest, inputs: Inputs, body: bytes, reply: Reply
    ) -> None:
        """``POST /v1/embeddings``, as ``Embeddings.embed`` has it."""
        key = self._key(b"embeddings", call, request.model, body)
        if key is not None and (found := self._cache.find(call, key)) is not None:
            self._gateway.route(call, request.model, "embed")
            await self._cache.give(call, found, reply)
        else:
            await self._fill(call, key, reply, partial(self._embeddings.embed, call, request, inputs, body))

    async def rerank(self, call: Call, asked: Reranking, path: str, body: bytes, reply: Reply) -> None:
        """``POST /v1/rerank``, ``/v2/rerank`` and ``/rerank``, as ``Embeddings.rerank`` has it."""
        name = asked.request.model or self._embeddings.reranker()
        key = self._key(path.encode(), call, name, body)
        if key is not None and (found := self._cache.find(call, key)) is not None:
            self._gateway.route(call, name, "rerank", "embed")
            await self._cache.give(call, found, reply)
        else:
            await self._fill(call, key, reply, partial(self._embeddings.rerank, call, asked, path, body))

    def _key(self, route: bytes, call: Call, name: str, body: bytes) -> bytes | None:
        call.model = self._gateway.catalog.resolve(name).id
        return self._keys.of(route, call, body)

    async def _fill(self, call: Call, key: bytes | None, reply: Reply, work: Work) -> None:
        if key is None:
            await work(reply)
        else:
            flight = self._cache.open(call, key, reply)
            await self._cache.fill(flight, key, work(flight), is_good)


class Keys:
    """The keys of requests to the models that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._shared = settings.cache.shared
        self._identities = _identities(settings)
        self._begun: dict[tuple[bytes, str, str, bool], Key] = {}
        """By route, model and client: what many requests have in common."""

    def of(self, route: bytes, call: Call, body: bytes, *, plain: bool = False) -> bytes | None:
        """The key of a request whose model is known; ``None`` where its answer is not to be kept."""
        if call.freshness == "no-store":
            return None
        client = NOBODY if self._shared else call.client
        common = (route, call.model, client.name, client.configured)
        begun = self._begun.get(common)
        if begun is None:
            identity = self._identities.get(call.model)
            if identity is None:
                return None
            if len(self._begun) >= MOST_BEGUN:
                self._begun.clear()
            begun = self._begun[common] = Key(route, identity, owner(client))
        return begun.of(body, strict=self._shared, plain=plain)


def _identities(settings: Settings) -> Mapping[str, bytes]:
    urls: dict[str, list[str]] = {}
    for upstream in settings.upstreams:
        for name in upstream.models:
            urls.setdefault(name, []).append(upstream.url)
    remote = {name: upstream_identity(name, where) for name, where in urls.items()}
    return remote | {model.id: model_identity(model, stamps(model)) for model in settings.models}


async def _replay(call: Call, answer: Answer, reply: Reply) -> None:
    call.cache, call.usage = "hit", answer.usage
    call.headers += _HIT
    call.answered, call.first_at = True, time.monotonic()
    if answer.is_stream:
        call.stream_type = answer.content_type
        await send(reply, answer.body)
        await reply.end()
    else:
        await reply.whole(answer.body, answer.content_type)


async def _join(flight: Flight, call: Call, reply: Reply) -> None:
    call.cache = "joined"
    call.headers += _JOINED
    listener = Listener(flight, call, reply)
    flight.board(listener)
    try:
        await listener.listen()
    finally:
        flight.leave(listener)
        call.usage, call.upstream = flight.call.usage, flight.call.upstream


def is_finished(body: bytes, is_stream: bool) -> bool:
    """The last choice that speaks of its end has come to it, and a stream to its own."""
    if is_stream and b"[DONE]" not in body[-len(sse.DONE) - 4 :]:
        return False
    at = body.rfind(_FINISH)
    after = at + len(_FINISH)
    return at >= 0 and body[after : after + 8].lstrip(b": \t\r\n").startswith(b'"')


def is_good(body: bytes, is_stream: bool) -> bool:
    """An upstream may say with status 200 that something went wrong."""
    if len(body) > LARGEST_ERROR:
        return True
    tail = read_tail(body)
    return tail is None or tail.error is None
