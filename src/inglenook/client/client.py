"""A server's calls that OpenAI's client has none for, typed; sync and async.

Chat, completions, plain embeddings and the list of models are OpenAI's own client's: it works as it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import TypeVar

import msgspec

from inglenook.client import calls
from inglenook.client.answers import Embeddings, Health, LoadedModel, Ranking
from inglenook.client.calls import Call, Kind
from inglenook.client.exchange import Asked, bearer, fetch, fetch_async, opened, opened_async

T = TypeVar("T")

BASE_URL = "http://127.0.0.1:8000"
TIMEOUT_SECONDS = 900.0
"""A model may have to be loaded first, and the server itself gives that up to ten minutes."""


class _Place:
    """Where the server is, and who asks."""

    def __init__(self, base_url: str | None, api_key: str | None) -> None:
        url = base_url or os.environ.get("INGLENOOK_URL") or BASE_URL
        url = url.strip().rstrip("/")
        if "://" not in url:
            url = f"http://{url}"
        # With or without the /v1 that OpenAI's own clients want.
        self.url = url.removesuffix("/v1").rstrip("/")
        key = os.environ.get("INGLENOOK_API_KEY", "") if api_key is None else api_key
        self._headers = bearer(key.strip())

    def asked(self, call: Call[T]) -> Asked:
        body = None if call.body is None else msgspec.json.encode(call.body)
        return Asked(f"{self.url}{call.path}", body, self._headers)


class Client:
    """One server. Keeps its connections until ``close`` or the end of its ``with`` block.

    ``base_url`` is INGLENOOK_URL, else this machine's port 8000; ``api_key`` is INGLENOOK_API_KEY, else none;
    ``timeout`` is the time in seconds that one call may take. Every call raises ``CallFailed``.
    """

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._place, self._seconds = _Place(base_url, api_key), timeout
        self._http = opened(self._place.url)

    def rerank(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        return_documents: bool = True,
        truncate: bool = False,
    ) -> Ranking:
        """The documents, the best first; only ``top_n`` of them if given.

        ``truncate``: what is longer than the model reads is cut, and told, instead of refused.
        """
        return self._do(calls.rerank(model, query, documents, top_n, return_documents, truncate))

    def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        kinds: Sequence[Kind] = ("dense",),
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> Embeddings:
        """The texts as vectors of these kinds. ``sparse`` and ``colbert`` need a model like BGE-M3.

        ``dimensions``: only so many numbers of each dense vector. ``truncate``: as for ``rerank``.
        """
        return self._do(calls.embed(model, texts, kinds, dimensions, truncate))

    def load(self, model: str) -> LoadedModel:
        """Have the model loaded; comes back once it is ready. Only for models that the server runs itself."""
        return self._do(calls.load(model))

    def unload(self, model: str) -> LoadedModel:
        """Have the model's memory freed; comes back once it is, after the answers that it is giving."""
        return self._do(calls.unload(model))

    def health(self) -> Health:
        """How the server is, and the state of each of its models."""
        return self._do(calls.health())

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, call: Call[T]) -> T:
        return call.answer(fetch(self._http, self._place.asked(call), self._seconds))


class AsyncClient:
    """``Client`` for asyncio."""

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._place, self._seconds = _Place(base_url, api_key), timeout
        self._http = opened_async(self._place.url)

    async def rerank(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        return_documents: bool = True,
        truncate: bool = False,
    ) -> Ranking:
        """As ``Client.rerank``."""
        return await self._do(calls.rerank(model, query, documents, top_n, return_documents, truncate))

    async def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        kinds: Sequence[Kind] = ("dense",),
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> Embeddings:
        """As ``Client.embed``."""
        return await self._do(calls.embed(model, texts, kinds, dimensions, truncate))

    async def load(self, model: str) -> LoadedModel:
        """As ``Client.load``."""
        return await self._do(calls.load(model))

    async def unload(self, model: str) -> LoadedModel:
        """As ``Client.unload``."""
        return await self._do(calls.unload(model))

    async def health(self) -> Health:
        """As ``Client.health``."""
        return await self._do(calls.health())

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _do(self, call: Call[T]) -> T:
        return call.answer(await fetch_async(self._http, self._place.asked(call), self._seconds))
