"""What the generators ask and what the mock upstream answers, byte for byte. Pure.

How a stream is to be paced travels inside the prompt: headers and query strings do not survive every gateway,
the prompt does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

CHAT_PATH = "/v1/chat/completions"
MODEL = "mock"
KEY = "bench-key"
ANSWER_BYTES = 600
DISTINCT = 1024  # requests of a closed loop that differ: a smaller cache never answers

_FILLER = "word "  # a long run of one letter would be a worst case for gateways that count tokens
_PACE = re.compile(rb"deltas=(\d{1,7}) interval_us=(\d{1,9}) delay_us=(\d{1,9})")
_ID = "chatcmpl-0000000000000000"
_CREATED = 1_700_000_000


@dataclass(frozen=True)
class Pace:
    """How the mock is asked to speak: so many deltas, so far apart, the first after a delay."""

    deltas: int = 0
    interval_us: int = 0
    delay_us: int = 0

    def mark(self) -> str:
        return f"deltas={self.deltas} interval_us={self.interval_us} delay_us={self.delay_us}"


# A short stream for timing first tokens. Its events are closer together than Nagle's algorithm
# would let them be.
FIRST_TOKEN_PACE = Pace(deltas=3, interval_us=2000)


def read_pace(body: bytes, default: Pace) -> Pace:
    """The pace named in a request's prompt, or the default when it names none."""
    found = _PACE.search(body)
    return Pace(*(int(part) for part in found.groups())) if found else default


def chat_body(number: str, *, size: int = 0, pace: Pace | None = None) -> bytes:
    """A chat request of exactly ``size`` bytes where that is possible; a stream is asked for with
    its ``pace``.

    ``number`` makes requests differ, so that no cache can answer for the upstream.
    """
    prompt = f"Request {number} {pace.mark() if pace else ''} "
    missing = size - len(_chat_json(prompt, stream=pace is not None))
    filler = (_FILLER * (missing // len(_FILLER) + 1))[: max(0, missing)]
    return _chat_json(prompt + filler, stream=pace is not None)


def _chat_json(prompt: str, *, stream: bool) -> bytes:
    body: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body, separators=(",", ":")).encode()


def http_request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """One whole HTTP/1.1 request, ready to be written."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer_body() -> bytes:
    """The fixed answer to a request that does not stream: ANSWER_BYTES bytes of JSON."""
    empty = _answer_json("")
    return _answer_json((_FILLER * 200)[: ANSWER_BYTES - len(empty)])


def _answer_json(text: str) -> bytes:
    answer = {
        "id": _ID,
        "object": "chat.completion",
        "created": _CREATED,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 60, "total_tokens": 69},
    }
    return json.dumps(answer, separators=(",", ":")).encode()


def delta_text(index: int) -> str:
    """The text of one delta; the number shows a loss, a repetition or a swap at once."""
    return f" word{index:06d}"


def stream_text(deltas: int) -> str:
    """The whole text of a stream."""
    return "".join(delta_text(index) for index in range(deltas))


def stream_events(deltas: int, *, usage: bool) -> list[bytes]:
    """Every event of a stream in order: role, deltas, finish, usage where asked for, and the end."""
    events = [_event({"role": "assistant", "content": ""}, None)]
    events += [_event({"content": delta_text(index)}, None) for index in range(deltas)]
    events.append(_event({}, "stop"))
    if usage:
        events.append(_usage_event(deltas))
    return [*events, b"data: [DONE]\n\n"]


def _event(delta: Mapping[str, str], finish: str | None) -> bytes:
    return _chunk([{"index": 0, "delta": delta, "finish_reason": finish}])


def _usage_event(deltas: int) -> bytes:
    usage = {"prompt_tokens": 9, "completion_tokens": deltas, "total_tokens": deltas + 9}
    return _chunk([], usage=usage)


def _chunk(choices: list[object], **more: object) -> bytes:
    chunk = {
        "id": _ID,
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": MODEL,
        "choices": choices,
        **more,
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


@dataclass(frozen=True)
class Heard:
    """What a stream said, read event by event: for gateways that write every event anew, and for
    true engines.
    """

    events: int
    text: str
    tokens: int | None
    is_ended: bool


def hear(payload: bytes) -> Heard:
    """Read a whole stream's payload; what is no JSON object counts as an event without text."""
    text: list[str] = []
    tokens: int | None = None
    is_ended = False
    lines = [line[5:].strip() for line in payload.split(b"\n") if line.startswith(b"data:")]
    for line in lines:
        is_ended = line == b"[DONE]"
        chunk = _json_object(line)
        text += [_content(choice) for choice in _list(chunk.get("choices"))]
        usage = chunk.get("usage")
        if isinstance(usage, dict) and isinstance(usage.get("completion_tokens"), int):
            tokens = usage["completion_tokens"]
    return Heard(len(lines), "".join(text), tokens, is_ended)


def _json_object(line: bytes) -> dict[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _content(choice: object) -> str:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    content = delta.get("content") if isinstance(delta, dict) else None
    return content if isinstance(content, str) else ""
