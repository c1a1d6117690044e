"""The file that ships: int8 vectors, their scales and the vocabulary, as safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

METADATA = {
    "format": "static token embeddings, summed",
    "teacher": "sentence-transformers/all-MiniLM-L6-v2",
    "tokenizer": "BERT WordPiece, uncased",
    "license": "Apache-2.0",
}
_TYPES = {"int8": "I8", "uint8": "U8", "float32": "F32"}


def write(path: Path, tokens: Sequence[str], table: NDArray[np.float32]) -> None:
    """Write ``table`` with a row for each of ``tokens``, eight bits a number.

    Tokens that stand for nothing ([unused7], [CLS], ...) are left out, all but [UNK]; an empty line keeps
    their number in the vocabulary.
    """
    kept = [row for row, token in enumerate(tokens) if not _empty(token)]
    scales = np.abs(table[kept]).max(axis=1) / 127
    vectors = np.rint(table[kept] / scales[:, None]).astype(np.int8)
    lines = "\n".join("" if _empty(token) else token for token in tokens)
    arrays: dict[str, NDArray[Any]] = {
        "scales": scales.astype("<f4"),
        "vectors": vectors,
        "vocabulary": np.frombuffer(lines.encode(), np.uint8),
    }
    path.write_bytes(_header(arrays) + b"".join(array.tobytes() for array in arrays.values()))


def _empty(token: str) -> bool:
    return len(token) > 1 and token.startswith("[") and token != "[UNK]"


def _header(arrays: dict[str, NDArray[Any]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": METADATA}
    at = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _TYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header).encode()
    # Spaces, so that the numbers behind the header lie on multiples of eight.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
