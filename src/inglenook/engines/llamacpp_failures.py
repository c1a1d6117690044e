"""llama-server's error answers as ours. Pure.

Its texts may quote the prompt, a tool or a path, so they are only searched, never passed on. They stand
in tools/server/*.cpp, common/chat.cpp and common/sampling.cpp of llama.cpp, and were provoked one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from inglenook.engines.openai_failure import error_of, too_long
from inglenook.errors import BadRequest, EngineError, InglenookError, ModelLoading, Unavailable


@dataclass(frozen=True)
class Refusal:
    """Words of the engine (a pattern), what they mean for the caller, and the field to mend."""

    pattern: str
    message: str
    param: str | None
    code: str | None = None


# First match wins. Status is not looked at: the same mistake is a 400 in one release and a 500 in another.
_REFUSALS = (
    Refusal(r"context size has been exceeded|exceeds the available context size",
            "The prompt and its answer do not fit the model's context. Shorten the prompt.",
            "messages", "context_length_exceeded"),
    Refusal(r"input is too large|physical batch size|input text too large",
            "The input is too long for this model.", "input", "context_length_exceeded"),
    Refusal(r"image input is not supported",
            "This model does not take images.", "messages"),
    Refusal(r"audio input is not supported",
            "This model does not take sound.", "messages"),
    Refusal(r"(video|multimodal).*not support|does not support multimodal",
            "This model takes only text.", "messages"),
    Refusal(r"failed to load image|failed to decode|unable to decode|audio must be base64|"
            r"invalid (url|uri|base64)|uri must be base64|0-pixel",
            "An image or a sound of the messages cannot be read.", "messages"),
    Refusal(r"number of (bitmaps|media)|media marker",
            "The text of a message holds the engine's own mark for an image.", "messages"),
    Refusal(r"failed to download|url.*not (allowed|supported)|file:// urls",
            "Images must be sent inside the request, as data: URLs.", "messages"),
    Refusal(r"json schema|schema error|unrecognized type|\$ref",
            "The JSON schema in response_format, or of a tool's parameters, cannot be followed: use "
            "only the types and keywords of JSON Schema, and references inside the same schema.",
            "response_format", "invalid_schema"),
    Refusal(r"cannot use both json_schema and grammar|cannot specify grammar|custom grammar constraints",
            "grammar cannot go together with a JSON schema or with tools.", "grammar"),
    Refusal(r"failed to parse grammar|grammar stack|lazy grammar|invalid grammar",
            "The grammar (or the JSON schema that became one) cannot be followed: its root rule is "
            "missing, it is not valid GBNF, it recurses to the left, or it repeats too often.",
            "grammar", "invalid_grammar"),
    Refusal(r"tool call arguments as json",
            "The arguments of a tool call in the messages are not valid JSON.", "messages"),
    Refusal(r"--jinja",
            "This model's chat template takes no tools.", "tools"),
    Refusal(r"failed to parse tools|'tools' must|missing tool function|tool_choice",
            "The tools cannot be read. Each needs a type, and a function with a name and parameters.",
            "tools"),
    Refusal(r"logprobs is not supported with tools",
            "logprobs cannot go together with tools in a stream.", "logprobs"),
    Refusal(r"top_logprobs requires logprobs",
            "top_logprobs needs logprobs to be true.", "top_logprobs"),
    Refusal(r"2 or more assistant messages|cannot continue an assistant message|continue_final_message",
            "The messages end in a way that cannot be continued: at most one assistant message, without "
            "tool calls, may stand at the end.", "messages"),
    Refusal(r"failed to parse messages|'messages'|must contain|content\[\]\.type|'content'|'role'|"
            r"content part|tool call",
            "The messages cannot be read. Each needs a role, and content as text or as parts.",
            "messages"),
    Refusal(r"unable to generate parser|while executing|template|jinja|roles must alternate",
            "The model's chat template does not accept these messages: it may not allow their roles, "
            "their order, or tools.", "messages"),
    Refusal(r"infill is not supported",
            "This model cannot fill in text before a suffix.", "suffix"),
    Refusal(r"\"?prompt\"?.*(token|must|elements|empty|not found)|failed to tokenize",
            "The prompt cannot be read. Send a text, or token ids of this model.", "prompt"),
    Refusal(r"bad_alloc|failed to initialize samplers",
            "A sampling value is not one that this model can use.", None),
    Refusal(r"json\.exception|parse error|syntax error",
            "The body is not JSON that the model's engine can read.", None, "invalid_json"),
)  # fmt: skip
_FIELD = re.compile(r"^Field '([a-z_.]{1,40})':")


def failure(status: int, body: bytes) -> InglenookError:
    """The engine's error answer, or the ``error`` event of its stream, as one of ours."""
    error = error_of(body)
    if long := too_long(error):
        return long
    text = error.get("message")
    if status == 503 or error.get("type") == "unavailable_error":
        return _not_now(text)
    if isinstance(text, str) and (refused := _refused(text)):
        return refused
    if 400 <= status < 500 or status == 501:
        return BadRequest("The model's engine cannot do what this request asks for.")
    return EngineError("The model's engine failed to answer this request.")


def _refused(text: str) -> BadRequest | None:
    if field := _FIELD.match(text):
        name = field[1]
        return BadRequest(f"{name} has a value that is not allowed", param=name)
    for refusal in _REFUSALS:
        if re.search(refusal.pattern, text, re.IGNORECASE):
            return BadRequest(refusal.message, param=refusal.param, code=refusal.code)
    return None


def _not_now(text: Any) -> Unavailable:
    if isinstance(text, str) and "loading" in text.lower():
        return ModelLoading("The model is still loading. Ask again in a second.")
    return Unavailable("The model's engine cannot take this request now. Ask again in a second.")
