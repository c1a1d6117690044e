"""What each field of a request means, in the order in which people read them.

The shapes themselves are in ``wire.openai`` and the limits in ``wire.check``; here are only the words, and
the few constraints that a check makes in code. A test wants words for every field of every request.
"""

from __future__ import annotations

from typing import Any

from inglenook.wire.check import MAX_LOGIT_BIAS, MAX_PROMPTS, MAX_STOP, MAX_TOOLS, MINIMA, RANGES

Words = dict[str, str]

_FIRST = {
    "model": "The model to ask: an id from `GET /v1/models`, or an alias of one.",
}
_SHARED = {
    "max_tokens": "The most tokens to generate. Without it, the model's own setting, else until the "
    "model is done or its context is full.",
    "temperature": "How freely tokens are chosen: 0 is always the likeliest one. Without it, the "
    "model's own setting.",
    "top_p": "Choose among the likeliest tokens that together have this probability.",
    "stream": "Send the answer as server-sent events while it is made.",
    "stream_options": "Needs `stream`.",
    "stop": f"Text that ends the answer and is not part of it; up to {MAX_STOP} of them.",
    "n": "How many answers to make. Each takes a slot of the model; they run side by side.",
    "seed": "The same seed, request, model and machine give the same answer; with `n`, each answer "
    "adds its index to it.",
    "frequency_penalty": "Above 0: tokens become less likely the more often they have appeared.",
    "presence_penalty": "Above 0: tokens become less likely once they have appeared.",
    "logit_bias": f"Token id to a number that is added to its logit, at most {MAX_LOGIT_BIAS} ids.",
    "user": "Your own name for the end user. Passed on, and not used.",
}
_LLAMA = {
    "top_k": "llama.cpp: choose among this many likeliest tokens; 0 is all of them.",
    "min_p": "llama.cpp: leave out tokens less likely than this share of the likeliest one.",
    "repeat_penalty": "llama.cpp: above 1, tokens that have appeared become less likely; 1 is off.",
    "grammar": "llama.cpp: a GBNF grammar that the answer must follow. Not together with `json_schema`.",
    "n_predict": "llama.cpp's own name for `max_tokens`; -1 is no limit.",
    "n_probs": "llama.cpp: report this many likeliest tokens in the place of each.",
    "repeat_last_n": "llama.cpp: how many of the last tokens the penalties look at; 0 is none, -1 the whole "
    "context.",
    "dry_penalty_last_n": "llama.cpp: the same for its DRY penalty against repeated phrases.",
    "json_schema": "llama.cpp: a JSON schema that the answer must follow.",
    "n_cmpl": "llama.cpp's own name for `n`. Not taken here: use `n`.",
}

SCHEMAS: Words = {
    "ChatRequest": "A conversation to be continued. Fields that are not listed here are passed on to the "
    "model's engine as they are.",
    "CompletionRequest": "Text to be continued. Fields that are not listed here are passed on to the "
    "model's engine as they are.",
    "Message": "One message of the conversation.",
    "TextPart": "Text.",
    "ImagePart": "An image, for a model that sees.",
    "ImageUrl": "The image, inside the request.",
    "AudioPart": "Sound, for a model that hears.",
    "RefusalPart": "A refusal that the assistant gave before.",
    "ToolCall": "A tool that the assistant called.",
    "FunctionCall": "The function and what it was called with.",
    "Tool": "A tool that the model may call.",
    "Function": "What the model is told about a function.",
    "NamedTool": "The one tool that must be called.",
    "NamedFunction": "The tool's function.",
    "ResponseFormat": "The form of the answer.",
    "JsonSchema": "A JSON schema under a name.",
    "StreamOptions": "What a stream tells beside its text.",
    "EmbeddingRequest": "Texts to be made into vectors.",
    "RerankRequest": "A query, and documents to be put in the order in which they fit it.",
    "Document": "A document.",
    "LoadRequest": "The model that is meant.",
    "Usage": "Tokens of one request, as the engine counted them.",
    "PromptTokensDetails": "More about the prompt's tokens.",
    "Timings": "llama.cpp's own count.",
}
"""What a component is. These stand in for the docstrings, which speak to programmers."""

FIELDS: dict[str, Words] = {
    "ChatRequest": {
        **_FIRST,
        "messages": "The conversation so far, oldest first.",
        **_SHARED,
        "max_completion_tokens": "The newer name of `max_tokens`.",
        "response_format": "Make the answer JSON, or JSON that follows a schema.",
        "tools": f"Functions that the model may ask to have called, at most {MAX_TOOLS}.",
        "tool_choice": "Whether tools are called: `none`, `auto`, `required`, or the one that must be.",
        "parallel_tool_calls": "Whether one answer may call several tools.",
        "logprobs": "Report the log probability of each token.",
        "top_logprobs": "How many likeliest tokens to report for each place. Needs `logprobs`.",
        "functions": 'No longer part of the API: a 400. Use `tools` with `"type": "function"`.',
        "modalities": 'Only `["text"]`.',
        **_LLAMA,
    },
    "CompletionRequest": {
        **_FIRST,
        "prompt": f"A text, a list of token ids, or a list of up to {MAX_PROMPTS} of either.",
        **_SHARED,
        "suffix": "Text that comes after the gap, for a model that was trained to fill one in; else a 400.",
        "echo": "Put the prompt before its continuation.",
        "logprobs": "Report the log probabilities of this many likeliest tokens in each place.",
        "best_of": "Must equal `n`: every answer is returned.",
        **_LLAMA,
    },
    "EmbeddingRequest": {
        "model": "The model to ask: an id from `GET /v1/models`, or an alias of one.",
        "input": "A text, a list of texts, a list of token ids, or a list of such lists. How many and how "
        "long they may be is set in `[limits]`.",
        "encoding_format": "`float` for numbers, `base64` for the bytes of little-endian float32: a quarter "
        "of the size, and what the official clients decode by themselves.",
        "dimensions": "Only this many of the vector's first numbers, brought back to length 1 where the "
        "model gives vectors of length 1. At most the model's own.",
        "truncate": "Cut what is longer than the model reads, and say so in the answer. Otherwise it is a "
        "400 that names the input.",
        "embedding_type": "`dense` is what every model makes; `sparse` and `colbert` need one like BGE-M3.",
        "return_sparse": "Give token weights too, in `sparse_embedding`.",
        "return_colbert": "Give a vector for each token too, in `colbert_embedding`.",
        "user": "Your own name for the end user. Not used.",
    },
    "RerankRequest": {
        "model": "The model to ask: a reranker, or any model that makes embeddings. With `texts` it may be "
        "left out.",
        "query": "What is looked for.",
        "documents": "The texts to compare with it, as strings or as objects with a `text`.",
        "top_n": "Answer with this many of the best only.",
        "top_k": "Another name of `top_n`.",
        "return_documents": "Repeat the documents' texts in the answer; true when not given.",
        "raw_scores": "Give the model's own scores, whatever their range, and not 0 to 1.",
        "truncate": "Cut what is longer than the model reads, and say so in the answer. Otherwise it is a "
        "400 that names the document.",
        "max_tokens_per_doc": "Cohere's wish to have long documents cut: here they are cut to what the model "
        "reads.",
        "texts": "TEI's name for `documents`: the answer, and any error, is then in the shape of TEI.",
        "return_text": "TEI's name for `return_documents`; false when not given.",
        "truncation_direction": "TEI's. Only `right`: the end is cut.",
    },
    "Document": {"text": "Its text."},
    "LoadRequest": {"model": "An id from `GET /v1/models`, or an alias of one."},
    "StreamOptions": {
        "include_usage": "Send a last chunk with the token counts.",
        "include_obfuscation": "Passed on. Engines on this machine do not know it.",
    },
    "Message": {
        "role": "Who speaks.",
        "content": "What is said: text, or a list of parts.",
        "name": "The speaker's name, where several share a role.",
        "tool_calls": "With role `assistant`: the tools it called.",
        "tool_call_id": "With role `tool`: which call this answers.",
    },
    "TextPart": {"type": "Always `text`.", "text": "The text."},
    "ImagePart": {"type": "Always `image_url`.", "image_url": "The image."},
    "ImageUrl": {
        "url": "A `data:` URL. Addresses are refused: the server fetches nothing.",
        "detail": "`low`, `high` or `auto`, for engines that know it.",
    },
    "AudioPart": {
        "type": "Always `input_audio`.",
        "input_audio": "`data` (base64) and `format` (`wav` or `mp3`).",
    },
    "RefusalPart": {"type": "Always `refusal`.", "refusal": "The refusal's text."},
    "ToolCall": {
        "id": "The call's id, which the tool's answer names.",
        "type": "Always `function`.",
        "function": "The function that is called.",
    },
    "FunctionCall": {
        "name": "The function's name.",
        "arguments": "Its arguments as JSON text. The model wrote it: check it before use.",
    },
    "Tool": {"type": "Always `function`.", "function": "The function."},
    "Function": {
        "name": "The name that the model calls it by.",
        "description": "When and how to use it, for the model to read.",
        "parameters": "Its arguments, as a JSON schema.",
        "strict": "Whether the arguments must follow the schema.",
    },
    "NamedTool": {"type": "Always `function`.", "function": "The function."},
    "NamedFunction": {"name": "The name of one of `tools`."},
    "ResponseFormat": {
        "type": "`text`, `json_object`, or `json_schema` for JSON that follows a schema.",
        "json_schema": "The schema, with type `json_schema`.",
        "schema": "llama.cpp's place for the schema.",
    },
    "JsonSchema": {
        "name": "A name for it.",
        "schema": "The JSON schema.",
        "strict": "Whether the answer must follow it. With llama.cpp it always does.",
        "description": "What the answer is for.",
    },
    "Usage": {
        "prompt_tokens": "Tokens of the prompt.",
        "completion_tokens": "Tokens of all answers together.",
        "total_tokens": "Both.",
        "prompt_tokens_details": "More about the prompt's.",
    },
    "PromptTokensDetails": {
        "cached_tokens": "How many of them the engine still had from an earlier request.",
    },
    "Timings": {
        "cache_n": "Prompt tokens that it still had.",
        "prompt_n": "Prompt tokens that it read.",
        "predicted_n": "Tokens that it wrote.",
    },
}
"""Component to field to meaning, in reading order."""

_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_PROMPTS = {"type": "array", "minItems": 1, "maxItems": MAX_PROMPTS}

CONSTRAINTS: dict[tuple[str, str], dict[str, Any]] = {
    ("ChatRequest", "model"): {"examples": ["starter"]},
    ("ChatRequest", "messages"): {"minItems": 1},
    ("ChatRequest", "tools"): {"maxItems": MAX_TOOLS},
    ("ChatRequest", "functions"): {"deprecated": True, "maxItems": 0},
    ("ChatRequest", "modalities"): {"items": {"const": "text"}, "maxItems": 1},
    ("CompletionRequest", "model"): {"examples": ["starter"]},
    ("CompletionRequest", "prompt"): {
        "anyOf": [
            {"type": "string", "title": "text"},
            {"title": "texts", **_PROMPTS, "items": {"type": "string"}},
            {"title": "token ids", **_TOKENS},
            {"title": "lists of token ids", **_PROMPTS, "items": _TOKENS},
        ],
    },
    ("EmbeddingRequest", "model"): {"examples": ["starter-embed"]},
    ("EmbeddingRequest", "input"): {
        "anyOf": [
            {"type": "string", "title": "text"},
            {"title": "texts", "type": "array", "minItems": 1, "items": {"type": "string"}},
            {"title": "token ids", **_TOKENS},
            {"title": "lists of token ids", "type": "array", "minItems": 1, "items": _TOKENS},
        ],
    },
    ("EmbeddingRequest", "dimensions"): {"minimum": 1},
    ("RerankRequest", "top_n"): {"minimum": 1},
    ("RerankRequest", "top_k"): {"minimum": 1},
    ("RerankRequest", "max_tokens_per_doc"): {"minimum": 1},
    ("CompletionRequest", "logprobs"): {"minimum": 0, "maximum": 5},
    ("ImageUrl", "url"): {"pattern": "^data:"},
    **{
        (request, "logit_bias"): {
            "propertyNames": {"pattern": "^[0-9]+$"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
            "maxProperties": MAX_LOGIT_BIAS,
        }
        for request in ("ChatRequest", "CompletionRequest")
    },
    **{
        (request, "stop"): {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "maxItems": MAX_STOP},
                {"type": "null"},
            ]
        }
        for request in ("ChatRequest", "CompletionRequest")
    },
}
"""Component and field to what ``wire.check`` demands beside ``RANGES`` and ``MINIMA``."""

WHOLE: dict[str, dict[str, Any]] = {
    "RerankRequest": {
        "oneOf": [
            {
                "title": "documents",
                "required": ["model", "documents"],
                "properties": {"model": {"type": "string"}, "documents": {"type": "array"}},
            },
            {"title": "texts", "required": ["texts"], "properties": {"texts": {"type": "array"}}},
        ]
    }
}
"""Component to what is demanded of its fields together."""

LARGEST = 2**31 - 1
"""What a field of ``MINIMA`` may be at most."""

BOUNDED = frozenset({"ChatRequest", "CompletionRequest"})
"""The components whose fields the ranges are about."""


def bounds(name: str) -> dict[str, float]:
    """The ``minimum`` and ``maximum`` of a request's field, as ``wire.check`` has them."""
    if name in RANGES:
        low, high = RANGES[name]
        return {"minimum": low, "maximum": high}
    if name in MINIMA:
        return {"minimum": MINIMA[name], "maximum": LARGEST}
    return {}
