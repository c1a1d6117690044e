"""One answer as it comes in: shown at once, and remembered with what it cost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from inglenook.cli.conversation import Conversation, Ending
from inglenook.cli.remote import Failure, Piece, Server
from inglenook.cli.terminal import Terminal
from inglenook.wire.openai import Usage


@dataclass
class Answer:
    """What came, when, and how it ended. ``receive`` alone writes it."""

    began: float
    text: str = ""
    finish: str = ""
    usage: Usage | None = None
    first: float = 0.0
    last: float = 0.0
    ending: Ending = "cut"
    failure: Failure | None = None

    @property
    def cost(self) -> str:
        """Tokens and speed, as one line."""
        if self.usage is None:
            return "the server gave no token counts"
        tokens = self.usage.completion_tokens
        parts = [f"{self.usage.prompt_tokens} prompt + {tokens} answer tokens"]
        # The first token's time is the prompt's.
        if self.last > self.first and tokens > 1:
            parts.append(f"{(tokens - 1) / (self.last - self.first):.1f} tokens/s")
        if self.first:
            parts.append(f"first after {self.first - self.began:.2f} s")
        return ", ".join(parts)


def receive(server: Server, model: str, conversation: Conversation, terminal: Terminal) -> Answer:
    """Ask for the next answer and show it as it comes.

    Ctrl-C ends it, and with it the engine's work, as does any failure; the answer says which it was.
    """
    answer = Answer(began=time.monotonic())
    try:
        with contextlib.closing(server.chat(conversation.request(model))) as pieces:
            _show(pieces, answer, terminal, server, model)
        answer.ending = "complete"
    except KeyboardInterrupt:
        answer.ending = "stopped"
    except Failure as failure:
        answer.failure = failure
    return answer


def _show(pieces: Iterator[Piece], answer: Answer, terminal: Terminal, server: Server, model: str) -> None:
    for piece in pieces:
        if piece.waiting:
            terminal.notice(_why_wait(server, model))
        if piece.text or piece.thought:
            answer.last = time.monotonic()
            answer.first = answer.first or answer.last
        if piece.thought:
            terminal.thought(piece.thought)
        if piece.text:
            answer.text += piece.text
            terminal.answer(piece.text)
        answer.finish = piece.finish or answer.finish
        answer.usage = piece.usage or answer.usage


def _why_wait(server: Server, model: str) -> str:
    try:
        state = server.health()["models"].get(model)
    except Failure:
        state = None
    return "the model is busy..." if state == "ready" else "loading the model..."
