"""The JSON of answers, whole and streamed, as llama-server sends it. No I/O, no clock.

The order of keys and events was taken from a llama-server, and so were its peculiarities: a chat
sends its usage in an event of its own, a text completion in its last event, asked for or not; the
native kind ends without `[DONE]`. With several answers, each sends its own usage when it ends, and
the usage of a whole body is that of the first alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from inglenook.workers.echo.answer import Answer, Piece
from inglenook.workers.echo.asking import Ask, Json

FINGERPRINT = "b0-echo"


@dataclass(frozen=True)
class Tally:
    """What an answer cost."""

    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    prompt_seconds: float
    answer_seconds: float

    def usage(self) -> Json:
        """Return the `usage` object."""
        return {
            "completion_tokens": self.answer_tokens,
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.answer_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def timings(self) -> Json:
        """Return llama-server's `timings` object."""
        read = self.prompt_tokens - self.cached_tokens
        return {
            "cache_n": self.cached_tokens,
            "prompt_n": read,
            "prompt_ms": self.prompt_seconds * 1000,
            "prompt_per_second": _rate(read, self.prompt_seconds),
            "predicted_n": self.answer_tokens,
            "predicted_ms": self.answer_seconds * 1000,
            "predicted_per_second": _rate(self.answer_tokens, self.answer_seconds),
        }


@dataclass(frozen=True)
class Label:
    """What every event of one answer repeats."""

    id: str
    created: int
    model: str


@dataclass(frozen=True)
class Progress:
    """How far the reading of a prompt is."""

    total: int
    cache: int
    processed: int
    time_ms: int

    def event(self) -> Json:
        """Return the `prompt_progress` member of an event."""
        return {"prompt_progress": vars(self)}


class Shape(Protocol):
    """One kind of answer. Each method but `body` returns the events for one moment of a stream."""

    terminated: bool
    """Whether `data: [DONE]` ends a stream."""

    def progress(self, progress: Progress) -> list[Json]:
        """Report how far the prompt is read."""
        ...

    def piece(self, index: int, answer: Answer, piece: Piece) -> list[Json]:
        """Show one token, the first of an answer after whatever opens the answer."""
        ...

    def ending(self, index: int, answer: Answer, tally: Tally) -> list[Json]:
        """End one answer."""
        ...

    def body(self, answers: Sequence[Answer], tallies: Sequence[Tally]) -> Any:
        """Return the whole answer of a request that is not streamed."""
        ...


def shape_for(ask: Ask, label: Label) -> Shape:
    """Return the shape of the answer to ``ask``."""
    match ask.kind:
        case "chat":
            return Chat(ask, label)
        case "text":
            return Text(ask, label)
        case "native":
            return Native(ask, label)


class Chat:
    """`/v1/chat/completions`."""

    terminated = True

    def __init__(self, ask: Ask, label: Label) -> None:
        self._ask = ask
        self._label = label
        self._opened: set[int] = set()

    def progress(self, progress: Progress) -> list[Json]:
        """Repeat the opening with the progress, as llama-server does."""
        return [self._event(_choice(0, {"role": "assistant", "content": None})) | progress.event()]

    def piece(self, index: int, answer: Answer, piece: Piece) -> list[Json]:
        """Open with the role, and show text if there is any."""
        events = self._opening(index)
        if piece.text:
            events.append(self._event(_choice(index, {"content": piece.text})))
        return events

    def ending(self, index: int, answer: Answer, tally: Tally) -> list[Json]:
        """Show held text, give the reason, then the usage if asked for; timings go with the last."""
        events = self._opening(index)
        if rest := answer.flush():
            events.append(self._event(_choice(index, {"content": rest})))
        events.append(self._event(_choice(index, {}, answer.finish_reason)))
        if self._ask.include_usage:
            events.append(self._event() | {"usage": tally.usage()})
        events[-1]["timings"] = tally.timings()
        return events

    def body(self, answers: Sequence[Answer], tallies: Sequence[Tally]) -> Json:
        """Return the whole answer; a continued message begins with the part that was given."""
        choices = [
            {
                "finish_reason": answer.finish_reason,
                "index": index,
                "message": {"role": "assistant", "content": self._ask.said + answer.text},
            }
            for index, answer in enumerate(answers)
        ]
        return _body(choices, self._label, "chat.completion", tallies)

    def _opening(self, index: int) -> list[Json]:
        if index in self._opened:
            return []
        self._opened.add(index)
        return [self._event(_choice(index, {"role": "assistant", "content": None}))]

    def _event(self, *choices: Json) -> Json:
        return {
            "choices": list(choices),
            "created": self._label.created,
            "id": self._label.id,
            "model": self._label.model,
            "system_fingerprint": FINGERPRINT,
            "object": "chat.completion.chunk",
        }


class Text:
    """`/v1/completions`."""

    terminated = True

    def __init__(self, ask: Ask, label: Label) -> None:
        self._label = label

    def progress(self, progress: Progress) -> list[Json]:
        """Send an event without text."""
        return [self._event(_text_choice(0, "")) | progress.event()]

    def piece(self, index: int, answer: Answer, piece: Piece) -> list[Json]:
        """Show text, even if it is empty."""
        return [] if piece.text is None else [self._event(_text_choice(index, piece.text))]

    def ending(self, index: int, answer: Answer, tally: Tally) -> list[Json]:
        """Give held text, the reason and the usage in one event, asked for or not."""
        choice = _text_choice(index, answer.flush(), answer.finish_reason)
        return [self._event(choice) | {"usage": tally.usage(), "timings": tally.timings()}]

    def body(self, answers: Sequence[Answer], tallies: Sequence[Tally]) -> Json:
        """Return the whole answer."""
        choices = [
            _text_choice(index, answer.text, answer.finish_reason) for index, answer in enumerate(answers)
        ]
        return _body(choices, self._label, "text_completion", tallies)

    def _event(self, choice: Json) -> Json:
        return {
            "choices": [choice],
            "created": self._label.created,
            "model": self._label.model,
            "system_fingerprint": FINGERPRINT,
            "object": "text_completion",
            "id": self._label.id,
        }


class Native:
    """llama-server's own `/completion`."""

    terminated = False

    def __init__(self, ask: Ask, label: Label) -> None:
        self._ask = ask
        self._model = label.model

    def progress(self, progress: Progress) -> list[Json]:
        """Send an event without text; the id 0 in it stands for nothing."""
        event = {"index": 0, "content": "", "tokens": [0], "stop": False, "id_slot": -1}
        counts = {"tokens_predicted": 0, "tokens_evaluated": progress.total}
        return [event | counts | progress.event()]

    def piece(self, index: int, answer: Answer, piece: Piece) -> list[Json]:
        """Show text and id, whether or not ids were asked for."""
        if piece.text is None:
            return []
        event = {
            "index": index,
            "content": piece.text,
            "tokens": [piece.number],
            "stop": False,
            "id_slot": -1,
        }
        return [
            event
            | {
                "tokens_predicted": len(answer.ids),
                "tokens_evaluated": len(self._ask.prompts[index]),
            }
        ]

    def ending(self, index: int, answer: Answer, tally: Tally) -> list[Json]:
        """Say how the answer ended; the text is held text only, and there are no ids."""
        return [self._final(index, answer, tally, answer.flush(), [])]

    def body(self, answers: Sequence[Answer], tallies: Sequence[Tally]) -> Any:
        """Return one object, or a list of them for several prompts."""
        objects = [
            self._final(index, answer, tally, answer.text, answer.ids if self._ask.return_tokens else [])
            for index, (answer, tally) in enumerate(zip(answers, tallies, strict=True))
        ]
        return objects[0] if len(objects) == 1 else objects

    def _final(self, index: int, answer: Answer, tally: Tally, content: str, tokens: list[int]) -> Json:
        return {
            "index": index,
            "content": content,
            "tokens": tokens,
            "id_slot": 0,
            "stop": True,
            "model": self._model,
            "tokens_predicted": tally.answer_tokens,
            "tokens_evaluated": tally.prompt_tokens,
            "has_new_line": "\n" in answer.text,
            "truncated": answer.truncated,
            "stop_type": answer.stop_type,
            "stopping_word": answer.stopping_word,
            "tokens_cached": tally.prompt_tokens + tally.answer_tokens,
            "timings": tally.timings(),
        }


def _choice(index: int, delta: Json, reason: str | None = None) -> Json:
    return {"finish_reason": reason, "index": index, "delta": delta}


def _text_choice(index: int, text: str, reason: str | None = None) -> Json:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}


def _body(choices: list[Json], label: Label, kind: str, tallies: Sequence[Tally]) -> Json:
    return {
        "choices": choices,
        "created": label.created,
        "model": label.model,
        "system_fingerprint": FINGERPRINT,
        "object": kind,
        "usage": tallies[0].usage(),
        "id": label.id,
        "timings": tallies[0].timings(),
    }


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
