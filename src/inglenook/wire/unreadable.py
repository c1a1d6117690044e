"""Why a body could not be read as JSON, and in which field. Pure; only asked once reading has failed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from inglenook.errors import BadRequest

LOOKED_AT = 1 << 20
"""Bytes in which the field is sought that is nested too deeply: nobody waits longer for a better error."""

# How half of a pair begins of escapes that only together mean a character, or the same as bytes. Sought one
# by one: a pattern for all of them takes 50 to 80 ms for 10 MB, which is longer than everything else here.
_MAYBE_LONE = (rb"\ud", rb"\uD", b"\xed")
_PLAIN = re.compile(r"[A-Za-z0-9_.\[\]]{1,120}")
_DEEP = re.compile(rb'"([A-Za-z_]{1,60})"\s*:\s*(?:[\[{]\s*){32}')
_DEEP_OBJECTS = re.compile(rb'"([A-Za-z_]{1,60})"\s*:\s*\{\s*"([^"\\]{0,60})"\s*:\s*\{\s*"\2"\s*:\s*\{')


def unreadable(body: bytes, problem: Exception) -> BadRequest:
    """The error for a ``body`` that raised ``problem`` when it was decoded."""
    if isinstance(problem, RecursionError):
        found = _DEEP.search(body, 0, LOOKED_AT) or _DEEP_OBJECTS.search(body, 0, LOOKED_AT)
        name = found[1].decode() if found else None
        return BadRequest(f"{name or 'The body'} is nested too deeply", param=name, code="invalid_json")
    where = _first_lone(body) if any(each in body for each in _MAYBE_LONE) else None
    if where and _PLAIN.fullmatch(where):
        return BadRequest(
            f"{where} holds half of a surrogate pair, which is no text. Send whole characters.",
            param=where,
            code="invalid_json",
        )
    return BadRequest(
        "The body is not valid JSON. Send one JSON object, encoded as UTF-8.", code="invalid_json"
    )


def _first_lone(body: bytes) -> str | None:
    """Where the first text stands that cannot be written as UTF-8."""
    try:
        document = json.loads(body)  # takes what other decoders refuse
    except (ValueError, RecursionError):
        return None
    fields = document.items() if isinstance(document, dict) else ()
    return next((where for name, value in fields for where in _lone(name, value)), None)


def _lone(where: str, value: Any) -> Iterator[str]:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            yield where
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _lone(f"{where}[{at}]", item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _lone(f"{where}.{name}", item)
