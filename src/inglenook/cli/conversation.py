"""A conversation in the terminal: what is sent, kept and saved. Pure.

It is a list of rounds, a question and its answer each. A round without an answer is not sent again once
the next has begun, because many chat templates want user and assistant to alternate.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from msgspec import Struct

Ending = Literal["open", "complete", "stopped", "cut"]
"""Of an answer: not there yet; whole; stopped by the person; broken off by a failure."""

Number = int | float

SETTINGS: dict[str, tuple[type[int] | type[float], Number | None, Number | None]] = {
    "temperature": (float, 0, 2),
    "top_p": (float, 0, 1),
    "max_tokens": (int, 1, 2**31 - 1),
    "seed": (int, -(2**63), 2**63 - 1),
}
"""What ``/set`` takes: its kind, its lowest and its highest value, as the server has them."""


class Mistake(Exception):
    """The person asked for something that cannot be; the message is one sentence with the mend."""


@dataclass
class Round:
    """One question and what came back."""

    question: str
    answer: str = ""
    ending: Ending = "open"


class SavedMessage(Struct, omit_defaults=True):
    """One message of a saved conversation: OpenAI's shape, and how an answer ended if not well."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    ending: Ending = "complete"


class Saved(Struct, omit_defaults=True):
    """A conversation as a file has it."""

    messages: list[SavedMessage]
    model: str = ""
    settings: dict[str, float | int] = {}


@dataclass
class Conversation:
    """Rounds, the system message and the sampling settings. Only the person's chat changes them."""

    system: str = ""
    settings: dict[str, Number] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)

    def ask(self, question: str) -> Round:
        """Begin a round."""
        self.rounds.append(Round(question))
        return self.rounds[-1]

    def again(self) -> Round:
        """The last round, its answer taken out. Raises ``Mistake`` when there is none."""
        if not self.rounds:
            raise Mistake("there is nothing to ask again yet")
        self.rounds[-1] = Round(self.rounds[-1].question)
        return self.rounds[-1]

    def clear(self) -> None:
        """A new conversation; the system message and the settings stay."""
        self.rounds.clear()

    def messages(self) -> list[dict[str, str]]:
        """What is sent: everything that was answered, and the question that is to be."""
        sent = [{"role": "system", "content": self.system}] if self.system else []
        for at, each in enumerate(self.rounds):
            if each.answer or at == len(self.rounds) - 1:
                sent.append({"role": "user", "content": each.question})
            if each.answer:
                sent.append({"role": "assistant", "content": each.answer})
        return sent

    def request(self, model: str) -> bytes:
        """The body that asks ``model`` for the next answer, as a stream with its usage."""
        body: dict[str, Any] = {"model": model, "messages": self.messages(), **self.settings}
        return msgspec.json.encode(body | {"stream": True, "stream_options": {"include_usage": True}})

    def set(self, name: str, text: str) -> None:
        """Change one setting; an empty ``text`` takes it back. Raises ``Mistake``."""
        _check_name(name)
        if text:
            self.settings[name] = _number(name, text)
        else:
            self.settings.pop(name, None)

    def saved(self, model: str) -> bytes:
        """The conversation as a file has it."""
        kept = Saved(list(self._saved_messages()), model, dict(self.settings))
        return msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n"

    def _saved_messages(self) -> Iterable[SavedMessage]:
        if self.system:
            yield SavedMessage("system", self.system)
        for each in self.rounds:
            yield SavedMessage("user", each.question)
            if each.answer:
                yield SavedMessage("assistant", each.answer, each.ending)


def loaded(data: bytes) -> Conversation:
    """A conversation from a file that ``saved`` made, or from a plain list of OpenAI messages.

    Raises ``Mistake`` with the rest of a sentence that began with the file's name.
    """
    try:
        read = msgspec.json.decode(data, type=Saved | list[SavedMessage])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Mistake("is no saved conversation") from None
    saved = Saved(read) if isinstance(read, list) else read
    found = Conversation()
    for name, value in saved.settings.items():
        found.set(name, str(value))
    for message in saved.messages:
        _take(found, message)
    return found


def _take(found: Conversation, message: SavedMessage) -> None:
    if message.role == "user":
        found.ask(message.content)
    elif message.role == "assistant":
        if not found.rounds or found.rounds[-1].ending != "open":
            raise Mistake("has an answer without a question before it")
        found.rounds[-1].answer, found.rounds[-1].ending = message.content, message.ending
    elif found.rounds or found.system:
        raise Mistake("has a system message that is not the first message")
    else:
        found.system = message.content


def _check_name(name: str) -> None:
    if name in SETTINGS:
        return
    near = difflib.get_close_matches(name, SETTINGS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(SETTINGS)}"
    raise Mistake(f"there is no setting {name!r}: {hint}")


def _number(name: str, text: str) -> Number:
    kind, low, high = SETTINGS[name]
    try:
        value = kind(text)
    except ValueError:
        word = "a whole number" if kind is int else "a number"
        raise Mistake(f"{name} takes {word}, not {text!r}") from None
    # Written this way round, NaN is refused too.
    if not (low is None or value >= low) or not (high is None or value <= high):
        raise Mistake(f"{name} must be between {low} and {high}")
    return value
