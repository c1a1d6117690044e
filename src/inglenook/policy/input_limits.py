"""How many texts, and how long, one request may send. Pure.

The sentences about embeddings are a contract: clients of an older system match on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inglenook.config.settings import LimitsSettings
from inglenook.errors import BadRequest

Items = Sequence[str] | Sequence[Sequence[int]]
Place = Callable[[int | None], str]
"""From an item's index to what the client calls it; from ``None`` to what it calls all of them."""


def check_embedding(items: Items, place: Place, limits: LimitsSettings) -> None:
    """Raise ``BadRequest`` for the first limit that the inputs pass. Token ids have no characters."""
    _check("Embedding input", items, place, limits)


def check_rerank(query: str, texts: Sequence[str], place: Place, limits: LimitsSettings) -> None:
    """The same for a query and its documents."""
    if len(query) > limits.max_input_chars:
        raise BadRequest(
            f"Rerank query exceeds configured character limit {limits.max_input_chars}.", param="query"
        )
    _check("Rerank document", texts, place, limits)


def _check(what: str, items: Items, place: Place, limits: LimitsSettings) -> None:
    if not items:
        raise BadRequest(f"{what} list cannot be empty.", param=place(None))
    if len(items) > limits.max_batch_size:
        raise BadRequest(
            f"{what} batch size {len(items)} exceeds configured limit {limits.max_batch_size}.",
            param=place(None),
        )
    total = 0
    for index, item in enumerate(items):
        if not isinstance(item, str):
            return
        total += len(item)
        if len(item) > limits.max_input_chars:
            raise BadRequest(
                f"{what} at index {index} exceeds configured character limit {limits.max_input_chars}.",
                param=place(index),
            )
    if total > limits.max_total_chars:
        name = what[0].lower() + what[1:]
        raise BadRequest(
            f"Total {name} size {total} exceeds configured character limit {limits.max_total_chars}.",
            param=place(None),
        )
