"""Client bodies as llama-server wants them. Pure.

Almost every body goes through byte for byte. Where llama-server means something else than the OpenAI API,
a few fields are appended (of two values for one name the last counts, there as in our own decoder), and
only where messages, tools or a prompt must change is the body written anew around them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import asdict

from inglenook.config.settings import ModelSettings
from inglenook.engines.llamacpp_images import MOST_PIXELS, count_pixels
from inglenook.engines.llamacpp_schema import check_schema
from inglenook.errors import BadRequest
from inglenook.wire.openai import (
    AudioPart,
    ChatRequest,
    CompletionRequest,
    ImagePart,
    Message,
    NamedTool,
    RefusalPart,
    ResponseFormat,
)

Request = ChatRequest | CompletionRequest
Changes = dict[str, Any]
FillIn = tuple[int, int, int]
"""Ids of the tokens before the text, between it and the suffix, and before what fills the gap."""

MOST_LOOKED_BACK = 1 << 20
"""llama-server allocates four bytes for each token that a penalty may look back on."""
COMPLETION_TOKENS = 16
"""What OpenAI's completions give when ``max_tokens`` is left out; llama-server would not stop."""
LONGEST_GRAMMAR = 64 << 10
MEDIA_FLAGS = frozenset({"--mmproj", "-mm", "--mmproj-url", "-mmu"})
_BULKY = frozenset({"messages", "tools", "prompt"})
_SPACE = b" \t\r\n"


def chat_body(model: ModelSettings, request: ChatRequest, body: bytes) -> bytes:
    """``body`` for /v1/chat/completions. Raises ``BadRequest`` for what the engine cannot do."""
    _check_own_fields(request)
    _check_media(model, request)
    _check_constraints(request)
    changes = _missing_defaults(model, request) | _stop_changes(request)
    if request.logprobs and not request.top_logprobs:
        # Without a number the engine gives twenty alternatives for each token, with 0 nothing at all.
        changes["top_logprobs"] = 1
    changes |= _format_changes(request.response_format)
    changes |= _tool_changes(request, body)
    changes |= _message_changes(request.messages, body)
    return changed(body, changes)


def completion_body(
    model: ModelSettings, request: CompletionRequest, body: bytes, fill_in: FillIn | None
) -> bytes:
    """``body`` for /v1/completions. ``fill_in`` is ``None`` for a model that was not made for it."""
    _check_own_fields(request)
    _check_grammar(request)
    changes = _missing_defaults(model, request) | _stop_changes(request)
    if request.max_tokens is None and request.n_predict is None:
        changes.setdefault("max_tokens", COMPLETION_TOKENS)
    if request.logprobs == 0:
        changes["logprobs"] = 1
    if request.suffix:
        changes |= _suffix_changes(request, fill_in)
    return changed(body, changes)


def changed(body: bytes, changes: Changes) -> bytes:
    """``body``, a JSON object with at least one field, with ``changes`` made."""
    if not changes:
        return body
    if _BULKY.isdisjoint(changes):
        return body.rstrip(_SPACE)[:-1] + b"," + msgspec.json.encode(changes)[1:]
    document: dict[str, Any] = _fields(body)
    return msgspec.json.encode(document | changes)


def _fields(body: bytes) -> dict[str, Raw]:
    return msgspec.json.decode(body, type=dict[str, Raw])


def _field(body: bytes, name: str) -> Any:
    return msgspec.json.decode(_fields(body)[name])


def _missing_defaults(model: ModelSettings, request: Request) -> Changes:
    """The model's own sampling values, where the client gave none (null is none)."""
    changes = {
        name: value
        for name, value in asdict(model.defaults).items()
        if value is not UNSET and getattr(request, name) is None
    }
    if request.n_predict is not None or getattr(request, "max_completion_tokens", None) is not None:
        changes.pop("max_tokens", None)
    if changes.get("repeat_penalty", request.repeat_penalty) == 0:
        changes["repeat_penalty"] = 1.0  # it would divide by it; 1 is no penalty, too
    return changes


def _stop_changes(request: Request) -> Changes:
    # An empty stop sequence is found at once: the answer would be empty and look complete.
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return {} if all(stop) else {"stop": [sequence for sequence in stop if sequence]}


def _check_own_fields(request: Request) -> None:
    """llama-server's own fields that would break what the gateway counts on."""
    if request.n_cmpl not in (None, 1):
        raise BadRequest("n_cmpl is not supported here; use n", param="n_cmpl")
    if request.n_predict is not None and not (request.n_predict == -1 or 1 <= request.n_predict < 2**31):
        raise BadRequest("n_predict must be at least 1, or -1 for no limit", param="n_predict")
    for name in ("repeat_last_n", "dry_penalty_last_n"):
        if (getattr(request, name) or 0) > MOST_LOOKED_BACK:
            raise BadRequest(f"{name} must be at most {MOST_LOOKED_BACK}", param=name)


def _check_grammar(request: Request) -> None:
    check_schema(request.json_schema, "json_schema")
    grammar = request.grammar
    if not grammar:
        return
    if len(grammar) > LONGEST_GRAMMAR:
        raise BadRequest(f"grammar must have at most {LONGEST_GRAMMAR} characters", param="grammar")
    if grammar.startswith("%llguidance"):
        # A build without it ends its whole process; one with it answers freely to a grammar it cannot read.
        raise BadRequest("grammar must be GBNF; llguidance grammars are not supported", param="grammar")
    if request.json_schema is not None:
        raise BadRequest("grammar and json_schema cannot go together", param="grammar")


def _check_constraints(request: ChatRequest) -> None:
    """Grammar, schema and tools all bound the same answer: llama-server silently drops one of two."""
    _check_grammar(request)
    for at, tool in enumerate(request.tools or ()):
        check_schema(tool.function.parameters, f"tools[{at}].function.parameters")
    has_format = request.response_format is not None and request.response_format.type != "text"
    if request.grammar and (has_format or request.tools):
        other = "response_format" if has_format else "tools"
        raise BadRequest(f"grammar cannot go together with {other}", param="grammar")
    if request.logprobs and request.stream and request.tools:
        raise BadRequest("logprobs cannot go together with tools in a stream", param="logprobs")


def _check_media(model: ModelSettings, request: ChatRequest) -> None:
    has_senses = bool(model.mmproj) or not MEDIA_FLAGS.isdisjoint(model.args)
    pixels = 0
    for where, part in _media(request):
        if not has_senses:
            kind = "images" if isinstance(part, ImagePart) else "sound"
            raise BadRequest(
                f"This model does not take {kind}. Ask a model that has an `mmproj` file.", param=where
            )
        if isinstance(part, ImagePart):
            pixels += count_pixels(part.image_url.url, f"{where}.image_url.url")
        if pixels > MOST_PIXELS:
            raise BadRequest(
                f"The images of a request may have at most {MOST_PIXELS} pixels together. Make them smaller.",
                param=f"{where}.image_url.url",
            )


def _media(request: ChatRequest) -> Iterator[tuple[str, ImagePart | AudioPart]]:
    """Every part that is not text, and where it stands."""
    for at, message in enumerate(request.messages):
        parts = message.content if isinstance(message.content, list) else []
        for part_at, part in enumerate(parts):
            if isinstance(part, (ImagePart, AudioPart)):
                yield f"messages[{at}].content[{part_at}]", part


def _format_changes(given: ResponseFormat | None) -> Changes:
    if given is None or given.type == "text":
        return {}
    nested = given.json_schema.schema if given.json_schema else None
    schema = given.schema if nested is None else nested
    check_schema(schema, "response_format")
    if schema is False:
        raise BadRequest("The schema false allows no answer at all.", param="response_format")
    if given.type == "json_object" or (nested is not None and nested is not True):
        # To llama-server the schema true is no constraint, so that the answer need not be JSON.
        return {"response_format": {"type": "json_object"}} if schema is True else {}
    wanted: Any = {} if schema is True else schema
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": wanted}}}


def _tool_changes(request: ChatRequest, body: bytes) -> Changes:
    """A named tool becomes the only one, and required: llama-server knows no other way to force it."""
    named = request.tool_choice if isinstance(request.tool_choice, NamedTool) else None
    if not request.tools or (named is None and b"null" not in body):
        return {}
    given = _field(body, "tools")
    tools = [tool | {"function": _without_nulls(tool["function"])} for tool in given]
    if named is None:
        return {"tools": tools} if tools != given else {}
    chosen = [tool for tool in tools if tool["function"]["name"] == named.function.name]
    if not chosen:
        raise BadRequest("tool_choice names a function that is not among the tools", param="tool_choice")
    return {"tools": chosen[:1], "tool_choice": "required", "parallel_tool_calls": False}


def _without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _message_changes(messages: list[Message], body: bytes) -> Changes:
    # Not `any` over the bare calls: each message has to be looked at, because each may be refused.
    needs = [_needs_change(at, message) for at, message in enumerate(messages)]
    if not any(needs):
        return {}
    return {"messages": [_plain_message(message) for message in _field(body, "messages")]}


def _needs_change(at: int, message: Message) -> bool:
    """Whether llama-server would refuse the message as it is. Raises for what it must refuse."""
    needs = False
    for call_at, call in enumerate(message.tool_calls or ()):
        where = f"messages[{at}].tool_calls[{call_at}].function.arguments"
        needs |= not _is_json(call.function.arguments, where)
    if isinstance(message.content, list):
        needs |= any(isinstance(part, RefusalPart) for part in message.content)
    return needs


def _is_json(arguments: str, where: str) -> bool:
    """False for no arguments at all, which clients send for a function that takes none."""
    if not arguments.strip():
        return False
    try:
        msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest("The arguments of a tool call must be JSON.", param=where) from None
    return True


def _plain_message(message: dict[str, Any]) -> dict[str, Any]:
    changed_message = dict(message)
    if isinstance(message.get("content"), list):
        changed_message["content"] = [_plain_part(part) for part in message["content"]]
    if message.get("tool_calls"):
        changed_message["tool_calls"] = [_plain_call(call) for call in message["tool_calls"]]
    return changed_message


def _plain_part(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": part["refusal"]} if part["type"] == "refusal" else part


def _plain_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return call | {"function": function | {"arguments": function["arguments"].strip() or "{}"}}


def _suffix_changes(request: CompletionRequest, fill_in: FillIn | None) -> Changes:
    """The prompt that a fill-in model was trained on.

    Not /infill: that cuts text before the gap to three quarters of a batch and says nothing of it.
    """
    if fill_in is None:
        raise BadRequest("This model cannot fill in text before a suffix.", param="suffix")
    before, between, after = fill_in
    prompt = request.prompts[0]
    given = [prompt] if isinstance(prompt, str) else prompt
    # The empty text in front lets the engine put its first token, if the model has one.
    return {"prompt": ["", before, *given, between, request.suffix, after], "suffix": None}
