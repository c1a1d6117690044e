"""GGUF files made by hand, whole or wrong, and the built-in model with more in its header."""

from __future__ import annotations

import array
import math
import random
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from inglenook import models

STARTER = Path(models.__path__[0]) / "starter.gguf"
ALIGNMENT = 32

Value = int | float | bool | str | list[str] | list[int] | list[float]
Weight = tuple[str, tuple[int, ...]]


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


def items(values: Sequence[str] | Sequence[int] | Sequence[float]) -> bytes:
    parts = [typed(value) for value in values]
    kind = parts[0][:4] if parts else struct.pack("<I", 4)
    return kind + struct.pack("<Q", len(values)) + b"".join(part[4:] for part in parts)


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


def with_random_weights(pairs: Mapping[str, Value], weights: Iterable[Weight], seed: int = 7) -> bytes:
    """Return a whole file whose ``weights`` (name, shape) are random, and the same for the same seed."""
    tensors: list[tuple[str, tuple[int, ...], int]] = []
    data = b""
    chance = random.Random(seed)
    for name, shape in weights:
        tensors.append((name, shape, len(data)))
        data += _random(shape, chance)
        data += bytes(-len(data) % ALIGNMENT)
    head = gguf(pairs, tensors)
    return head + bytes(-len(head) % ALIGNMENT) + data


def _random(shape: tuple[int, ...], chance: random.Random) -> bytes:
    return array.array("f", (chance.gauss(0, 0.3) for _ in range(math.prod(shape)))).tobytes()


IMAGE, PATCH = 28, 14
IMAGE_TOKENS = (IMAGE // PATCH) ** 2
_WIDTH, _LAYERS = 16, 2


def write_projector(path: Path, embedding: int) -> Path:
    """Write eyes for a model with ``embedding`` numbers a token: a random CLIP with LLaVA's projector."""
    path.write_bytes(with_random_weights(_CLIP | {"clip.vision.projection_dim": embedding}, _eyes(embedding)))
    return path


_CLIP: dict[str, Value] = {
    "general.architecture": "clip",
    "clip.has_vision_encoder": True,
    "clip.projector_type": "mlp",
    "clip.use_gelu": True,
    "clip.vision.image_size": IMAGE,
    "clip.vision.patch_size": PATCH,
    "clip.vision.embedding_length": _WIDTH,
    "clip.vision.feed_forward_length": 2 * _WIDTH,
    "clip.vision.block_count": _LAYERS,
    "clip.vision.attention.head_count": 2,
    "clip.vision.attention.layer_norm_epsilon": 1e-5,
    "clip.vision.image_mean": [0.5, 0.5, 0.5],
    "clip.vision.image_std": [0.5, 0.5, 0.5],
}


def _eyes(embedding: int) -> Iterator[Weight]:
    yield "v.patch_embd.weight", (PATCH, PATCH, 3, _WIDTH)
    yield "v.position_embd.weight", (_WIDTH, IMAGE_TOKENS)
    for at in range(_LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield from _linear(f"v.blk.{at}.{name}", _WIDTH, _WIDTH)
        yield from _linear(f"v.blk.{at}.ffn_up", _WIDTH, 2 * _WIDTH)
        yield from _linear(f"v.blk.{at}.ffn_down", 2 * _WIDTH, _WIDTH)
        for name in ("ln1", "ln2"):
            yield f"v.blk.{at}.{name}.weight", (_WIDTH,)
            yield f"v.blk.{at}.{name}.bias", (_WIDTH,)
    yield from _linear("mm.0", _WIDTH, embedding)
    yield from _linear("mm.2", embedding, embedding)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[Weight]:
    yield f"{name}.weight", (inputs, outputs)
    yield f"{name}.bias", (outputs,)


def write_lora(path: Path, embedding: int, *, architecture: str = "llama", rank: int = 4) -> Path:
    """Write a random adapter for the attention of the first block of a model."""
    name = "blk.0.attn_output.weight"
    pairs: dict[str, Value] = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(rank),
    }
    weights = [(f"{name}.lora_a", (embedding, rank)), (f"{name}.lora_b", (rank, embedding))]
    path.write_bytes(with_random_weights(pairs, weights))
    return path
