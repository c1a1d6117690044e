"""What a request is thought to cost, and what it has cost."""

from __future__ import annotations

import pytest

from inglenook.policy.cost import UNSAID, Mean, at_most, estimated, spent
from inglenook.wire.openai import ChatRequest, CompletionRequest, PromptTokensDetails, Usage


def test_an_answers_tokens_count_double_and_cached_ones_nothing() -> None:
    """The linear cost function: prompt and twice the answer, without what the engine had cached."""
    assert spent(Usage(100, 50, 150)) == 200
    assert spent(Usage(100, 50, 150, PromptTokensDetails(90))) == 110
    assert spent(Usage(100, 0, 100, PromptTokensDetails(100))) == 1


def test_a_guess_is_a_quarter_of_the_bytes_and_twice_a_typical_answer() -> None:
    """`max_tokens` only makes it less: few answers come near a large one."""
    assert estimated(400, UNSAID, 256, 0) == 100 + 512
    assert estimated(400, 4096, 256, 0) == 100 + 512
    assert estimated(400, 10, 256, 0) == 100 + 20


def test_a_prompt_is_not_guessed_to_be_longer_than_the_model_takes() -> None:
    """A picture's bytes are many, its tokens few. A request with many texts to embed has no such bound."""
    assert estimated(10**6, 10, 256, 0) == 8192 + 20
    assert estimated(10**6, 10, 256, 2048) == 2048 + 20
    assert estimated(10**6, 0, 256, 2048) == 250_000


def test_nothing_costs_nothing() -> None:
    """Shares are divided by it."""
    assert estimated(0, 0, 0, 0) == 1
    assert estimated(0, UNSAID, 0, 0) == 1


def test_a_chat_may_bound_its_answer_by_two_names() -> None:
    """The newer name counts where both are given."""
    for bounds, bound in (
        ((None, None), UNSAID),
        ((7, None), 7),
        ((None, 5), 5),
        ((7, 5), 5),
    ):
        old, new = bounds
        request = ChatRequest(model="m", messages=[], max_tokens=old, max_completion_tokens=new)
        assert at_most(request) == bound


def test_a_completion_bounds_its_answer_by_one() -> None:
    """`max_tokens`."""
    assert at_most(CompletionRequest(model="m", max_tokens=3)) == 3
    assert at_most(CompletionRequest(model="m")) == UNSAID


def test_a_mean_starts_with_the_first_value_and_forgets() -> None:
    """What was assumed before counts for nothing once something is known."""
    mean = Mean(256)
    assert mean.value == 256
    mean.add(10)
    assert mean.value == 10
    mean.add(20)
    assert mean.value == 11
    for _ in range(100):
        mean.add(1000)
    assert mean.value == pytest.approx(1000, rel=0.01)
