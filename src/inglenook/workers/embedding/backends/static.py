"""A vector for each token and nothing else: a text is the sum of its tokens. Needs NumPy alone.

The file is in the safetensors format: int8 ``vectors``, a float32 ``scales`` for each, and the
``vocabulary``, one token a line. Empty lines keep the numbers of tokens that have no vector.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inglenook.workers.embedding.backends.base import (
    BadTokens,
    Embedded,
    Facts,
    Floats,
    Inputs,
    Kind,
    ModelSettings,
    TooLong,
    Vectors,
)
from inglenook.workers.embedding.backends.static_words import WordPieces

AT_ONCE = 4096
"""Tokens whose vectors are looked up together: as much as the second-level cache of a processor holds."""
LARGEST_HEADER = 1 << 20
UNKNOWN = "[UNK]"
_TYPES: Mapping[str, Any] = {"I8": "i1", "U8": "u1", "F32": "<f4"}


class Static:
    """A `Direct` backend. Texts may be of any length unless ``context`` bounds them."""

    def __init__(self, table: Floats, words: WordPieces, *, normalize: bool = True, context: int = 0) -> None:
        """``table`` has a row for each token id; zeros for ids without a meaning of their own."""
        self.facts = Facts(dimension=table.shape[1], context=context, normalized=normalize)
        self._table = table
        self._words = words

    def embed(self, inputs: Inputs, kinds: Set[Kind], *, truncate: bool) -> Embedded:
        """Return the vector of each input; zeros where it has no token."""
        dense = np.zeros((len(inputs), self.facts.dimension), np.float32)
        answer = Embedded(Vectors(dense=dense), lengths := [])
        sums = _Sums(self._table, dense)
        numbered: Iterable[tuple[int, str | Sequence[int]]] = enumerate(inputs)
        for row, given in numbered:
            length = 0
            for ids in self._words.ids(given) if isinstance(given, str) else (self._checked(given),):
                kept = ids if not self.facts.context else ids[: max(0, self.facts.context - length)]
                sums.add(row, kept)
                length += len(ids)
            lengths.append(self._bounded(row, length, answer, truncate=truncate))
        sums.finish()
        _scale(dense, lengths, normalize=self.facts.normalized)
        return answer

    def _bounded(self, row: int, length: int, answer: Embedded, *, truncate: bool) -> int:
        """How many tokens of an input count. Raises `TooLong`, or notes in ``answer`` that it was cut."""
        context = self.facts.context
        if not context or length <= context:
            return length
        if not truncate:
            raise TooLong(row, length, context)
        answer.truncated.append((row, length))
        return context

    def _checked(self, ids: Sequence[int]) -> Sequence[int]:
        if ids and not 0 <= min(ids) <= max(ids) < len(self._table):
            raise BadTokens(f"Token ids of this model are 0 to {len(self._table) - 1}.")
        return ids


class _Sums:
    """Adds up the vectors of tokens, some thousand tokens at a time however long the texts are."""

    def __init__(self, table: Floats, into: Floats) -> None:
        self._table = table
        self._into = into
        self._ids: list[int] = []
        self._runs: list[tuple[int, int]] = []

    def add(self, row: int, ids: Sequence[int]) -> None:
        """Add the tokens ``ids`` to the vector in ``row``."""
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            self._ids += some
            self._runs.append((row, len(some)))
            if len(self._ids) >= AT_ONCE:
                self.finish()

    def finish(self) -> None:
        """Add what is still waiting."""
        vectors = self._table.take(np.array(self._ids, np.int32), axis=0)
        start = 0
        for row, count in self._runs:
            self._into[row] += np.add.reduce(vectors[start : start + count], axis=0)
            start += count
        self._ids.clear()
        self._runs.clear()


def _scale(dense: Floats, lengths: Sequence[int], *, normalize: bool) -> None:
    """Make each vector of length 1, or the mean of its tokens. What is zero stays zero."""
    squares = np.einsum("ij,ij->i", dense, dense)
    sizes = np.sqrt(squares) if normalize else np.array(lengths, np.float32)
    dense /= np.where(sizes > 0, sizes, 1)[:, None]


def load(settings: ModelSettings) -> Static:
    """Read the file ``settings.model``; raise `ValueError` where it is not such a file."""
    if settings.pooling not in ("", "mean"):
        raise ValueError(f"static embeddings have no {settings.pooling!r} pooling, only 'mean'")
    tensors = read_tensors(Path(settings.model))
    tokens = tensors["vocabulary"].tobytes().decode().split("\n")
    table = _table(tokens, tensors)
    words = {token: row for row, token in enumerate(tokens) if token}
    return Static(
        table,
        WordPieces(words, words[UNKNOWN]),
        normalize=settings.normalize is not False,
        context=settings.context,
    )


def _table(tokens: Sequence[str], tensors: Mapping[str, NDArray[Any]]) -> Floats:
    """A row for each token id. float32, because NumPy looks up and adds nothing faster."""
    vectors, scales = tensors["vectors"], tensors["scales"]
    rows = [row for row, token in enumerate(tokens) if token]
    if vectors.ndim != 2 or not len(rows) == len(vectors) == len(scales):
        raise ValueError("the numbers of tokens and of vectors differ")
    table = np.zeros((len(tokens), vectors.shape[1]), np.float32)
    table[rows] = vectors * scales[:, None]
    return table


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read all of a safetensors file; raise `ValueError` where it is none, or holds other than numbers."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= min(LARGEST_HEADER, len(data) - 8):
        raise ValueError(f"{path.name} is not a safetensors file")
    header = msgspec.json.decode(data[8 : 8 + size], type=dict[str, dict[str, Any]])
    return {name: _tensor(data, 8 + size, about) for name, about in header.items() if name != "__metadata__"}


def _tensor(data: bytes, start: int, about: Mapping[str, Any]) -> NDArray[Any]:
    kind = _TYPES.get(about["dtype"])
    if kind is None:
        raise ValueError(f"tensors of type {about['dtype']} are not read here")
    first, end = about["data_offsets"]
    return np.frombuffer(data[start + first : start + end], kind).reshape(about["shape"])
