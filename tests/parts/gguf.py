"""GGUF files made by hand, whole or wrong, and the built-in model with more in its header."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from inglenook import models

STARTER = Path(models.__path__[0]) / "starter.gguf"
ALIGNMENT = 32

Value = int | float | bool | str | list[str] | list[int]


def gguf(pairs: Mapping[str, Value], tensors: Sequence[tuple[str, tuple[int, ...], int]] = ()) -> bytes:
    """Return a file with a header of ``pairs`` and ``tensors`` (name, shape, offset), and no data."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    return head + b"".join(map(pair, pairs, pairs.values())) + b"".join(map(tensor, tensors))


def pair(key: str, value: Value) -> bytes:
    return text(key) + typed(value)


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def typed(value: Value) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + text(value)
        case _:
            return struct.pack("<I", 9) + items(value)


def items(values: Sequence[str] | Sequence[int]) -> bytes:
    kind = 8 if values and isinstance(values[0], str) else 4
    parts = [text(value) if isinstance(value, str) else struct.pack("<I", value) for value in values]
    return struct.pack("<IQ", kind, len(values)) + b"".join(parts)


def tensor(given: tuple[str, tuple[int, ...], int]) -> bytes:
    name, shape, offset = given
    layout = f"<I{len(shape)}QIQ"
    return text(name) + struct.pack(layout, len(shape), *shape, 0, offset)


def with_pairs(file: bytes, pairs: Mapping[str, Value]) -> bytes:
    """Return ``file`` with more in its header; its tensors stay where its alignment wants them."""
    added = b"".join(map(pair, pairs, pairs.values()))
    filler = -(len(added) + len(pair("filler", ""))) % ALIGNMENT
    added += pair("filler", "x" * filler)
    (count,) = struct.unpack_from("<Q", file, 16)
    return file[:16] + struct.pack("<Q", count + len(pairs) + 1) + added + file[24:]
