"""A BERT of a few thousand random weights as a GGUF file: an embedding model or a reranker for llama.cpp.

What it says means nothing, but it is computed as for any BERT: same text, same vector; other text, another.
"""

from __future__ import annotations

import array
import random
import string
from collections.abc import Iterator
from pathlib import Path

from tests.parts.gguf import ALIGNMENT, Value, gguf

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "sat", "on", "mat", "dog", "ran", "rocket", "moon", "orbit", "what", "is", "to"]
LETTERS = list(string.ascii_lowercase + string.digits + ".,?!")
# llama.cpp marks the beginning of a word, where the original vocabulary marks everything else ("##a").
TOKENS = [*SPECIAL, *("\u2581" + token for token in [*WORDS, *LETTERS]), *LETTERS]
DIMENSION, HEADS, LAYERS, FEED_FORWARD = 32, 2, 2, 64
MEAN, CLS, LAST, RANK = 1, 2, 3, 4


def write_bert(path: Path, *, pooling: int = MEAN, context: int = 512) -> Path:
    """Write the model. ``pooling`` ``RANK`` makes it a reranker."""
    weights = list(_weights(pooling, context))
    tensors: list[tuple[str, tuple[int, ...], int]] = []
    data = b""
    chance = random.Random(7)
    for name, shape in weights:
        tensors.append((name, shape, len(data)))
        data += _values(name, shape, chance)
        data += bytes(-len(data) % ALIGNMENT)
    head = gguf(_pairs(pooling, context), tensors)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + data)
    return path


def _values(name: str, shape: tuple[int, ...], chance: random.Random) -> bytes:
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    if name.endswith("norm.weight"):
        return array.array("f", [1.0] * count).tobytes()
    if name.endswith(".bias"):
        return array.array("f", [0.0] * count).tobytes()
    return array.array("f", [chance.gauss(0, 0.3) for _ in range(count)]).tobytes()


def _pairs(pooling: int, context: int) -> dict[str, Value]:
    said: dict[str, Value] = {
        "general.architecture": "bert",
        "general.name": "random",
        "bert.context_length": context,
        "bert.embedding_length": DIMENSION,
        "bert.feed_forward_length": FEED_FORWARD,
        "bert.block_count": LAYERS,
        "bert.attention.head_count": HEADS,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": pooling,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }
    return said


def _weights(pooling: int, context: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (DIMENSION, len(TOKENS))
    yield "token_types.weight", (DIMENSION, 2)
    yield "position_embd.weight", (DIMENSION, context)
    yield from _layer("token_embd_norm", (DIMENSION,))
    for at in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield from _layer(f"blk.{at}.{name}", (DIMENSION, DIMENSION))
        yield from _layer(f"blk.{at}.attn_output_norm", (DIMENSION,))
        yield from _layer(f"blk.{at}.ffn_up", (DIMENSION, FEED_FORWARD))
        yield from _layer(f"blk.{at}.ffn_down", (FEED_FORWARD, DIMENSION))
        yield from _layer(f"blk.{at}.layer_output_norm", (DIMENSION,))
    if pooling == RANK:
        yield from _layer("cls", (DIMENSION, DIMENSION))
        yield from _layer("cls.output", (DIMENSION, 1))


def _layer(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[-1:]
