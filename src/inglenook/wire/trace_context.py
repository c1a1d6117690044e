"""W3C Trace Context: the two headers by which a request says which trace it belongs to.

Specification: https://www.w3.org/TR/trace-context/, sections 3.2 (traceparent) and 3.3 (tracestate).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
_MEMBER = re.compile(rb"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{1,256}")
MAX_MEMBERS = 32
MAX_STATE = 512
"""Bytes of tracestate that have to be passed on (section 3.3.1.5); more is not."""


class Parent(NamedTuple):
    """A valid ``traceparent``."""

    trace_id: str
    span_id: str
    sampled: bool


def read_parent(value: bytes) -> Parent | None:
    """``traceparent`` as its parts; ``None`` when it is not valid, so that a new trace begins."""
    found = _PARENT.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest):
        return None
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return Parent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & 1))


def read_state(values: Sequence[bytes]) -> str:
    """The ``tracestate`` headers as one; empty when they are not valid. Never worth failing for."""
    members = [member.strip(b" \t") for value in values for member in value.split(b",")]
    members = [member for member in members if member]
    state = b",".join(members)
    if len(members) > MAX_MEMBERS or len(state) > MAX_STATE:
        return ""
    return state.decode() if all(map(_MEMBER.fullmatch, members)) else ""


def parent_header(trace_id: str, span_id: str, sampled: bool) -> str:
    """A ``traceparent`` of version 00."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"
