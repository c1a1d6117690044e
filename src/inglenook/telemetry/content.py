"""Prompts and answers in the shape that OpenTelemetry's GenAI conventions have for them.

``gen_ai.input.messages`` and ``gen_ai.output.messages`` are JSON: messages of a role and parts. Only called
when an operator asked for content in traces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from inglenook.wire import sse

Json = dict[str, Any]


def input_messages(body: bytes) -> str:
    """The messages, or the prompt, of a request's body."""
    request = _object(body)
    messages = request.get("messages")
    if not isinstance(messages, list):
        prompt = request.get("prompt")
        prompts = prompt if isinstance(prompt, list) and prompt and isinstance(prompt[0], str) else [prompt]
        messages = [{"role": "user", "content": each} for each in prompts]
    return _encoded([_message(each) for each in messages if isinstance(each, dict)])


def output_messages(answer: bytes) -> str:
    """The choices of an answer, whole or streamed; of one to ``/llm`` its only text."""
    if not answer.lstrip().startswith(b"{"):
        return _encoded(list(_streamed(answer)))
    found = _object(answer)
    only = [{"text": found["completion"]}] if "completion" in found else []
    choices = found.get("choices") or only
    return _encoded([_choice(each) for each in choices if isinstance(each, dict)])


def _choice(choice: Json) -> Json:
    message = choice.get("message") or {"content": choice.get("text")}
    made = _message({"role": "assistant"} | message)
    return made | {"finish_reason": choice.get("finish_reason") or ""}


def _streamed(answer: bytes) -> Iterator[Json]:
    """Each choice of a stream, put together from its pieces."""
    texts: dict[int, list[str]] = {}
    reasons: dict[int, str] = {}
    for payload in sse.payloads(answer):
        for choice in _object(payload).get("choices") or []:
            index = choice.get("index", 0)
            delta = choice.get("delta") or {"content": choice.get("text")}
            texts.setdefault(index, []).append(delta.get("content") or "")
            reasons[index] = choice.get("finish_reason") or reasons.get(index, "")
    for index in sorted(texts):
        message = _message({"role": "assistant", "content": "".join(texts[index])})
        yield message | {"finish_reason": reasons[index]}


def _message(message: Json) -> Json:
    content = message.get("content")
    if isinstance(content, list):
        parts = [_part(each) for each in content]
    elif content is None:
        parts = []
    else:
        parts = [{"type": "text", "content": content}]
    for call in message.get("tool_calls") or []:
        function = call.get("function") or {}
        parts.append({"type": "tool_call", "id": call.get("id"), **function})
    return {"role": message.get("role"), "parts": parts}


def _part(part: Any) -> Json:
    if isinstance(part, dict) and part.get("type") == "text":
        return {"type": "text", "content": part.get("text")}
    # Pictures and sounds are large, and nobody reads them in a trace.
    return {"type": part.get("type") if isinstance(part, dict) else "text"}


def _object(data: bytes) -> Json:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _encoded(messages: list[Json]) -> str:
    return msgspec.json.encode(messages).decode()
