"""``POST /v1/embeddings``: bytes to a checked request, vectors to an answer. Pure.

Contract: OpenAI API reference, "Create embeddings". Beside it: ``embedding_type``, ``return_sparse`` and
``return_colbert`` for models that make more than one kind, and ``truncate``.
"""

from __future__ import annotations

import array
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from inglenook.errors import BadRequest
from inglenook.wire.check import decoded, explained
from inglenook.wire.unreadable import unreadable
from inglenook.wire.vectors import FLOAT, Cut, EmbedJob, Kind, Vectors

NUMBERS_AT_ONCE = 1 << 16
"""Written between two looks at other requests: one long answer may not hold up all others."""
FORMS = "input must be a string, a list of strings, a list of token ids, or a list of lists of token ids"

Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_BEGINNING = re.compile(rb'\s*(?P<list>\[?)\s*(?P<first>[\[\]"0-9-]?)')


class EmbeddingRequest(Struct, kw_only=True):
    """``POST /v1/embeddings``. ``None`` is "not given"."""

    model: str
    input: Raw
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    embedding_type: Literal["dense", "sparse", "colbert"] | None = None
    return_sparse: bool | None = None
    return_colbert: bool | None = None
    truncate: bool | None = None
    user: str | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What has to be made of each input."""
        kinds: set[Kind] = {self.embedding_type or "dense"}
        kinds |= {"sparse"} if self.return_sparse else set()
        kinds |= {"colbert"} if self.return_colbert else set()
        return tuple(sorted(kinds))


@dataclass(frozen=True)
class Inputs:
    """The inputs of a request: texts, or lists of token ids."""

    items: Sequence[str] | Sequence[Sequence[int]]
    is_list: bool
    tokens: int | None = None
    """What ``usage`` shall say where an API counts otherwise than the model does."""
    written: Callable[[EmbeddingRequest, Vectors], Iterator[bytes]] | None = None
    """Writes the answer, where an API has it otherwise."""

    def place(self, index: int | None) -> str:
        """What the client has to mend when one of them is wrong."""
        return f"input[{index}]" if self.is_list and index is not None else "input"

    def job(self, request: EmbeddingRequest) -> EmbedJob:
        return EmbedJob(self.items, request.kinds, bool(request.truncate))


_REQUEST = msgspec.json.Decoder(EmbeddingRequest)
_TEXT = msgspec.json.Decoder(str)
_LISTS: dict[bytes, msgspec.json.Decoder[Any]] = {
    b'"': msgspec.json.Decoder(list[str]),
    b"[": msgspec.json.Decoder(list[list[Token]]),
}
_TOKENS = msgspec.json.Decoder(list[Token])


def read_embedding(body: bytes) -> tuple[EmbeddingRequest, Inputs]:
    """The request and its inputs. Raises ``BadRequest`` that names the field to mend."""
    request = decoded(_REQUEST, body)
    if request.dimensions is not None:
        if request.dimensions < 1:
            raise BadRequest("dimensions must be at least 1", param="dimensions")
        if "dense" not in request.kinds:
            raise BadRequest("dimensions is about dense embeddings only", param="dimensions")
    return request, read_inputs(bytes(request.input))


def read_inputs(raw: bytes) -> Inputs:
    """The inputs, from their JSON. Raises ``BadRequest``."""
    # The first item says what all of them must be, so that a wrong one can be named.
    begins = _BEGINNING.match(raw)
    assert begins is not None  # every part of it may be empty
    first = begins["first"]
    if not begins["list"]:
        if first != b'"':
            raise BadRequest(FORMS, param="input", code="invalid_type")
        return Inputs([_decoded(_TEXT, raw)], is_list=False)
    if first == b"]":
        return Inputs([], is_list=True)
    if first.isdigit() or first == b"-":
        return Inputs([_decoded(_TOKENS, raw)], is_list=False)
    if first not in _LISTS:
        raise BadRequest(FORMS, param="input[0]", code="invalid_type")
    items = _decoded(_LISTS[first], raw)
    if first == b"[" and [] in items:
        at = items.index([])
        raise BadRequest(f"input[{at}] has no token ids", param=f"input[{at}]")
    return Inputs(items, is_list=True)


def _decoded(decoder: msgspec.json.Decoder[Any], raw: bytes) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as wrong:
        message, _, path = str(wrong).partition(" - at `$")
        raise explained(f"{message} - at `$.input{path or '`'}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise unreadable(b'{"input":' + raw + b"}", problem) from None


class _Row(Struct):
    index: int
    embedding: Any
    object: str = "embedding"
    sparse_embedding: dict[str, float] | UnsetType = UNSET
    colbert_embedding: Any = UNSET


def check_dimensions(wanted: int | None, native: int) -> None:
    """Raise ``BadRequest`` when a vector of ``native`` numbers cannot give ``wanted``."""
    if wanted is not None and wanted > native:
        raise BadRequest(
            f"dimensions must be at most {native}, the length of this model's vectors", param="dimensions"
        )


def check_kinds(request: EmbeddingRequest, made: Sequence[Kind]) -> None:
    """Raise ``BadRequest`` when a model that makes only ``made`` is asked for more."""
    missing = [kind for kind in request.kinds if kind not in made]
    if missing:
        is_type = request.embedding_type == missing[0]
        raise BadRequest(
            f"This model makes no {missing[0]} embeddings.",
            param="embedding_type" if is_type else f"return_{missing[0]}",
        )


def answer(request: EmbeddingRequest, vectors: Vectors) -> Iterator[bytes]:
    """The body of the answer in pieces, so that the caller can attend to others between them."""
    yield b'{"object":"list","data":['
    step = max(1, NUMBERS_AT_ONCE // vectors.dimension)
    for start in range(0, vectors.count, step):
        rows = [_row(request, vectors, at) for at in range(start, min(start + step, vectors.count))]
        yield (b"," if start else b"") + msgspec.json.encode(rows)[1:-1]
    rest: dict[str, Any] = {
        "model": request.model,
        "usage": {"prompt_tokens": vectors.tokens, "total_tokens": vectors.tokens},
    }
    if vectors.cut:
        rest["truncated"] = told(vectors.cut)
    yield b"]," + msgspec.json.encode(rest)[1:]


def told(cut: Sequence[Cut]) -> list[dict[str, int | None]]:
    """What an answer says of the inputs that were cut."""
    return [{"index": each.index, "tokens": each.tokens, "kept": each.kept} for each in cut]


def _row(request: EmbeddingRequest, vectors: Vectors, at: int) -> _Row:
    packed = request.encoding_format == "base64"
    kind = request.embedding_type or "dense"
    embedding: Any = []
    if kind == "dense":
        embedding = _numbers(_shortened(vectors, at, request.dimensions), packed)
    elif kind == "colbert":
        embedding = _matrix(vectors, at, packed)
    return _Row(
        at,
        embedding,
        sparse_embedding=vectors.sparse[at] if vectors.sparse else UNSET,
        colbert_embedding=_matrix(vectors, at, packed) if vectors.colbert and kind != "colbert" else UNSET,
    )


def _numbers(numbers: memoryview, packed: bool) -> Any:
    # The encoder writes bytes as base64, which is what the API means by it.
    return numbers if packed else numbers.cast("f").tolist()


def _matrix(vectors: Vectors, at: int, packed: bool) -> list[Any]:
    size = vectors.dimension * FLOAT
    numbers = vectors.colbert[at]
    return [_numbers(numbers[start : start + size], packed) for start in range(0, len(numbers), size)]


def _shortened(vectors: Vectors, at: int, dimensions: int | None) -> memoryview:
    """The first ``dimensions`` numbers, of length 1 where the whole vector has it."""
    row = vectors.row(at)
    if dimensions is None or dimensions == vectors.dimension:
        return row
    row = row[: dimensions * FLOAT]
    if not vectors.normalized:
        return row
    values = row.cast("f").tolist()
    length = math.hypot(*values)
    if not length:
        return row
    return memoryview(array.array("f", [value / length for value in values]).tobytes())
