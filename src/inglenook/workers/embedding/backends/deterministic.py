"""Vectors made of hashes: no model and no meaning, the same everywhere. For tests and demos.

Component k of a text is made of the SHA-256 of "TEXT:k". The values are a contract with programs that
stored them.
"""

import hashlib
from collections.abc import Set

import numpy as np

from inglenook.workers.embedding.backends.base import (
    Embedded,
    Facts,
    Floats,
    Inputs,
    Kind,
    ModelSettings,
    NotSupported,
    Vectors,
)


class Deterministic:
    """A `Direct` backend. Tokens are words between spaces; there is no bound on them."""

    def __init__(self, *, dimension: int, normalize: bool) -> None:
        self.facts = Facts(dimension=dimension, normalized=normalize)
        self._suffixes = [b":%d" % k for k in range(dimension)]

    def embed(self, inputs: Inputs, kinds: Set[Kind], *, truncate: bool) -> Embedded:
        """Return the vector of each text."""
        vectors = np.zeros((len(inputs), self.facts.dimension), np.float32)
        tokens = []
        for row, text in enumerate(inputs):
            if not isinstance(text, str):
                raise NotSupported("This model takes texts, and no token ids.")
            tokens.append(len(text.split()))
            if text:
                vectors[row] = self._vector(text.encode())
        return Embedded(Vectors(dense=vectors), tokens)

    def _vector(self, text: bytes) -> Floats:
        begun = hashlib.sha256(text)
        heads = bytearray()
        for suffix in self._suffixes:
            whole = begun.copy()
            whole.update(suffix)
            heads += whole.digest()[:4]
        vector = (np.frombuffer(heads, ">u4") / 2**31 - 1).astype(np.float32)
        norm = np.linalg.norm(vector)
        return vector / norm if self.facts.normalized and norm > 0 else vector


def load(settings: ModelSettings) -> Deterministic:
    """Return the backend; it is normalised unless the settings say otherwise."""
    return Deterministic(dimension=settings.dimension, normalize=settings.normalize is not False)
