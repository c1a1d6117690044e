"""The operations of the API, one entry each. A new route is described by a new entry in ``OPERATIONS``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from inglenook.wire.embeddings import EmbeddingRequest
from inglenook.wire.loading import LoadedModel, LoadRequest
from inglenook.wire.openai import ChatRequest, CompletionRequest
from inglenook.wire.openapi_failures import BODY, EVERYWHERE, KEY, MODEL, VECTORS
from inglenook.wire.openapi_schemas import (
    ChatCompletion,
    ChatCompletionChunk,
    CohereRanking,
    EmbeddingList,
    Health,
    Model,
    ModelList,
    Ranking,
    TextCompletion,
)
from inglenook.wire.rerank import RerankRequest

Json = dict[str, Any]

TAGS = {
    "Chat": "Conversations: the call that most programs make.",
    "Completions": "Plain text, continued.",
    "Embeddings": "Texts as vectors, to find what means the same, and documents in the order of a query.",
    "Models": "What may be asked for.",
    "Server": "How the server is.",
}


@dataclass(frozen=True)
class Operation:
    """One method of one path, as clients are told about it."""

    path: str
    method: str
    id: str
    """What generated clients call it."""
    tag: str
    summary: str
    description: str
    answer: type[Struct] | None
    """``None``: it is text."""
    answers: Mapping[str, Json] = field(default_factory=dict)
    """Example answers by name. Each must fit ``answer``."""
    text: str = ""
    """An example of an answer that is text."""
    request: type[Struct] | None = None
    requests: Mapping[str, Json] = field(default_factory=dict)
    """Example requests by name. Each must work with a server that has only the starter model."""
    event: type[Struct] | None = None
    """What each event of the stream holds, where ``stream`` may be true."""
    events: str = ""
    """An example stream."""
    path_words: Mapping[str, str] = field(default_factory=dict)
    """Parameter in the path to its meaning."""
    tei: bool = False
    """The answer may be TEI's as well, and so may the errors."""
    asks_model: bool = False
    """Answers tell of the queue, of limits and of who answered."""
    errors: tuple[str, ...] = EVERYWHERE


_CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
_COUNTS = {"prompt_tokens": 15, "completion_tokens": 8, "total_tokens": 23}
_CHAT = {"id": "chatcmpl-9Q2sXy", "created": 1767225600, "model": "starter"}

_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
_CITY = {
    "type": "object",
    "properties": {"country": {"type": "string"}, "capital": {"type": "string"}},
    "required": ["country", "capital"],
    "additionalProperties": False,
}

CHAT = Operation(
    path="/v1/chat/completions",
    method="post",
    id="createChatCompletion",
    tag="Chat",
    summary="Answer a conversation",
    description=(
        "Sends the conversation to a model and answers with its message, whole or as a stream of "
        "server-sent events.\n\n"
        "A stream is a sequence of `data:` events, each a chunk, and ends with `data: [DONE]`. "
        "If it breaks, its last event holds an `error` instead and no `[DONE]` follows: a stream "
        "without `[DONE]` is never a complete answer. While there is nothing to send (the model "
        "loads, or reads a long prompt) a comment, `: ping`, keeps the connection alive.\n\n"
        "A client that goes away frees its slot at once."
    ),
    request=ChatRequest,
    requests={
        "question": {"model": "starter", "messages": _CAPITAL},
        "stream": {
            "model": "starter",
            "messages": _CAPITAL,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        "conversation": {
            "model": "starter",
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": "Hello!"},
                {"role": "assistant", "content": "Hello! How can I help you?"},
                {"role": "user", "content": "What is the opposite of hot?"},
            ],
            "temperature": 0,
            "max_tokens": 64,
        },
        "json": {
            "model": "starter",
            "messages": _CAPITAL,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "city", "schema": _CITY},
            },
            "temperature": 0,
            "max_tokens": 64,
        },
        "tool": {
            "model": "starter",
            "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
            "tools": [_WEATHER],
            "temperature": 0,
            "max_tokens": 64,
        },
    },
    answer=ChatCompletion,
    answers={
        "text": {
            **_CHAT,
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "The capital of France is Paris.",
                    },
                    "finish_reason": "stop",
                }
            ],
            "usage": _COUNTS,
        },
    },
    event=ChatCompletionChunk,
    events="".join(
        f'data: {{"id":"chatcmpl-9Q2sXy","object":"chat.completion.chunk","created":1767225600,'
        f'"model":"starter","choices":[{choice}]}}\n\n'
        for choice in (
            '{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}',
            '{"index":0,"delta":{"content":"The capital of France is"},"finish_reason":null}',
            '{"index":0,"delta":{"content":" Paris."},"finish_reason":null}',
            '{"index":0,"delta":{},"finish_reason":"stop"}',
        )
    )
    + "data: [DONE]\n\n",
    asks_model=True,
    errors=(*BODY, *MODEL, *EVERYWHERE),
)

COMPLETIONS = Operation(
    path="/v1/completions",
    method="post",
    id="createCompletion",
    tag="Completions",
    summary="Continue a text",
    description=(
        "Continues one or more prompts, without a chat template. Several prompts, and `n` answers to "
        "each, are made side by side and come back as one answer. Streams are as with chat."
    ),
    request=CompletionRequest,
    requests={
        "text": {
            "model": "starter",
            "prompt": "The capital of France is",
            "temperature": 0,
            "max_tokens": 16,
            "stop": ["."],
        },
        "stream": {
            "model": "starter",
            "prompt": "The capital of France is",
            "max_tokens": 16,
            "stream": True,
        },
        "several": {
            "model": "starter",
            "prompt": ["The capital of France is", "The opposite of hot is"],
            "n": 2,
            "max_tokens": 16,
            "seed": 1,
        },
    },
    answer=TextCompletion,
    answers={
        "text": {
            "id": "cmpl-4Yk2Lw",
            "object": "text_completion",
            "created": 1767225600,
            "model": "starter",
            "choices": [{"index": 0, "text": " Paris", "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        },
    },
    event=TextCompletion,
    events="".join(
        f'data: {{"id":"cmpl-4Yk2Lw","object":"text_completion","created":1767225600,'
        f'"model":"starter","choices":[{choice}]}}\n\n'
        for choice in (
            '{"index":0,"text":" Paris","logprobs":null,"finish_reason":null}',
            '{"index":0,"text":".","logprobs":null,"finish_reason":null}',
            '{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}',
        )
    )
    + "data: [DONE]\n\n",
    asks_model=True,
    errors=(*BODY, *MODEL, *EVERYWHERE),
)

_SENTENCES = ["The cat sits on the mat.", "A kitten lies on a rug.", "Rates went up again."]
_SPENT = {"prompt_tokens": 27, "total_tokens": 27}

EMBEDDINGS = Operation(
    path="/v1/embeddings",
    method="post",
    id="createEmbedding",
    tag="Embeddings",
    summary="Make vectors of texts",
    description=(
        "Texts that mean much the same get vectors that point much the same way, whatever words they use: "
        "search by meaning is the search for near vectors. Token ids are taken by models whose engine "
        "can.\n\n Nothing is cut unless `truncate` says so."
    ),
    request=EmbeddingRequest,
    requests={
        "text": {"model": "starter-embed", "input": "The cat sits on the mat."},
        "several": {"model": "starter-embed", "input": _SENTENCES, "dimensions": 64},
        "base64": {"model": "starter-embed", "input": _SENTENCES, "encoding_format": "base64"},
    },
    answer=EmbeddingList,
    answers={
        "text": {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.0123, -0.0456, 0.0789]}],
            "model": "starter-embed",
            "usage": {"prompt_tokens": 9, "total_tokens": 9},
        },
    },
    asks_model=True,
    errors=(*VECTORS, *MODEL, *EVERYWHERE),
)

_QUESTION = {"model": "starter-embed", "query": "Where is the cat?", "documents": _SENTENCES, "top_n": 2}
_BEST = [
    {"index": 0, "relevance_score": 0.71, "document": {"text": _SENTENCES[0]}},
    {"index": 1, "relevance_score": 0.48, "document": {"text": _SENTENCES[1]}},
]
_RANKING = {
    "object": "list",
    "model": "starter-embed",
    "data": [
        {"index": 0, "score": 0.71, "document": _SENTENCES[0]},
        {"index": 1, "score": 0.48, "document": _SENTENCES[1]},
    ],
    "results": _BEST,
    "usage": _SPENT,
}

RERANK = Operation(
    path="/v1/rerank",
    method="post",
    id="createRerank",
    tag="Embeddings",
    summary="Put documents in order",
    description=(
        "Compares each document with the query and answers with the best first; equals keep the order of the "
        "request. A model that was made to rerank reads both together; a model that makes embeddings "
        "compares their vectors.\n\n"
        "The answer has both `data` and `results`, for clients of either shape."
    ),
    request=RerankRequest,
    requests={"documents": _QUESTION},
    answer=Ranking,
    answers={"documents": _RANKING},
    tei=True,
    asks_model=True,
    errors=(*VECTORS, *MODEL, *EVERYWHERE),
)

RERANK_COHERE = Operation(
    path="/v2/rerank",
    method="post",
    id="createRerankAsCohere",
    tag="Embeddings",
    summary="Put documents in order, as Cohere does",
    description="The same, for Cohere's clients.",
    request=RerankRequest,
    requests={"documents": _QUESTION},
    answer=CohereRanking,
    answers={
        "documents": {
            "id": "5f1c7a9b2d3e4f60",
            "results": [{"index": 0, "relevance_score": 0.71}, {"index": 1, "relevance_score": 0.48}],
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"search_units": 1},
                "tokens": {"input_tokens": 27, "output_tokens": 0},
            },
        }
    },
    tei=True,
    asks_model=True,
    errors=(*VECTORS, *MODEL, *EVERYWHERE),
)

RERANK_TEI = Operation(
    path="/rerank",
    method="post",
    id="createRerankAsTEI",
    tag="Embeddings",
    summary="Put texts in order, as TEI does",
    description=(
        "The same, for clients of Text Embeddings Inference. With `texts` in the place of `documents` the "
        'answer is a bare list, best first: `[{"index": 0, "score": 0.71}]`, with a `text` in each when '
        '`return_text` is true; and an error is `{"error": "...", "error_type": "Validation"}`. With '
        "`documents` it is `/v1/rerank`."
    ),
    request=RerankRequest,
    requests={
        "texts": {"query": "Where is the cat?", "texts": _SENTENCES, "return_text": True},
        "documents": _QUESTION,
    },
    answer=Ranking,
    answers={"documents": _RANKING},
    tei=True,
    asks_model=True,
    errors=(*VECTORS, *MODEL, *EVERYWHERE),
)

_LOADING = (
    *KEY,
    "request_timeout",
    "invalid_json",
    "invalid_type",
    "missing_required_parameter",
    "invalid_value",
    "body_too_large",
    "model_not_found",
    "shutting_down",
    *EVERYWHERE,
)
_STARTER = {
    "id": "starter",
    "object": "model",
    "created": 1767225600,
    "owned_by": "inglenook",
    "tasks": ["chat"],
}

LIST_MODELS = Operation(
    path="/v1/models",
    method="get",
    id="listModels",
    tag="Models",
    summary="List the models",
    description="Every model that you may ask for, loaded or not, on this machine or upstream.",
    answer=ModelList,
    answers={"models": {"object": "list", "data": [_STARTER]}},
    errors=(*KEY, *EVERYWHERE),
)

GET_MODEL = Operation(
    path="/v1/models/{model}",
    method="get",
    id="retrieveModel",
    tag="Models",
    summary="Look up a model",
    description="One model, by its id or an alias.",
    path_words={"model": "The model's id or an alias. It may hold slashes, escaped or not."},
    answer=Model,
    answers={"model": _STARTER},
    errors=(*KEY, "model_not_found", *EVERYWHERE),
)

LOAD_MODEL = Operation(
    path="/v1/models/load",
    method="post",
    id="loadModel",
    tag="Models",
    summary="Load a model",
    description=(
        "Starts the model's engine and answers once it has given its first token, so that the next request "
        "need not wait. A model that is loaded already is left as it is. Only for models that this server "
        "runs itself."
    ),
    request=LoadRequest,
    requests={"model": {"model": "starter"}},
    answer=LoadedModel,
    answers={"model": {"model": "starter", "state": "ready", "seconds": 0.612}},
    errors=(*_LOADING, "model_loading", "model_load_failed"),
)

UNLOAD_MODEL = Operation(
    path="/v1/models/unload",
    method="post",
    id="unloadModel",
    tag="Models",
    summary="Unload a model",
    description=(
        "Ends the model's engine, which gives all its memory back, once it has finished the answers that it "
        "is giving: no answer is cut off. The next request for the model loads it again. Only for models "
        "that this server runs itself."
    ),
    request=LoadRequest,
    requests={"model": {"model": "starter"}},
    answer=LoadedModel,
    answers={"model": {"model": "starter", "state": "stopped", "seconds": 0.104}},
    errors=(*_LOADING, "unavailable"),
)

HEALTH = Operation(
    path="/health",
    method="get",
    id="getHealth",
    tag="Server",
    summary="Ask how the server is",
    description="Answers 200 whenever the server answers at all; the body says more.",
    answer=Health,
    answers={"ok": {"status": "ok", "version": "0.1.0", "models": {"starter": "ready"}}},
)

METRICS = Operation(
    path="/metrics",
    method="get",
    id="getMetrics",
    tag="Server",
    summary="Ask for the server's metrics",
    description=(
        "For Prometheus, in its text format, or in OpenMetrics' for a client that asks for it with `accept`. "
        "An operator may ask for a key here, or switch it off, which makes it a 404."
    ),
    answer=None,
    text=(
        "# HELP inglenook_num_requests_running Requests that hold a turn of the model now.\n"
        "# TYPE inglenook_num_requests_running gauge\n"
        'inglenook_num_requests_running{model="starter"} 1.0\n'
    ),
    errors=(*KEY, *EVERYWHERE),
)

OPERATIONS: tuple[Operation, ...] = (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    RERANK,
    RERANK_COHERE,
    RERANK_TEI,
    LIST_MODELS,
    GET_MODEL,
    LOAD_MODEL,
    UNLOAD_MODEL,
    HEALTH,
    METRICS,
)
"""In the order in which the document and the page have them."""
