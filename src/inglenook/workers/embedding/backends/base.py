"""What the worker asks of a backend, and the values that go between them.

A backend is one of three: `Direct` (so cheap for a text that requests are computed whole), `Batched`
(texts of many requests share padded batches) or `Reranker` (the same for pairs). Backends know nothing
of HTTP or queues. `Direct.embed` is called in one thread, one call at a time; `read` and `read_pairs` in two
threads, while `compute` is called in others.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Kind: TypeAlias = Literal["dense", "sparse", "colbert"]
Floats: TypeAlias = NDArray[np.float32]
Inputs: TypeAlias = Sequence[str] | Sequence[Sequence[int]]
"""The texts of a request, or their token ids: all of one sort."""


class TooLong(Exception):
    """The input at ``index`` has ``length`` tokens, more than ``context``, and may not be cut."""

    def __init__(self, index: int, length: int, context: int) -> None:
        super().__init__(f"Input {index} has {length} tokens; the model reads at most {context}.")
        self.index = index
        self.length = length
        self.context = context


class NotSupported(Exception):
    """This model cannot do what was asked; the text says what, and is shown to the client."""


class BadTokens(Exception):
    """Token ids that the model does not have; the text is shown to the client."""


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How batches should be cut for a batched model, in padded tokens: texts times the longest text."""

    most: int = 1024
    """The most that a batch should have."""
    overhead: int = 32
    """What one more batch costs: below it, padding is cheaper than another batch."""
    lanes: int = 1
    """How many batches may be computed at a time, each in a thread of its own."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is true of a loaded model."""

    dimension: int
    """Length of a dense vector; 0 for a reranker."""
    context: int = 0
    """The longest input in tokens, special tokens counted; 0: no bound."""
    normalized: bool
    """Whether dense vectors have length 1 (a zero vector stays zero)."""
    kinds: tuple[Kind, ...] = ("dense",)
    scale: Literal["logit", "unit"] | None = None
    """What the scores of a reranker are."""
    batching: Batching = Batching()


@dataclass(slots=True)
class Vectors:
    """What a model made of some inputs, in their order; None for kinds that were not asked for."""

    dense: Floats | None = None
    """[count, dimension], C-contiguous float32; of a reranker [count, 1]."""
    sparse: list[dict[str, float]] | None = None
    """Of each input, token id -> weight."""
    colbert: list[Floats] | None = None
    """Of each input [vectors, dimension]."""


@dataclass(slots=True)
class Embedded:
    """What `Direct.embed` returns."""

    vectors: Vectors
    tokens: Sequence[int]
    """Tokens of each input, after cutting."""
    truncated: list[tuple[int, int]] = field(default_factory=list)
    """(index, tokens before cutting) of each input that was cut."""


@dataclass(slots=True)
class Encoded:
    """One request as a batched model reads it."""

    items: list[Any]
    """One for each input, handed back to `compute` in any order and company."""
    tokens: list[int]
    """Tokens of each item, special tokens counted, after cutting: what a batch is padded to."""
    truncated: list[tuple[int, int]] = field(default_factory=list)
    """(index, tokens before cutting) of each input that was cut."""


@runtime_checkable
class Direct(Protocol):
    """A model that is so cheap for a text that batches across requests gain nothing.

    The worker hands over a request whole, or in slices of some thousand inputs when it is large, and
    copies nothing for each input.
    """

    @property
    def facts(self) -> Facts:
        """Return what is true of the model; the same value at every call."""
        ...

    def embed(self, inputs: Inputs, kinds: Set[Kind], *, truncate: bool) -> Embedded:
        """Return a vector for each input. ``kinds`` is a subset of those in `facts`.

        Raise `TooLong` (index within ``inputs``) for an input over the context when ``truncate`` is
        false, `NotSupported` for token ids where there is no way to take them, `BadTokens` for ids
        out of range. Any other exception is a failure of the model, and answered with a 500.
        """
        ...


@runtime_checkable
class Batched(Protocol):
    """A model whose cost is in padded batches."""

    @property
    def facts(self) -> Facts:
        """Return what is true of the model; the same value at every call."""
        ...

    def read(self, inputs: Inputs, *, truncate: bool) -> Encoded:
        """Tokenize. Raise as `Direct.embed` does. Called beside `compute`, from a thread of its own."""
        ...

    def compute(self, items: Sequence[Any], kinds: Set[Kind], *, alone: bool) -> Vectors:
        """Return the vectors of some items of `read`, from one pass through the model.

        Items of different requests, sorted by length. An exception makes the worker try each of the
        requests by itself. ``alone`` says that no other batch is being computed, or waits to be: this
        one may use the whole machine. Called in as many threads at a time as there are lanes.
        """
        ...


@runtime_checkable
class Reranker(Protocol):
    """A model that scores pairs of texts. `compute` is that of `Batched`, with scores as [count, 1]."""

    @property
    def facts(self) -> Facts:
        """Return what is true of the model; the same value at every call."""
        ...

    def read_pairs(self, query: str, texts: Sequence[str], *, truncate: bool) -> Encoded:
        """Tokenize each pair of the query and a text. Raise as `Direct.embed` does."""
        ...

    def compute(self, items: Sequence[Any], kinds: Set[Kind], *, alone: bool) -> Vectors:
        """Return the raw scores of some items of `read_pairs`, from one pass through the model."""
        ...


Backend: TypeAlias = Direct | Batched | Reranker


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What the flags say of the model; what a `load` gets."""

    model: str
    """A directory, a file, or a name that the backend knows (a hub id); may be empty."""
    pooling: str = ""
    """"mean", "cls", "last" or "max"; empty: as the model says."""
    normalize: bool | None = None
    """None: as the model says."""
    dimension: int = 768
    """Only for `deterministic`."""
    trust_remote_code: bool = False
    precision: str = ""
    """"float32" or "bfloat16"; empty: as the model's files are."""
    batch_tokens: int = 0
    """0: the backend's choice."""
    threads: int = 0
    """0: the backend's choice."""
    context: int = 0
    """Cut the model's own context to this; 0: the model's own."""
