"""The OpenAI API's shapes: what a request may say, checked, and the pieces of an answer we read.

Requests are decoded once into these structs to be checked and routed; the client's bytes are kept and
forwarded. Unknown fields pass through untouched: they belong to the engine.
Contract: OpenAI API reference, "Create chat completion" and "Create completion".
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from inglenook.wire.model_name import Addresses


class StreamOptions(Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ImageUrl(Struct):
    url: str
    detail: str | None = None


class TextPart(Struct, tag="text"):
    text: str


class ImagePart(Struct, tag="image_url"):
    image_url: ImageUrl


class AudioPart(Struct, tag="input_audio"):
    input_audio: dict[str, Any]


class RefusalPart(Struct, tag="refusal"):
    refusal: str


Part = TextPart | ImagePart | AudioPart | RefusalPart


class FunctionCall(Struct):
    name: str
    arguments: str


class ToolCall(Struct):
    function: FunctionCall
    id: str | None = None
    type: Literal["function"] = "function"


class Message(Struct):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Function(Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct):
    function: Function
    type: Literal["function"] = "function"


class NamedFunction(Struct):
    name: str


class NamedTool(Struct):
    function: NamedFunction
    type: Literal["function"] = "function"


class JsonSchema(Struct):
    name: str | None = None
    schema: dict[str, Any] | bool | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema: dict[str, Any] | bool | None = None


class Asides(Addresses, kw_only=True):
    """What a request says beside what it asks for. The response cache looks whether it is there."""

    user: str | None = None
    safety_identifier: Any = None
    metadata: Any = None
    store: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    web_search_options: Any = None
    t_max_predict_ms: Any = None
    xtc_probability: Any = None


class _Sampling(Asides, kw_only=True):
    """What both endpoints share. ``None`` is "not given"; llama.cpp's own samplers are at the end."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    grammar: str | None = None
    n_predict: int | None = None
    n_probs: int | None = None
    n_cmpl: int | None = None
    repeat_last_n: int | None = None
    dry_penalty_last_n: int | None = None
    json_schema: Any = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(_Sampling, kw_only=True):
    """``POST /v1/chat/completions``."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    modalities: list[str] | None = None


class CompletionRequest(_Sampling, kw_only=True):
    """``POST /v1/completions``."""

    prompt: str | list[Any] = ""
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one: a list of token ids is one prompt."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and all(isinstance(token, int) for token in self.prompt):
            return [self.prompt]
        return self.prompt


class PromptTokensDetails(Struct):
    cached_tokens: int = 0


class Usage(Struct):
    """Token counts of one answer, as the engine gave them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = None

    @property
    def cached_tokens(self) -> int:
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else 0


class Timings(Struct):
    """llama.cpp's own count, in the last event of every answer: ``cache_n + prompt_n`` is the prompt."""

    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


class Tail(Struct):
    """What the last piece of an answer tells us. Text is not decoded."""

    choices: list[msgspec.Raw] = []
    usage: Usage | None = None
    timings: Timings | None = None
    error: Any = None

    @property
    def tokens(self) -> Usage | None:
        """The usage as given, else as llama.cpp's timings have it."""
        if self.usage is not None or self.timings is None:
            return self.usage
        prompt = self.timings.cache_n + self.timings.prompt_n
        return Usage(
            prompt,
            self.timings.predicted_n,
            prompt + self.timings.predicted_n,
            PromptTokensDetails(self.timings.cache_n),
        )


_TAIL = msgspec.json.Decoder(Tail)


def read_tail(payload: bytes) -> Tail | None:
    """``payload`` (a whole answer, or one event's data) as a ``Tail``; ``None`` when it is not one."""
    try:
        return _TAIL.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def usage_apart(payload: bytes, *, wanted: bool) -> list[bytes]:
    """A last chunk with choices and usage as the API has it: the usage in a chunk of its own, or nowhere."""
    chunk: dict[str, Any] = msgspec.json.decode(payload)
    usage = chunk.pop("usage", None)
    parts = [msgspec.json.encode(chunk)]
    if wanted:
        chunk.pop("timings", None)
        parts.append(msgspec.json.encode(chunk | {"choices": [], "usage": usage}))
    return parts
