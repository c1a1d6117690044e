"""The ``model`` of a request's body, put in without touching the rest. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct

from inglenook.errors import BadRequest


class Addresses(Struct):
    """Fields by which proxies let a client choose where its request goes, and with which key."""

    api_base: Any = UNSET
    base_url: Any = UNSET
    api_key: Any = UNSET


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ADDRESSES = msgspec.json.Decoder(Addresses)


def with_model(body: bytes, model: str) -> bytes:
    """``body``, a JSON object, with another ``model``. Every other value keeps its very bytes."""
    fields = _FIELDS.decode(body)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


def refuse_addresses(said: Addresses | bytes) -> None:
    """Raise ``BadRequest`` for a request that would tell a proxy behind us whom to call.

    We ourselves never look at such fields; but a proxy that does would send its operator's key there
    (CVE-2024-6587). ``said``: the body, or what was decoded from it.
    """
    if isinstance(said, bytes):
        said = _ADDRESSES.decode(said)
    if said.api_base is UNSET and said.base_url is UNSET and said.api_key is UNSET:
        return
    name = next(name for name in Addresses.__struct_fields__ if getattr(said, name) is not UNSET)
    raise BadRequest(f"{name} cannot be set by a request. Leave it out.", param=name)
