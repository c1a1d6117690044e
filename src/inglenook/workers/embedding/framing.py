"""Answers as bytes: a length, a JSON head, raw little-endian float32."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from inglenook.workers.embedding.backends.base import Floats

FRAME_TYPE = "application/octet-stream"
ALIGNMENT = 4


def frame(head: dict[str, Any], payload: Iterable[Floats]) -> list[bytes | memoryview]:
    """Return the parts of an answer. Nothing of the payload is copied where its layout allows.

    The head ends in spaces, so that the payload can be read in place as floats.
    """
    text = msgspec.json.encode(head)
    text += b" " * (-len(text) % ALIGNMENT)
    return [len(text).to_bytes(4, "little") + text, *map(_raw, payload)]


def total(parts: Sequence[bytes | memoryview]) -> int:
    """Return how many bytes the parts have together."""
    return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)


def _raw(values: Floats) -> memoryview:
    return np.ascontiguousarray(values, dtype="<f4").reshape(-1).view(np.uint8).data
