"""What a request costs a model, in tokens: guessed before it is served, known afterwards.

The cost is ``prompt tokens + 2 x answer tokens``, the linear cost function of Sheng et al., "Fairness in
Serving Large Language Models" (OSDI 2024, arXiv:2401.00588), which weighs the answer double because
it is made token by token, and the prompt many tokens at a time. Prompt tokens that the engine had cached
cost it nothing and are not counted.

Before a request was served we know the bytes of its body and perhaps ``max_tokens``. A token is about four
bytes of English, as OpenAI's help says of its own models; JSON around the text, other languages and
pictures make that a guess, which the usage corrects. ``n`` is not in it: each choice takes a turn of its own.
"""

from __future__ import annotations

from inglenook.wire.openai import ChatRequest, CompletionRequest, Usage

BYTES_PER_TOKEN = 4
ANSWER_WEIGHT = 2
UNSAID = -1
"""``at_most`` of a request that does not say how long its answer may be."""
CONTEXT = 8192
"""Tokens of a prompt that we guess at most where the model's ``context`` is not set: its own default."""


def at_most(request: ChatRequest | CompletionRequest) -> int:
    """Tokens that the answer may have by the request's own word; ``UNSAID``."""
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        return request.max_completion_tokens
    return UNSAID if request.max_tokens is None else request.max_tokens


def estimated(body: int, at_most: int, typical: float, context: int) -> float:
    """The cost in tokens of a request with ``body`` bytes. Always above 0.

    ``typical`` is the length of the model's answers as measured: ``max_tokens`` is a bound that few answers
    come near. ``at_most`` is 0 where there is no answer in tokens (vectors, scores); there ``context``
    is no bound either, since such a request may hold many texts.
    """
    prompt = body / BYTES_PER_TOKEN
    if at_most == 0:
        return max(1.0, prompt)
    answer = typical if at_most == UNSAID else min(at_most, typical)
    return max(1.0, min(prompt, context or CONTEXT) + ANSWER_WEIGHT * answer)


def spent(usage: Usage) -> float:
    """The cost in tokens of an answered request. Always above 0."""
    fresh = usage.prompt_tokens - usage.cached_tokens
    return max(1.0, fresh + ANSWER_WEIGHT * usage.completion_tokens)


class Mean:
    """A mean that forgets: each new value counts a tenth (an exponentially weighted moving average)."""

    def __init__(self, first: float) -> None:
        """``first`` is taken until there is a value, and then forgotten at once."""
        self.value = first
        self._known = False

    def add(self, value: float) -> None:
        self.value += (value - self.value) * (0.1 if self._known else 1.0)
        self._known = True
