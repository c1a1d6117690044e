"""How a stream of events is described: OpenAPI 3.1 has no words of its own for one.

Its ``schema`` is that of one event here, as tools read it that check streams (3.2 calls it ``itemSchema``).
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def event_stream(words: str, example: str, data: Json | None = None, *, ends: bool = False) -> Json:
    """The content of a response that is a stream.

    ``words`` say what an event's data is, ``data`` is its schema where it is JSON; ``ends``: the last one
    is ``[DONE]``.
    """
    held: Json = {"type": "string", "description": words}
    if data is not None:
        json = {"contentMediaType": "application/json", "contentSchema": data}
        held |= {"anyOf": [json, {"const": "[DONE]"}]} if ends else json
    event = {
        "type": "object",
        "description": "One event; comments may lie between them.",
        "properties": {"data": held},
        "required": ["data"],
    }
    return {"text/event-stream": {"schema": event, "example": example}}
