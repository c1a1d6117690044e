"""``POST /v1/models/load`` and ``/v1/models/unload``: which model is meant, and what became of it. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from inglenook.wire.check import decoded


class LoadRequest(Struct, kw_only=True):
    """The body of both. Named as in every other request, so that a key's models hold here too."""

    model: str


class LoadedModel(Struct, kw_only=True):
    """What became of the model."""

    model: Annotated[str, Meta(description="The model's id, also where an alias was sent.")]
    state: Annotated[
        Literal["ready", "stopped"],
        Meta(description="`ready` once it is loaded, `stopped` once all its memory is free."),
    ]
    seconds: Annotated[float, Meta(description="How long that took.")]


_REQUEST = msgspec.json.Decoder(LoadRequest)


def read_load(body: bytes) -> LoadRequest:
    """The request. Raises ``BadRequest`` naming the field to mend."""
    return decoded(_REQUEST, body)
