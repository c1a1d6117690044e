"""Vectors for texts: the same text has the same vector everywhere, shared words bring texts near."""

import base64
import hashlib
import math
import struct
from collections.abc import Iterable

from inglenook.workers.echo.asking import Json


def vector(ids: Iterable[int], dimension: int) -> list[float]:
    """Return the sum of one direction per token, with length 1."""
    direction = [0.0] * dimension
    for number in ids:
        for at, part in enumerate(_direction(number, dimension)):
            direction[at] += part
    length = math.sqrt(sum(part * part for part in direction))
    return [part / length for part in direction] if length else [1.0] + [0.0] * (dimension - 1)


def embeddings_body(model: str, inputs: list[list[int]], *, dimension: int, packed: bool) -> Json:
    """Return the answer of `/v1/embeddings`; ``packed`` asks for little-endian floats in base64."""
    vectors = [vector(ids, dimension) for ids in inputs]
    data = [
        {"embedding": _pack(each) if packed else each, "index": index, "object": "embedding"}
        for index, each in enumerate(vectors)
    ]
    count = sum(map(len, inputs))
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"model": model, "object": "list", "usage": usage, "data": data}


def _direction(number: int, dimension: int) -> list[float]:
    seed = number.to_bytes(8, "big")
    bits = hashlib.shake_128(seed).digest(4 * dimension)
    return [part / 2**31 - 1 for part in struct.unpack(f">{dimension}I", bits)]


def _pack(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
