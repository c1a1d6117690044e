"""Reads the header of a GGUF file: enough to plan a start and to refuse a bad file before any engine sees it.

The file is not trusted. Every count and length is bounded, at most ``MOST_BYTES`` are read however large
the file is, nothing recurses, and what is wrong is said in one clause without a path.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

MOST_BYTES = 64 << 20
"""Largest vocabularies in use, with their merges, take about 12 MiB."""
MOST_PAIRS = 1 << 16
MOST_TENSORS = 1 << 16
MOST_ITEMS = 1 << 22
LONGEST_NAME = 1 << 10
LONGEST_TEXT = 4 << 20
MOST_DIMENSIONS = 4
BLOCK = 1 << 20
CUT_SHORT = "it is cut short: fetch it again"

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ARCHITECTURE = "general.architecture"
TOKENS = "tokenizer.ggml.tokens"

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")

# The names that llama.cpp looks for when a file does not say which tokens fill in the middle.
_FILL_IN_NAMES = {
    "pre": "<|fim_prefix|> <fim-prefix> <fim_prefix> <|code_prefix|> <PRE> "
    "\u2581<PRE> <\uff5cfim\u2581begin\uff5c>",
    "suf": "<|fim_suffix|> <fim-suffix> <fim_suffix> <|code_suffix|> <SUF> "
    "\u2581<SUF> <\uff5cfim\u2581hole\uff5c>",
    "mid": "<|fim_middle|> <fim-middle> <fim_middle> <|code_middle|> <MID> "
    "\u2581<MID> <\uff5cfim\u2581end\uff5c>",
}
_ROLES = {name.encode(): role for role, names in _FILL_IN_NAMES.items() for name in names.split()}
_ROLE_STARTS = frozenset(name[0] for name in _ROLES)


class GGUFError(Exception):
    """The file cannot be used; the text says why, in one clause that is fit for a client."""


class FillIn(NamedTuple):
    """Ids of the tokens that mark the text before a gap, the text after it, and what fills it."""

    prefix: int
    suffix: int
    middle: int


@dataclass(frozen=True)
class GGUFHeader:
    """What a GGUF file says of itself. A number that it does not give is 0."""

    architecture: str
    context_length: int
    embedding_length: int
    pooling: int | None
    """0 none, 1 mean, 2 cls, 3 last, 4 rank; only files for embeddings and reranking have one."""
    fill_in: FillIn | None


def read_header(path: Path | str) -> GGUFHeader:
    """Read the header of the file at ``path``. Blocks; call it on a thread.

    Raises ``GGUFError`` for a file that is missing, truncated, corrupt or hostile.
    """
    try:
        with open(path, "rb") as file:
            return _Reader(file).header()
    except OSError as problem:
        raise GGUFError(f"it cannot be read ({problem.strerror or 'input/output error'})") from None


class Kind(NamedTuple):
    """What a GGUF file is, in the two values that tell a chat model from others."""

    architecture: str
    pooling: int | None


def read_kind(path: Path | str) -> Kind:
    """The kind of the file at ``path``, from its first few KiB: it stops before the vocabulary.

    Raises ``GGUFError`` as ``read_header`` does.
    """
    try:
        with open(path, "rb") as file:
            return _Reader(file).kind()
    except OSError as problem:
        raise GGUFError(f"it cannot be read ({problem.strerror or 'input/output error'})") from None


class _Reader:
    """One pass over a header, front to back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._data = bytearray()
        self._at = 0
        self._values: dict[str, int | float | str] = {}
        self._token_count = 0
        self._found: dict[str, int] = {}

    def header(self) -> GGUFHeader:
        tensors, pairs = self._counts()
        for _ in range(pairs):
            self._pair()
        if not isinstance(self._values.get(ARCHITECTURE), str):
            raise GGUFError("it does not say which architecture it has")
        self._check_tensors(tensors)
        return self._told()

    def kind(self) -> Kind:
        _, pairs = self._counts()
        for _ in range(pairs):
            if self._next_key().startswith(b"tokenizer."):
                break
            self._pair()
        architecture = str(self._values.get(ARCHITECTURE, ""))
        return Kind(architecture, self._number(f"{architecture}.pooling_type"))

    def _next_key(self) -> bytes:
        at = self._at
        key = self._text(LONGEST_NAME)
        self._at = at
        return key

    def _counts(self) -> tuple[int, int]:
        if self._take(4, "it is not a GGUF file") != MAGIC:
            raise GGUFError("it is not a GGUF file")
        (version,) = self._unpack("I")
        if version > 0xFFFF:
            raise GGUFError("it was made for a machine with the other byte order")
        if version not in VERSIONS:
            raise GGUFError(f"its GGUF version is {version}, and only versions 2 and 3 can be read")
        tensors, pairs = self._unpack("QQ")
        if tensors > MOST_TENSORS or pairs > MOST_PAIRS:
            raise GGUFError("it is corrupt: its header claims too many entries")
        return tensors, pairs

    def _pair(self) -> None:
        key = self._text(LONGEST_NAME).decode("utf-8", "replace")
        (kind,) = self._unpack("I")
        if kind == _ARRAY:
            self._array(key)
        elif kind == _STRING:
            self._values[key] = self._text(LONGEST_TEXT).decode("utf-8", "replace")
        else:
            (self._values[key],) = self._unpack(_scalar(kind))

    def _array(self, key: str) -> None:
        kind, count = self._unpack("IQ")
        if count > MOST_ITEMS:
            raise GGUFError("it is corrupt: a list in its header is too long")
        if kind == _STRING:
            self._strings(count, names=key == TOKENS)
        elif kind == _ARRAY:
            raise GGUFError("it is corrupt: a list in its header holds lists")
        else:
            self._take(count * struct.calcsize("<" + _scalar(kind)))
        if key == TOKENS:
            self._token_count = count

    def _strings(self, count: int, *, names: bool) -> None:
        # A vocabulary and its merges have some 300,000 of these, so this loop calls nothing it can spare.
        read, data, at, have = _LENGTH.unpack_from, self._data, self._at, len(self._data)
        for index in range(count):
            if at + 8 > have:
                have = self._fill(at + 8)
            length = read(data, at)[0]
            at += 8 + length
            if at > have:
                have = self._fill(at)
            if names and length > 4 and data[at - length] in _ROLE_STARTS:
                role = _ROLES.get(bytes(data[at - length : at]))
                if role:
                    self._found.setdefault(role, index)
        self._at = at

    def _check_tensors(self, tensors: int) -> None:
        """Their shapes are possible, and the file goes on for as long as they say."""
        total = furthest = 0
        for _ in range(tensors):
            self._text(LONGEST_NAME)
            (dimensions,) = self._unpack("I")
            if not 0 < dimensions <= MOST_DIMENSIONS:
                raise GGUFError("it is corrupt: a tensor has an impossible shape")
            size = 1
            for extent in self._unpack("Q" * dimensions):
                size *= extent
            _, offset = self._unpack("IQ")
            total, furthest = total + size, max(furthest, offset)
        if not 0 <= total < 1 << 50:
            raise GGUFError("it is corrupt: a tensor has an impossible shape")
        if self._at + furthest > self._size():
            raise GGUFError(CUT_SHORT)

    def _told(self) -> GGUFHeader:
        architecture = str(self._values[ARCHITECTURE])
        return GGUFHeader(
            architecture=architecture,
            context_length=self._number(f"{architecture}.context_length") or 0,
            embedding_length=self._number(f"{architecture}.embedding_length") or 0,
            pooling=self._number(f"{architecture}.pooling_type"),
            fill_in=self._fill_in(),
        )

    def _number(self, key: str) -> int | None:
        value = self._values.get(key)
        return value if type(value) is int and 0 <= value < 1 << 31 else None

    def _fill_in(self) -> FillIn | None:
        ids = [self._fill_in_token(role) for role in ("pre", "suf", "mid")]
        known = [token for token in ids if token is not None and token < self._token_count]
        return FillIn(*known) if len(known) == len(ids) else None

    def _fill_in_token(self, role: str) -> int | None:
        said = self._number(f"tokenizer.ggml.fim_{role}_token_id")
        return self._found.get(role) if said is None else said

    def _unpack(self, layout: str) -> tuple[int, ...]:
        layout = "<" + layout
        return struct.unpack(layout, self._take(struct.calcsize(layout)))

    def _text(self, longest: int) -> bytes:
        (length,) = _LENGTH.unpack(self._take(8))
        if length > longest:
            raise GGUFError("it is corrupt: a text in its header is too long")
        return self._take(length)

    def _take(self, count: int, short: str = CUT_SHORT) -> bytes:
        end = self._at + count
        if end > len(self._data):
            self._fill(end, short)
        taken = bytes(self._data[self._at : end])
        self._at = end
        return taken

    def _fill(self, end: int, short: str = CUT_SHORT) -> int:
        """Read on until ``end`` is in the buffer; return how far the buffer goes then."""
        if end > MOST_BYTES:
            raise GGUFError("it is corrupt: its header is too large")
        while len(self._data) < end:
            block = self._file.read(BLOCK)
            if not block:
                raise GGUFError(short)
            self._data += block
        return len(self._data)

    def _size(self) -> int:
        return self._file.seek(0, 2)


def _scalar(kind: int) -> str:
    try:
        return _SCALARS[kind]
    except KeyError:
        raise GGUFError("it is corrupt: its header has a value of no known type") from None
