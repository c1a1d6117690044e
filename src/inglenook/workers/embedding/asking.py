"""What a request asks for: JSON bodies into plain values. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import msgspec

from inglenook.workers.embedding.backends.base import BadTokens, Facts, Inputs, Kind, NotSupported, TooLong

Json: TypeAlias = dict[str, Any]
Body = TypeVar("Body")


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, code: int, kind: str, message: str, **more: int) -> None:
        super().__init__(message)
        self.code = code
        self.body: Json = {"error": {"code": code, "type": kind, "message": message, **more}}


@dataclass(frozen=True)
class EmbedAsk:
    """A request for vectors."""

    inputs: Inputs
    kinds: frozenset[Kind]
    truncate: bool

    @property
    def sizes(self) -> Sequence[int]:
        """Return how many characters, or tokens, each input has."""
        return list(map(len, self.inputs))


@dataclass(frozen=True)
class RerankAsk:
    """A request for the score of each text."""

    query: str
    inputs: Sequence[str]
    truncate: bool
    kinds: frozenset[Kind] = frozenset(("dense",))

    @property
    def sizes(self) -> Sequence[int]:
        """Return how many characters each pair has."""
        return [len(self.query) + len(text) for text in self.inputs]


Ask: TypeAlias = EmbedAsk | RerankAsk


class _EmbedBody(msgspec.Struct):
    texts: list[str] | None = None
    tokens: list[list[int]] | None = None
    kinds: frozenset[Kind] = frozenset(("dense",))
    truncate: bool = False


class _RerankBody(msgspec.Struct):
    query: str
    texts: list[str]
    truncate: bool = False


def read_embed(body: bytes, facts: Facts) -> EmbedAsk:
    """Read the body of `/embed`; raise `Refusal` for what this model cannot answer."""
    asked = _decode(body, _EmbedBody)
    inputs: Inputs | None = asked.texts if asked.tokens is None else asked.tokens
    if inputs is None or (asked.texts is not None and asked.tokens is not None):
        raise Refusal(400, "invalid_request_error", "Either texts or tokens must be given.")
    if not inputs or not asked.kinds:
        raise Refusal(400, "invalid_request_error", "There must be at least one input and one kind.")
    missing = sorted(asked.kinds.difference(facts.kinds))
    if missing:
        raise Refusal(400, "not_supported_error", f"This model has no {missing[0]} vectors.")
    return EmbedAsk(inputs, asked.kinds, asked.truncate)


def read_rerank(body: bytes) -> RerankAsk:
    """Read the body of `/rerank`; raise `Refusal`."""
    asked = _decode(body, _RerankBody)
    if not asked.texts:
        raise Refusal(400, "invalid_request_error", "There must be at least one text.")
    return RerankAsk(asked.query, asked.texts, asked.truncate)


def refusal_of(failure: Exception) -> Refusal:
    """Return what to answer when a backend failed, or refused, with ``failure``."""
    match failure:
        case Refusal():
            return failure
        case TooLong():
            return Refusal(
                400,
                "exceed_context_size_error",
                str(failure),
                index=failure.index,
                n_prompt_tokens=failure.length,
                n_ctx=failure.context,
            )
        case NotSupported():
            return Refusal(400, "not_supported_error", str(failure))
        case BadTokens():
            return Refusal(400, "invalid_request_error", str(failure))
        case _:
            # The text may hold parts of what people wrote; it goes to the log, not to the client.
            return Refusal(500, "server_error", "The model failed on this request.")


def _decode(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise Refusal(400, "invalid_request_error", f"The body cannot be read: {wrong}") from wrong
