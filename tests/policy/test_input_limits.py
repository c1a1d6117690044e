"""How much one request may send, in the sentences that clients match on."""

from __future__ import annotations

from typing import Any

import pytest

from inglenook.config.settings import LimitsSettings
from inglenook.errors import BadRequest
from inglenook.policy.input_limits import check_embedding, check_rerank

LIMITS = LimitsSettings(max_batch_size=64, max_input_chars=32768, max_total_chars=262144)
LONG = "a" * 32768


def place(field: str, index: int | None) -> str:
    return field if index is None else f"{field}[{index}]"


@pytest.mark.parametrize(
    ("items", "says", "param"),
    [
        ([], "Embedding input list cannot be empty.", "input"),
        (["a"] * 65, "Embedding input batch size 65 exceeds configured limit 64.", "input"),
        (
            ["", LONG + "a"],
            "Embedding input at index 1 exceeds configured character limit 32768.",
            "input[1]",
        ),
        ([LONG] * 9, "Total embedding input size 294912 exceeds configured character limit 262144.", "input"),
        ([[1]] * 65, "Embedding input batch size 65 exceeds configured limit 64.", "input"),
    ],
)
def test_the_first_limit_that_is_passed_is_named(items: Any, says: str, param: str) -> None:
    """Word for word: an older system's clients know these."""
    with pytest.raises(BadRequest) as refused:
        check_embedding(items, lambda index: place("input", index), LIMITS)
    assert (str(refused.value), refused.value.param) == (says, param)


@pytest.mark.parametrize("items", [["a"] * 64, [LONG], [LONG] * 8, [""], [[1] * 100_000]])
def test_what_fits_fits(items: Any) -> None:
    """Up to and with the limit; token ids are the model's to count."""
    check_embedding(items, lambda index: "input", LIMITS)


@pytest.mark.parametrize(
    ("query", "texts", "says", "param"),
    [
        ("q", [], "Rerank document list cannot be empty.", "documents"),
        ("q", ["a"] * 65, "Rerank document batch size 65 exceeds configured limit 64.", "documents"),
        ("q", [LONG + "a"], "Rerank document at index 0 exceeds configured character limit 32768.", "documents[0]"),
        ("q", [LONG] * 9, "Total rerank document size 294912 exceeds configured character limit 262144.", "documents"),
        (LONG + "a", ["a"], "Rerank query exceeds configured character limit 32768.", "query"),
    ],
)  # fmt: skip
def test_documents_have_the_same_limits(query: str, texts: list[str], says: str, param: str) -> None:
    """And the query that of one document."""
    with pytest.raises(BadRequest) as refused:
        check_rerank(query, texts, lambda index: place("documents", index), LIMITS)
    assert (str(refused.value), refused.value.param) == (says, param)
