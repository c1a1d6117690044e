"""Bytes to a checked request, or a ``BadRequest`` that names the field and the mend. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, TypeVar

import msgspec

from inglenook.errors import BadRequest
from inglenook.wire.openai import ChatRequest, CompletionRequest, ImagePart
from inglenook.wire.unreadable import unreadable

R = TypeVar("R", ChatRequest, CompletionRequest)
S = TypeVar("S")

# field: lowest and highest value, as OpenAI's reference and llama.cpp's server README have them.
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "repeat_penalty": (0.0, 10.0),
    "n": (1, 128),
    "best_of": (1, 128),
    "top_logprobs": (0, 20),
    "n_probs": (0, 20),
    "seed": (-(2**63), 2**63 - 1),
}
MINIMA: dict[str, float] = {"max_tokens": 1, "max_completion_tokens": 1, "top_k": 0}
MAX_COUNT = 2**31 - 1
MAX_STOP = 16
MAX_MESSAGES = 4096
MAX_TOOLS = 128
MAX_LOGIT_BIAS = 1024
MAX_PROMPTS = 128
# What a field with few values may be, for the error that says so.
ALLOWED = {
    "messages[].role": "developer, system, user, assistant or tool",
    "messages[].content[].type": "text, image_url, input_audio or refusal",
    "tools[].type": "function",
    "response_format.type": "text, json_object or json_schema",
    "embedding_type": "dense, sparse or colbert",
    "encoding_format": "float or base64",
    "tool_choice": "none, auto, required, or a function's name as an object",
}

_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "null": "null",
    "array": "an array",
    "object": "an object",
}
_WRONG_TYPE = re.compile(r"Expected `(?P<want>[^`]+)`, got `(?P<got>[^`]+)`")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]+)`")
_PATH = re.compile(r" - at `(?P<where>[^`]+)`$")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\[\]]{1,120}")


def reader(
    shape: type[R],
    check: Callable[[R], None],
    ranges: Mapping[str, tuple[float, float]] = RANGES,
    minima: Mapping[str, float] = MINIMA,
) -> Callable[[bytes], R]:
    """A function from a body to a checked ``shape``. Build once: decoders are costly to make."""
    decoder = msgspec.json.Decoder(shape)
    names = [name for name in (*ranges, *minima) if name in shape.__struct_fields__]
    numbers, unsaid = attrgetter(*names), (None,) * len(names)

    def read(body: bytes) -> R:
        request = decoded(decoder, body)
        said = numbers(request)
        if said != unsaid:
            for name, value in zip(names, said, strict=True):
                if value is not None:
                    _check_number(name, value, ranges.get(name), minima.get(name, 0))
        _check_rest(request)
        check(request)
        return request

    return read


def decoded(decoder: msgspec.json.Decoder[S], body: bytes) -> S:
    """``body`` in the decoder's shape. Raises ``BadRequest`` naming the field, wherever there is one."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as wrong:
        raise explained(str(wrong)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise unreadable(body, problem) from None


def check_chat(request: ChatRequest) -> None:
    if not request.messages:
        raise BadRequest("messages must have at least one message", param="messages")
    if len(request.messages) > MAX_MESSAGES:
        raise BadRequest(f"messages must have at most {MAX_MESSAGES} messages", param="messages")
    if request.functions:
        raise BadRequest("functions is no longer part of the API; describe them in tools", param="functions")
    if request.modalities and request.modalities != ["text"]:
        raise BadRequest('modalities can only be ["text"] here', param="modalities")
    if request.top_logprobs is not None and not request.logprobs:
        raise BadRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    if request.response_format and request.response_format.type == "json_schema":
        wanted = request.response_format.json_schema
        if (wanted is None or wanted.schema is None) and request.response_format.schema is None:
            raise BadRequest(
                "response_format.json_schema.schema is required when the type is json_schema",
                param="response_format.json_schema.schema",
            )
    if request.tools and len(request.tools) > MAX_TOOLS:
        raise BadRequest(f"tools must have at most {MAX_TOOLS} tools", param="tools")
    if request.tool_choice not in (None, "none", "auto") and not request.tools:
        raise BadRequest("tool_choice needs tools to choose from", param="tool_choice")
    _check_images(request)


def _check_images(request: ChatRequest) -> None:
    # An engine would fetch an address by itself, from inside the operator's network.
    for at, message in enumerate(request.messages):
        if not isinstance(message.content, list):
            continue
        for part_at, part in enumerate(message.content):
            if isinstance(part, ImagePart) and not part.image_url.url.startswith("data:"):
                raise BadRequest(
                    "images must be sent inside the request, as a data: URL",
                    param=f"messages[{at}].content[{part_at}].image_url.url",
                )


def check_completion(request: CompletionRequest) -> None:
    if isinstance(request.prompt, list):
        _check_prompt_list(request.prompt)
    if request.logprobs is not None and not 0 <= request.logprobs <= 5:
        raise BadRequest("logprobs must be between 0 and 5", param="logprobs")
    if request.best_of is not None and request.best_of != (request.n or 1):
        raise BadRequest("best_of must equal n: every choice is returned", param="best_of")
    if request.echo and request.logprobs is not None:
        raise BadRequest(
            "logprobs of the prompt are not to be had: leave out echo or logprobs", param="logprobs"
        )
    if request.echo and request.suffix is not None:
        raise BadRequest("echo and suffix cannot go together", param="suffix")


def _check_prompt_list(prompt: list[Any]) -> None:
    if not prompt:
        raise BadRequest("prompt must not be an empty list", param="prompt")
    if all(_is_token(item) for item in prompt):
        return
    if len(prompt) > MAX_PROMPTS:
        raise BadRequest(f"prompt must have at most {MAX_PROMPTS} prompts", param="prompt")
    texts = all(isinstance(item, str) for item in prompt)
    tokens = all(isinstance(item, list) and item and all(map(_is_token, item)) for item in prompt)
    if not texts and not tokens:
        raise BadRequest(
            "prompt must be a string, a list of strings, a list of token ids, "
            "or a list of lists of token ids",
            param="prompt",
        )


def _is_token(item: Any) -> bool:
    return type(item) is int and 0 <= item < 2**31


def _check_number(name: str, value: float, between: tuple[float, float] | None, least: float) -> None:
    if between is None:
        if value < least:
            raise BadRequest(f"{name} must be at least {least}", param=name)
        if value > MAX_COUNT:
            raise BadRequest(f"{name} must be at most {MAX_COUNT}", param=name)
    elif not between[0] <= value <= between[1]:
        raise BadRequest(f"{name} must be between {between[0]} and {between[1]}", param=name)


def _check_rest(request: ChatRequest | CompletionRequest) -> None:
    if request.stop is not None and len(request.stop) > MAX_STOP and isinstance(request.stop, list):
        raise BadRequest(f"stop must have at most {MAX_STOP} sequences", param="stop")
    if request.logit_bias:
        _check_logit_bias(request.logit_bias)
    if request.stream_options is not None and not request.stream:
        raise BadRequest("stream_options needs stream to be true", param="stream_options")


def _check_logit_bias(bias: dict[str, float]) -> None:
    if len(bias) > MAX_LOGIT_BIAS:
        raise BadRequest(f"logit_bias must have at most {MAX_LOGIT_BIAS} tokens", param="logit_bias")
    for token, value in bias.items():
        if not token.isdecimal():
            raise BadRequest("logit_bias must map token ids to numbers", param="logit_bias")
        if not -100 <= value <= 100:
            raise BadRequest("logit_bias values must be between -100 and 100", param="logit_bias")


def explained(message: str) -> BadRequest:
    """msgspec's sentence in ours: "temperature must be a number, not a string"."""
    at = _PATH.search(message)
    # "$.messages[0].content" -> "messages[0].content"; "[...]" stands for any key of a map.
    where = at["where"].removeprefix("$").removeprefix(".").replace("[...]", "") if at else ""
    if missing := _MISSING.search(message):
        name = f"{where}.{missing['name']}" if where else missing["name"]
        return BadRequest(f"{name} is required", param=name, code="missing_required_parameter")
    where = where if _PLAIN_NAME.fullmatch(where) else ""
    subject = where or "The body"
    if wrong := _WRONG_TYPE.search(message):
        kinds = [kind for kind in wrong["want"].split(" | ") if kind != "null"]
        want = " or ".join(dict.fromkeys(_word(kind) for kind in kinds))
        return BadRequest(
            f"{subject} must be {want}, not {_word(wrong['got'])}",
            param=where or None,
            code="invalid_type",
        )
    if allowed := ALLOWED.get(re.sub(r"\[\d+\]", "[]", where)):
        return BadRequest(f"{subject} must be {allowed}", param=where)
    return BadRequest(f"{subject} has a value that is not allowed", param=where or None)


def _word(kind: str) -> str:
    return _WORDS.get(kind, "an object")
