"""The ``model`` of a request's body, put in without touching the rest. Pure."""

from __future__ import annotations

import msgspec

from inglenook.errors import BadRequest

ADDRESSES = ("api_base", "base_url", "api_key")
"""Fields by which proxies let a client choose where its request goes, and with which key."""
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def with_model(body: bytes, model: str) -> bytes:
    """``body``, a JSON object, with another ``model``. Every other value keeps its very bytes."""
    fields = _FIELDS.decode(body)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


def refuse_addresses(body: bytes) -> None:
    """Raise ``BadRequest`` for a body that would tell a proxy behind us whom to call.

    We ourselves never look at such fields; but a proxy that does would send its operator's key there
    (CVE-2024-6587).
    """
    # The words are nearly never there, and to look for them costs less than to read the fields.
    if b'"api_' not in body and b'"base_url"' not in body:
        return
    fields = _FIELDS.decode(body)
    for name in ADDRESSES:
        if name in fields:
            raise BadRequest(f"{name} cannot be set by a request. Leave it out.", param=name)
