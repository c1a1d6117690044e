"""Which requests may be answered from the cache, and the name under which an answer is kept. Pure.

The key is a SHA-256 of everything that may change the answer, so nothing of a prompt can be read from it.
What we do not know is taken to matter: a field that is new to us makes a miss, never a wrong hit.

A program that asks again writes the same bytes again, so the bytes are what is compared. To compare the
meaning, a body has to be read and written anew, which cost a tenth of a request (docs/performance.md);
that is done where a body says what the answer does not depend on.
"""

from __future__ import annotations

import hashlib
import json
from operator import attrgetter
from typing import Any, Literal

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict

from inglenook.config.settings import ModelSettings
from inglenook.policy.client import Client
from inglenook.wire.openai import ChatRequest, CompletionRequest

Freshness = Literal["", "no-cache", "no-store"]

IGNORED = frozenset(
    ("user", "safety_identifier", "metadata", "store", "prompt_cache_key", "prompt_cache_retention")
)
"""Fields that say who asks, or what to note down, and by the API's reference never change the answer.

``stream`` and ``stream_options`` are not among them: an answer is kept as the bytes that it was sent as.
"""
UNREPEATABLE = frozenset(("store", "web_search_options", "t_max_predict_ms", "xtc_probability"))
"""Fields that ask for an effect, or make the answer depend on the moment or on chance."""
RANDOM_SEEDS = frozenset((-1, 2**32 - 1))
"""What llama.cpp takes for "choose one yourself"."""
_RUNNING = frozenset(
    """
    tasks aliases parallel threads batch batch_tokens gpu_layers mmap mlock max_queue queue_seconds
    fallbacks ttl_seconds preload start_seconds stop_seconds
    """.split()
)
"""Settings of a model that say how it runs. All others may change what it answers."""
_FORM = b"2"
"""To be changed with anything below that changes keys: no key on disk then fits a new request."""

_asides = attrgetter(*sorted(IGNORED | UNREPEATABLE))
_NONE = (None,) * len(IGNORED | UNREPEATABLE)
_fields = msgspec.json.Decoder(dict[str, Any])
_canonical = msgspec.json.Encoder(order="sorted")


def is_repeatable(request: ChatRequest | CompletionRequest, *, cold: bool) -> bool:
    """Whether the same request again would be given the same answer: temperature 0, or a seed.

    ``cold``: the model's own temperature, for requests that give none, is 0.
    """
    if request.seed is not None and request.seed not in RANDOM_SEEDS:
        return True
    return cold if request.temperature is None else request.temperature == 0


def is_plain(request: ChatRequest | CompletionRequest) -> bool:
    """Whether a request says nothing of which this module has to know more than that it is there."""
    return _asides(request) == _NONE


def freshness(cache_control: bytes) -> Freshness:
    """What a request's ``Cache-Control`` asks of us (RFC 9111, 5.2.1). What is no directive is ignored."""
    said = {part.strip() for part in cache_control.lower().split(b",")}
    if b"no-store" in said:
        return "no-store"
    return "no-cache" if said & {b"no-cache", b"max-age=0"} else ""


def model_identity(model: ModelSettings, files: str = "") -> bytes:
    """What a model of our own is, as far as its answers go. ``files`` changes when its files do."""
    said = asdict(model).items()
    facts = {name: value for name, value in said if name not in _RUNNING and value is not UNSET}
    return _canonical.encode([facts, files])


def upstream_identity(name: str, urls: list[str]) -> bytes:
    """The same for a model called ``name`` at the upstreams with ``urls``."""
    return _canonical.encode([name, sorted(urls)])


def owner(client: Client) -> bytes:
    """Whose an answer is. A key's client is never taken for an address that is called the same."""
    return msgspec.json.encode([client.name, client.configured])


class Key:
    """The keys of all requests on one route, to one model, of one client."""

    __slots__ = ("_begun",)

    def __init__(self, route: bytes, identity: bytes, owner: bytes) -> None:
        # All are JSON in one line, or our own word: no two lists run together to the same bytes.
        self._begun = hashlib.sha256(b"\n".join((_FORM, route, identity, owner, b"")))

    def of(self, body: bytes, *, strict: bool, plain: bool = False) -> bytes | None:
        """The key of a request, or ``None`` for one whose answer must not be kept.

        ``body`` is the client's JSON object. Of a ``plain`` one every byte counts; else the order of names,
        whitespace, nulls and the difference between 0 and 0.0 do not matter. ``strict`` turns away a body
        that then says one name twice: an upstream might read the other value, and so put its answer to one
        prompt in the place of another's.
        """
        said = body if plain else _meaning(body, strict=strict)
        if said is None:
            return None
        hashed = self._begun.copy()
        hashed.update(said)
        return hashed.digest()


def _meaning(body: bytes, *, strict: bool) -> bytes | None:
    try:
        fields = _fields.decode(body)
        if strict:
            json.loads(body, object_pairs_hook=_once)
        if not UNREPEATABLE.isdisjoint(fields) and any(map(fields.get, UNREPEATABLE)):
            return None
        return _canonical.encode(_meant(fields))
    except (ValueError, OverflowError, RecursionError):
        return None


def _meant(fields: dict[str, Any]) -> dict[str, Any]:
    meant = {}
    for name, value in fields.items():
        if value is None or name in IGNORED:
            continue
        if value.__class__ is float and value.is_integer():
            value = int(value)
        meant[name] = value
    if not meant.get("stream", True):
        del meant["stream"]
    return meant


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("a name is there twice")
    return names
