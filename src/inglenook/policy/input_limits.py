"""How many texts, and how long, one request may send. Pure.

The sentences about embeddings are a contract: clients of an older system match on them.
"""

from __future__ import annotations

from collections.abc import Sequence

from inglenook.config.settings import LimitsSettings
from inglenook.errors import BadRequest


def check_embedding(items: Sequence[str] | Sequence[Sequence[int]], limits: LimitsSettings) -> None:
    """Raise ``BadRequest`` for the first limit that the inputs pass. Token ids have no characters."""
    _check("Embedding input", "input", items, limits)


def check_rerank(query: str, texts: Sequence[str], field: str, limits: LimitsSettings) -> None:
    """The same for a query and its documents; ``field`` is what the client calls them."""
    if len(query) > limits.max_input_chars:
        raise BadRequest(
            f"Rerank query exceeds configured character limit {limits.max_input_chars}.", param="query"
        )
    _check("Rerank document", field, texts, limits)


def _check(
    what: str, field: str, items: Sequence[str] | Sequence[Sequence[int]], limits: LimitsSettings
) -> None:
    if not items:
        raise BadRequest(f"{what} list cannot be empty.", param=field)
    if len(items) > limits.max_batch_size:
        raise BadRequest(
            f"{what} batch size {len(items)} exceeds configured limit {limits.max_batch_size}.", param=field
        )
    total = 0
    for index, item in enumerate(items):
        if not isinstance(item, str):
            return
        total += len(item)
        if len(item) > limits.max_input_chars:
            raise BadRequest(
                f"{what} at index {index} exceeds configured character limit {limits.max_input_chars}.",
                param=f"{field}[{index}]",
            )
    if total > limits.max_total_chars:
        name = what[0].lower() + what[1:]
        raise BadRequest(
            f"Total {name} size {total} exceeds configured character limit {limits.max_total_chars}.",
            param=field,
        )
