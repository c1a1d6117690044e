"""What a request asks for: JSON bodies into plain values. No I/O.

What is wrong with a body is said in llama-server's words.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from inglenook.workers.echo.tokens import Tokenizer, UnknownToken

Json = dict[str, Any]
Kind = Literal["chat", "text", "native"]

WRONG_PROMPT = (
    '"prompt" elements must be a string, a list of tokens, a JSON object containing a prompt '
    "string, or a list of mixed strings & tokens."
)


class Refusal(Exception):
    """An answer other than 200, in llama-server's error shape."""

    def __init__(self, code: int, message: str, kind: str = "invalid_request_error", **more: int) -> None:
        super().__init__(message)
        self.code = code
        self.body: Json = {"error": {"code": code, "message": message, "type": kind, **more}}


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request for answers."""

    kind: Kind
    prompts: Sequence[list[int]]
    """The ids of each prompt, once for every answer wanted."""
    said: str = ""
    """The part of the answer that the request gave: a whole chat answer begins with it."""
    limit: int
    stops: Sequence[str]
    stream: bool
    include_usage: bool
    return_tokens: bool
    return_progress: bool


def read_object(body: bytes) -> Json:
    """Return the JSON object in ``body``; any other JSON counts as an empty one."""
    try:
        value = json.loads(body)
        if b"\\ud" in body.lower():
            # Python's reader lets a lone surrogate pass.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as wrong:
        # Not JSON, not UTF-8, a lone surrogate, or nested without end.
        raise Refusal(400, f"[json.exception.parse_error.101] parse error: {wrong}") from wrong
    return value if isinstance(value, dict) else {}


def read_chat(body: Json, tokenizer: Tokenizer, slots: int) -> Ask:
    """Read the body of `/v1/chat/completions`."""
    prompt, said = render_chat(body)
    copies = _copies(body, slots)
    return _ask("chat", body, [tokenizer.encode(prompt)] * copies, said=said)


def read_text(body: Json, tokenizer: Tokenizer, slots: int) -> Ask:
    """Read the body of `/v1/completions`."""
    prompts = _prompts(body, tokenizer)
    copies = _copies(body, slots)
    return _ask("text", body, [prompt for prompt in prompts for _ in range(copies)])


def read_native(body: Json, tokenizer: Tokenizer, slots: int) -> Ask:
    """Read the body of llama-server's own `/completion`."""
    return _ask("native", body, _prompts(body, tokenizer))


def render_chat(body: Json) -> tuple[str, str]:
    """Return the prompt for ``messages``, and the part of the answer that they give."""
    messages = body.get("messages")
    if messages is None:
        raise Refusal(400, "'messages' is required")
    if not isinstance(messages, list):
        raise Refusal(400, "Expected 'messages' to be an array")
    continues = _continues(body, messages)
    turns = [_turn(message) for message in messages]
    said = turns.pop()[1] if continues else ""
    prompt = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    if continues or body.get("add_generation_prompt", True):
        prompt += f"<|im_start|>assistant\n{said}"
    return prompt, said


def read_inputs(body: Json, tokenizer: Tokenizer) -> list[list[int]]:
    """Return the ids of each text of an embeddings request."""
    value = body.get("input", body.get("content"))
    if value is None:
        raise Refusal(400, '"input" or "content" must be provided')
    return _prompt_list(value, tokenizer)


def _ask(kind: Kind, body: Json, prompts: Sequence[list[int]], *, said: str = "") -> Ask:
    options = body.get("stream_options")
    return Ask(
        kind=kind,
        prompts=prompts,
        said=said,
        limit=_limit(body),
        stops=_stops(body),
        stream=bool(body.get("stream", False)),
        include_usage=isinstance(options, Mapping) and bool(options.get("include_usage")),
        return_tokens=bool(body.get("return_tokens", False)),
        return_progress=bool(body.get("return_progress", False)),
    )


def _limit(body: Json) -> int:
    for name in ("n_predict", "max_completion_tokens", "max_tokens"):
        if body.get(name) is not None:
            return _integer(body, name)
    return -1


def _copies(body: Json, slots: int) -> int:
    if body.get("n") is None:
        return 1
    copies = _integer(body, "n")
    if not 1 <= copies <= slots:
        raise Refusal(400, f"Field 'n': Value must be between 1 <= value <= {slots}, but got {copies}")
    return copies


def _stops(body: Json) -> list[str]:
    value = body.get("stop")
    words = [value] if isinstance(value, str) else value or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise Refusal(400, f"Field 'stop': {_wrong_type('array', value)}")
    return [word for word in words if word]


def _prompts(body: Json, tokenizer: Tokenizer) -> list[list[int]]:
    if "prompt" not in body:
        raise Refusal(400, "[json.exception.out_of_range.403] key 'prompt' not found")
    return _prompt_list(body["prompt"], tokenizer)


def _prompt_list(value: object, tokenizer: Tokenizer) -> list[list[int]]:
    """Read one prompt (text, or a list of ids and texts) or a list of prompts."""
    if value == []:
        raise Refusal(400, '"prompt" must not be empty')
    many = isinstance(value, list) and not any(_is_id(part) for part in value)
    parts = value if many and isinstance(value, list) else [value]
    return [_prompt_ids(part, tokenizer) for part in parts]


def _prompt_ids(value: object, tokenizer: Tokenizer) -> list[int]:
    ids: list[int] = []
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str):
            ids += tokenizer.encode(part)
        elif isinstance(part, int) and _is_id(part) and part is not value:
            ids.append(part)
        else:
            raise Refusal(400, WRONG_PROMPT)
    try:
        tokenizer.decode(ids)
    except UnknownToken as wrong:
        raise Refusal(400, "Prompt contains invalid tokens") from wrong
    return ids


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _continues(body: Json, messages: Sequence[object]) -> bool:
    """Return whether the last message is an answer to be carried on; that needs no flag."""
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    asked = bool(body.get("continue_final_message", False))
    if asked and body.get("add_generation_prompt", True):
        raise Refusal(400, "Cannot set both add_generation_prompt and continue_final_message to true.")
    if roles[-2:] == ["assistant", "assistant"]:
        raise Refusal(400, "Cannot have 2 or more assistant messages at the end of the list.")
    last = messages[-1] if messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return False
    if last.get("tool_calls"):
        raise Refusal(400, "Cannot continue an assistant message that contains tool calls.")
    return True


def _turn(message: object) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise Refusal(400, "All non-assistant messages must contain 'content'")
    role = message.get("role")
    if not isinstance(role, str):
        raise Refusal(500, "Failed to parse messages: Missing 'role' in message", "server_error")
    if "content" not in message and role != "assistant":
        raise Refusal(400, "All non-assistant messages must contain 'content'")
    return role, _content(message.get("content"))


def _content(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise Refusal(400, f"Failed to parse messages: Invalid 'content' type: {_wrong_type('array', value)}")
    return "\n".join(_content_part(part) for part in value)


def _content_part(part: object) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise Refusal(
            500,
            "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
            "server_error",
        )
    return text


def _integer(body: Json, name: str) -> int:
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise Refusal(400, f"Field '{name}': {_wrong_type('number', value)}")
    return int(max(-1, min(value, 1 << 31)))


def _wrong_type(wanted: str, value: object) -> str:
    names = {
        bool: "boolean",
        int: "number",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
    }
    name = names.get(type(value), "null")
    return f"[json.exception.type_error.302] type must be {wanted}, but is {name}"
