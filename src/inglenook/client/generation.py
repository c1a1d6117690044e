"""``generate()``: a prompt in, a text out, whoever may give it; and its twin for programs without a loop.

The environment is read at each call. Nothing is repeated: who calls knows better whether to.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from inglenook.client import providers
from inglenook.client.exchange import Asked, fetch, fetch_async, opened, opened_async
from inglenook.client.failure import CallFailed
from inglenook.client.providers import Wish

log = logging.getLogger("inglenook.client")


async def generate(
    prompt: str,
    temperature: float = 0.7,
    max_tokens: int = 256,
    provider: str | None = None,
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - for each provider, so no one block could have it
) -> str:
    """The text that ``provider`` (else ``LLM_PROVIDER``: lan, openai, local or stub) makes of a prompt.

    ``timeout``: seconds for each provider that is asked; without it, ``LLM_TIMEOUT_SECS``. When a provider
    fails, ``LLM_PROVIDER_FALLBACK`` (``stub`` unless set) answers in its place, and one warning is logged.
    Raises ``CallFailed`` when none answers.
    """
    turn = _Turn(prompt, temperature, max_tokens, provider, timeout)
    for name in turn.names:
        if name == providers.STUB:
            return turn.answer(name, providers.stub(turn.wish))
        try:
            asked = turn.request(name)
            async with opened_async(asked.url) as http:
                answered = await fetch_async(http, asked, turn.seconds)
            return turn.answer(name, providers.text(name, answered))
        except CallFailed as problem:
            turn.note(name, problem)
    raise turn.failure()


def generate_sync(
    prompt: str,
    temperature: float = 0.7,
    max_tokens: int = 256,
    provider: str | None = None,
    *,
    timeout: float | None = None,
) -> str:
    """``generate`` for programs without an event loop."""
    turn = _Turn(prompt, temperature, max_tokens, provider, timeout)
    for name in turn.names:
        if name == providers.STUB:
            return turn.answer(name, providers.stub(turn.wish))
        try:
            asked = turn.request(name)
            with opened(asked.url) as http:
                answered = fetch(http, asked, turn.seconds)
            return turn.answer(name, providers.text(name, answered))
        except CallFailed as problem:
            turn.note(name, problem)
    raise turn.failure()


class _Turn:
    """One call: who is asked, and who has failed so far."""

    def __init__(
        self, prompt: str, temperature: float, max_tokens: int, provider: str | None, timeout: float | None
    ) -> None:
        """Raises ``ValueError`` for a timeout that is none."""
        self._environ = dict(os.environ)
        self.wish = Wish(prompt, temperature, max_tokens)
        self.seconds = providers.timeout_seconds(timeout, self._environ)
        self._name = providers.chosen(provider, self._environ)
        self.names: Sequence[str] = providers.order(self._name, self._environ)
        self._failures: list[tuple[str, CallFailed]] = []

    def request(self, name: str) -> Asked:
        return providers.request(name, self.wish, self._environ)

    def note(self, name: str, problem: CallFailed) -> None:
        self._failures.append((name, providers.failed(name, problem)))

    def answer(self, name: str, text: str) -> str:
        """The answer as it is, and the warning when it is not of the provider that was asked for."""
        reasons = [f"{who} failed ({_reason(problem)})" for who, problem in self._failures]
        if self._name not in providers.PROVIDERS:
            reasons.insert(0, f"there is no {self._name[:40]!r}")
        if reasons:
            log.warning("LLM provider %s answers, because %s", name, " and ".join(reasons))
        return text

    def failure(self) -> CallFailed:
        """The first provider's failure: it is the one that was meant."""
        (_, first), *others = self._failures
        for name, problem in others:
            first.add_note(f"then {name}: {problem}")
        return first


def _reason(problem: CallFailed) -> CallFailed:
    behind = problem.__cause__
    return behind if isinstance(behind, CallFailed) else problem
