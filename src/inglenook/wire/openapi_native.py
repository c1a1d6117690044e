"""The routes that earlier systems had, for the API's description: what is below ``/api``, probes, bare paths.

Written out here and not made of tables: their errors and streams have shapes of their own.
"""

from __future__ import annotations

from typing import Any

from inglenook.wire.openapi_events import event_stream

Json = dict[str, Any]

TAG = "As earlier systems had it"
TAG_WORDS = (
    "Routes for programs that were written for another server. Below `/api` an error is "
    '`{"error": text, "code": CODE}`, or plain text for a body that cannot be read, a value out of its '
    "range is moved into it, and a stream ends without `[DONE]`. "
    '`/llm` answers an error with `{"detail": text}`, or with the list of all wrong fields there.'
)
_MODEL = "starter"
_ID = {"x-request-id": {"$ref": "#/components/headers/x-request-id"}}
_LATER = {**_ID, "retry-after": {"$ref": "#/components/headers/retry-after"}}

_TEXT = {"type": "string"}
_NUMBER = {"type": ["number", "null"]}
_OPTIONS: Json = {
    "temperature": {**_NUMBER, "description": "How freely tokens are chosen, 0 to 2."},
    "top_p": {**_NUMBER, "description": "Choose among the likeliest tokens of this probability, 0 to 1."},
    "max_tokens": {"type": ["integer", "null"], "minimum": 0, "description": "The most tokens to generate."},
    "stop": {
        "anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"type": "null"}],
        "description": "Text that ends the answer and is not part of it.",
    },
}
_ASKED = {**_TEXT, "description": "A name that `GET /api/llms` has."}
_MESSAGE: Json = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {**_TEXT, "description": "`system`, `user` or `assistant`; another counts as `user`."},
        "content": {**_TEXT, "description": "The message's text."},
    },
}
_ENDED: Json = {
    "model": {**_TEXT, "description": "The model that was asked."},
    "tokens_generated": {"type": "integer", "description": "Tokens of the answer."},
    "finish_reason": {
        "enum": ["eos", "length", "stop", "error"],
        "description": "`eos`: the model was done, or a `stop` came; `length`: the token limit.",
    },
}
GENERATE = {
    "type": "object",
    "required": ["model", "prompt"],
    "properties": {"model": _ASKED, "prompt": {**_TEXT, "description": "What to answer."}, **_OPTIONS},
}
CHAT = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": _ASKED,
        "messages": {"type": "array", "minItems": 1, "items": _MESSAGE, "description": "The conversation."},
        **_OPTIONS,
    },
}
LLM = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {**_TEXT, "description": "What to complete."},
        "max_tokens": {"type": "integer", "default": 256, "description": "The most tokens to generate."},
        "temperature": {"type": "number", "default": 0.7, "description": "How freely tokens are chosen."},
    },
}
_GENERATED = {"type": "object", "properties": {"text": {**_TEXT, "description": "The answer."}, **_ENDED}}
_ANSWERED = {"type": "object", "properties": {"message": _MESSAGE, **_ENDED}}
_LLM = {
    "type": "object",
    "required": ["id", "name", "description", "capabilities"],
    "properties": {
        "id": _TEXT,
        "name": _TEXT,
        "description": _TEXT,
        "size": _TEXT,
        "capabilities": {"type": "array", "items": _TEXT},
    },
}
_ERROR = {"type": "object", "properties": {"error": _TEXT, "code": _TEXT}}
_PIECE = {"type": "object", "required": ["content"], "properties": {"content": _TEXT}}
_PLAIN: Json = {"text/plain": {"schema": _TEXT}}
_STATUS = {"type": "object", "properties": {"status": _TEXT}}
_READY = {"type": "object", "properties": {"status": _TEXT, "llm_models_loaded": {"type": "boolean"}}}

PROMPT = {"model": _MODEL, "prompt": "What is the capital of France?"}
TALK = {"model": _MODEL, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
_END = {"model": _MODEL, "tokens_generated": 8, "finish_reason": "eos"}
_PARIS = "The capital of France is Paris."
_UNSUPPORTED = {
    "error": "Unsupported model: Model x is not in the allowed models list",
    "code": "UNSUPPORTED_MODEL",
}
_BUSY = {
    "error": "Service temporarily at capacity",
    "message": "Too many concurrent LLM requests. Please retry after a short delay.",
    "retry_after_seconds": 10,
}
_NOT_READY = {"status": "not_ready", "llm_models_loaded": False}
_REFUSED = {
    "400": "A header that may be there once is there twice.",
    "401": "No key, or one that is not known here.",
    "403": "The key is not for this model, or the server answers to this machine's names only.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "429": "The client has had what it may have in a minute, or at once.",
}
BARE: dict[str, tuple[str, Json]] = {
    bare: (
        f"/v1{bare}",
        {
            "operationId": name,
            "tags": [TAG],
            "summary": f"The same as /v1{bare}",
            "description": f"`POST /v1{bare}`, for clients that leave out the `/v1`.",
        },
    )
    for bare, name in (("/chat/completions", "bareChatCompletion"), ("/completions", "bareCompletion"))
}
"""Path to the one that it is another name of, and what its operation has of its own."""


def paths() -> Json:
    """The path items of all but ``BARE``."""
    return {
        "/api/llms": _get(
            "listLlms",
            "List the models, as an array",
            {"type": "array", "items": _LLM},
            {**_refusals(_PLAIN, "400"), **_refusals({"application/json": {"schema": _ERROR}}, "401", "403")},
        ),
        "/api/generate": _ask(
            "generate", "Answer a prompt", (GENERATE, PROMPT), _json(_GENERATED, {"text": _PARIS, **_END})
        ),
        "/api/generate/stream": _ask(
            "generateStream",
            "Answer a prompt, as a stream of text",
            (GENERATE, PROMPT),
            event_stream("A piece of the text itself.", "data: The\n\ndata:  capital\n\n"),
        ),
        "/api/chat": _ask(
            "chat",
            "Answer a conversation",
            (CHAT, TALK),
            _json(_ANSWERED, {"message": {"role": "assistant", "content": _PARIS}, **_END}),
        ),
        "/api/chat/stream": _ask(
            "chatStream",
            "Answer a conversation, as a stream",
            (CHAT, TALK),
            event_stream("A piece of the text.", 'data: {"content":"The"}\n\n', _PIECE),
        ),
        "/llm": _llm(),
        "/health/live": _get("getLive", "Ask whether the server answers", _STATUS),
        "/health/ready": _get(
            "getReady",
            "Ask whether it may be sent requests",
            _READY,
            {"503": _response("Not now.", _json(_READY, _NOT_READY), _LATER)},
        ),
    }


def _json(schema: Json, example: Any) -> Json:
    return {"application/json": {"schema": schema, "example": example}}


def _get(name: str, summary: str, answer: Json, failures: Json | None = None) -> Json:
    operation = _described(name, summary, summary + ".")
    responses = {"200": _response("The answer.", {"application/json": {"schema": answer}})}
    return {"get": {**operation, "responses": responses | (failures or {})}}


def _ask(name: str, summary: str, request: tuple[Json, Json], answer: Json) -> Json:
    schema, example = request
    failed: Json = {"application/json": {"schema": _ERROR}}
    unreadable = {**_json(_ERROR, _UNSUPPORTED), **_PLAIN}
    busy = {"application/json": {"schema": _ERROR, "examples": {"capacity": {"value": _BUSY}}}}
    what = "`UNSUPPORTED_MODEL`, `BAD_REQUEST`, or in plain text what is wrong with the body."
    return {
        "post": {
            **_described(name, summary, summary + ". What does not fit right now is refused at once."),
            "requestBody": {"required": True, "content": _json(schema, example)},
            "responses": {
                "200": _response("The answer.", answer),
                "400": _response(what, unreadable),
                **_refusals(failed, "401", "403", "408"),
                **_refusals(_PLAIN, "413"),
                **_refusals(failed, "429"),
                "500": _response("`GENERATION_ERROR` or `INTERNAL_ERROR`.", failed),
                "503": _response("As many requests as may are running, or `MODEL_LOAD_ERROR`.", busy, _LATER),
            },
        }
    }


def _llm() -> Json:
    details = {"type": "array", "items": {"type": "object"}}
    schema = {"type": "object", "properties": {"detail": {"anyOf": [_TEXT, details]}}}
    failed: Json = {"application/json": {"schema": schema}}
    missing = {"type": "missing", "loc": ["body", "prompt"], "msg": "Field required"}
    words = "The prompt goes to the model as it is, without a chat template around it."
    completion = {**_TEXT, "description": "What came of it, without space around it."}
    answer = {"type": "object", "properties": {"completion": completion}}
    return {
        "post": {
            **_described("llm", "Complete a prompt", words),
            "requestBody": {"required": True, "content": _json(LLM, {"prompt": PROMPT["prompt"]})},
            "responses": {
                "200": _response("The completion.", _json(answer, {"completion": _PARIS})),
                "400": _response("The prompt is too long for the model.", failed),
                **_refusals(failed, "401", "403", "408", "413"),
                "422": _response("Wrong fields.", _json(schema, {"detail": [missing]})),
                **_refusals(failed, "429"),
                "500": _response("The engine's last words.", _json(schema, {"detail": "out of memory"})),
                "503": _response("Not now.", failed, _LATER),
            },
        }
    }


def _refusals(content: Json, *statuses: str) -> Json:
    """Responses for what can be wrong with any request."""
    return {
        status: _response(_REFUSED[status], content, _LATER if status == "429" else None)
        for status in statuses
    }


def _described(name: str, summary: str, description: str) -> Json:
    return {
        "operationId": name,
        "tags": [TAG],
        "summary": summary,
        "description": description,
        "parameters": [{"$ref": "#/components/parameters/x-request-id"}],
    }


def _response(words: str, content: Json, headers: Json | None = None) -> Json:
    return {"description": words, "headers": headers or _ID, "content": content}
