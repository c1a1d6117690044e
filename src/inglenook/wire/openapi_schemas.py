"""What answers look like, for the API's description. Nothing is decoded with these: answers pass as bytes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from inglenook.wire.openai import Timings, ToolCall, Usage

FinishReason = Annotated[
    Literal["stop", "length", "tool_calls"],
    Meta(
        description="Why the text ends: `stop` (the model was done, or a `stop` sequence came), "
        "`length` (the token limit) or `tool_calls` (it asks for a tool)."
    ),
]
Id = Annotated[str, Meta(description="This answer's id, the same in every chunk of a stream.")]
Created = Annotated[int, Meta(description="Unix time in seconds.")]
ModelName = Annotated[str, Meta(description="The model that answered.")]
Index = Annotated[int, Meta(description="The choice's place, from 0.")]
Fingerprint = Annotated[str, Meta(description="The engine's build.")]


class TopLogprob(Struct):
    """One token the model might have chosen."""

    token: Annotated[str, Meta(description="The token's text.")]
    logprob: Annotated[float, Meta(description="Natural logarithm of its probability.")]
    bytes: Annotated[list[int] | None, Meta(description="The token's bytes.")] = None


class TokenLogprob(TopLogprob):
    """One token of the answer."""

    top_logprobs: Annotated[
        list[TopLogprob] | UnsetType, Meta(description="The likeliest tokens in its place.")
    ] = UNSET


class Logprobs(Struct):
    """Log probabilities, one entry for each token."""

    content: Annotated[list[TokenLogprob] | None, Meta(description="The tokens in order.")] = None


LogprobsOrNull = Annotated[Logprobs | None, Meta(description="Only where `logprobs` was asked for.")]


class ChatAnswer(Struct):
    """The model's message."""

    role: Annotated[Literal["assistant"], Meta(description="Always `assistant`.")]
    content: Annotated[str | None, Meta(description="The text; null when there are tool calls alone.")] = None
    reasoning_content: Annotated[
        str | UnsetType, Meta(description="What a reasoning model thought before its answer.")
    ] = UNSET
    tool_calls: Annotated[list[ToolCall] | UnsetType, Meta(description="The tools it wants called.")] = UNSET


class ChatChoice(Struct):
    """One answer; there are `n` of them."""

    index: Index
    message: Annotated[ChatAnswer, Meta(description="The model's message.")]
    finish_reason: FinishReason
    logprobs: LogprobsOrNull | UnsetType = UNSET


class ChatCompletion(Struct):
    """A complete chat answer."""

    id: Id
    object: Annotated[Literal["chat.completion"], Meta(description="The kind of object.")]
    created: Created
    model: ModelName
    choices: Annotated[list[ChatChoice], Meta(description="The answers, `n` of them.")]
    usage: Annotated[Usage, Meta(description="Tokens counted by the engine.")]
    system_fingerprint: Fingerprint | UnsetType = UNSET
    timings: Annotated[
        Timings | UnsetType, Meta(description="llama.cpp's own count and speed; with one choice only.")
    ] = UNSET


class FunctionDelta(Struct):
    """A further piece of a function call."""

    name: Annotated[str | UnsetType, Meta(description="In the first piece only.")] = UNSET
    arguments: Annotated[str | UnsetType, Meta(description="More of the arguments' JSON.")] = UNSET


class ToolCallDelta(Struct):
    """A further piece of a tool call."""

    index: Annotated[int, Meta(description="Which call this piece belongs to, from 0.")]
    id: Annotated[str | UnsetType, Meta(description="The call's id, in its first piece.")] = UNSET
    type: Annotated[
        Literal["function"] | UnsetType, Meta(description="Always `function`, in the first piece.")
    ] = UNSET
    function: Annotated[FunctionDelta | UnsetType, Meta(description="What is added.")] = UNSET


class Delta(Struct):
    """What a chunk adds to the message."""

    role: Annotated[Literal["assistant"] | UnsetType, Meta(description="In the first chunk of a choice.")] = (
        UNSET
    )
    content: Annotated[str | UnsetType | None, Meta(description="More text.")] = UNSET
    reasoning_content: Annotated[
        str | UnsetType, Meta(description="More of a reasoning model's thoughts.")
    ] = UNSET
    tool_calls: Annotated[list[ToolCallDelta] | UnsetType, Meta(description="More of its tool calls.")] = (
        UNSET
    )


class ChunkChoice(Struct):
    """A piece of one choice."""

    index: Index
    delta: Annotated[Delta, Meta(description="What this chunk adds.")]
    finish_reason: FinishReason | None = None
    logprobs: LogprobsOrNull | UnsetType = UNSET


class ChatCompletionChunk(Struct):
    """One event of a chat stream."""

    id: Id
    object: Annotated[Literal["chat.completion.chunk"], Meta(description="The kind of object.")]
    created: Created
    model: ModelName
    choices: Annotated[list[ChunkChoice], Meta(description="Empty in the chunk that carries the usage.")]
    usage: Annotated[
        Usage | UnsetType | None,
        Meta(description="In the last chunk, with `stream_options.include_usage`."),
    ] = UNSET
    system_fingerprint: Fingerprint | UnsetType = UNSET


class TextChoice(Struct):
    """One continuation."""

    text: Annotated[str, Meta(description="The continuation; in a stream, more of it.")]
    index: Index
    finish_reason: FinishReason | None = None
    logprobs: Annotated[
        dict[str, Any] | UnsetType | None, Meta(description="Only where `logprobs` was asked for.")
    ] = UNSET


class TextCompletion(Struct):
    """A text answer; in a stream each event is one of these."""

    id: Id
    object: Annotated[Literal["text_completion"], Meta(description="The kind of object.")]
    created: Created
    model: ModelName
    choices: Annotated[list[TextChoice], Meta(description="`n` for each prompt, in the prompts' order.")]
    usage: Annotated[
        Usage | UnsetType | None,
        Meta(description="In a stream only with `stream_options.include_usage`."),
    ] = UNSET
    system_fingerprint: Fingerprint | UnsetType = UNSET
    timings: Annotated[
        Timings | UnsetType, Meta(description="llama.cpp's own count and speed; with one choice only.")
    ] = UNSET


class VectorUsage(Struct):
    """Tokens of one request, as the model counts them."""

    prompt_tokens: Annotated[int, Meta(description="Tokens of all texts.")]
    total_tokens: Annotated[int, Meta(description="The same.")]


class Truncated(Struct):
    """A text that was cut, because `truncate` allowed it."""

    index: Annotated[int | None, Meta(description="Its place in the request; null for the query.")]
    tokens: Annotated[int, Meta(description="The tokens that it had.")]
    kept: Annotated[int, Meta(description="The tokens that the model read.")]


Cuts = Annotated[
    list[Truncated] | UnsetType, Meta(description="The texts that were cut; only when there are any.")
]


class Embedding(Struct):
    """What the model made of one input."""

    object: Annotated[Literal["embedding"], Meta(description="The kind of object.")]
    index: Annotated[int, Meta(description="The input's place in the request.")]
    embedding: Annotated[
        list[Any] | str,
        Meta(
            description="The vector: numbers, or with `encoding_format` base64 their bytes as little-endian "
            "float32. With `embedding_type` sparse it is empty, with colbert a list of such vectors."
        ),
    ]
    sparse_embedding: Annotated[
        dict[str, float] | UnsetType, Meta(description="Token id to weight, where it was asked for.")
    ] = UNSET
    colbert_embedding: Annotated[
        list[Any] | UnsetType, Meta(description="A vector for each token, with `return_colbert`.")
    ] = UNSET


class EmbeddingList(Struct):
    """A vector for each input."""

    object: Annotated[Literal["list"], Meta(description="The kind of object.")]
    data: Annotated[list[Embedding], Meta(description="One for each input, in their order.")]
    model: Annotated[str, Meta(description="The model, by the name it was asked by.")]
    usage: Annotated[VectorUsage, Meta(description="Tokens of the inputs.")]
    truncated: Cuts = UNSET


class Ranked(Struct):
    """One document and its score."""

    index: Annotated[int, Meta(description="The document's place in the request.")]
    score: Annotated[float, Meta(description="How well it fits: 0 to 1, unless `raw_scores`.")]
    document: Annotated[str | None, Meta(description="Its text; null without `return_documents`.")] = None


class RankedText(Struct):
    """A document as an object."""

    text: Annotated[str, Meta(description="Its text.")]


class JinaRanked(Struct):
    """The same in the shape of Jina's and Cohere's APIs."""

    index: Annotated[int, Meta(description="The document's place in the request.")]
    relevance_score: Annotated[float, Meta(description="How well it fits.")]
    document: Annotated[RankedText | UnsetType, Meta(description="Its text, with `return_documents`.")] = (
        UNSET
    )


class Ranking(Struct):
    """Documents, the best first. With `texts` it is the bare list that TEI gives."""

    object: Annotated[Literal["list"], Meta(description="The kind of object.")]
    model: Annotated[str, Meta(description="The model, by the name it was asked by.")]
    data: Annotated[list[Ranked], Meta(description="The best documents.")]
    results: Annotated[list[JinaRanked], Meta(description="The same, as Jina's clients read it.")]
    usage: Annotated[VectorUsage, Meta(description="Tokens of the query and the documents.")]
    truncated: Cuts = UNSET


class TeiRanked(Struct):
    """The same in the shape of TEI."""

    index: Annotated[int, Meta(description="The text's place in the request.")]
    score: Annotated[float, Meta(description="How well it fits.")]
    text: Annotated[str | UnsetType, Meta(description="The text, with `return_text`.")] = UNSET
    truncated: Annotated[bool | UnsetType, Meta(description="True where the text was cut.")] = UNSET


class TeiError(Struct):
    """An error in the shape of TEI."""

    error: Annotated[str, Meta(description="One sentence for people, with the mend.")]
    error_type: Annotated[
        Literal["Validation", "Tokenizer", "Overloaded", "Backend"], Meta(description="Whose turn it is.")
    ]


class ApiVersion(Struct):
    """Which of Cohere's APIs this is."""

    version: Annotated[str, Meta(description="Always 2.")]


class BilledUnits(Struct):
    """What Cohere would count."""

    search_units: Annotated[int, Meta(description="Always 1.")]


class MetaTokens(Struct):
    """Tokens of one request."""

    input_tokens: Annotated[int, Meta(description="Tokens of the query and the documents.")]
    output_tokens: Annotated[int, Meta(description="Always 0.")]


class RankingMeta(Struct):
    """What else Cohere's clients read."""

    api_version: Annotated[ApiVersion, Meta(description="Which of Cohere's APIs this is.")]
    billed_units: Annotated[BilledUnits, Meta(description="What Cohere would count.")]
    tokens: Annotated[MetaTokens, Meta(description="Tokens of the request.")]
    warnings: Annotated[list[str] | UnsetType, Meta(description="The documents that were cut.")] = UNSET


class CohereRanking(Struct):
    """Documents, the best first, as Cohere has them."""

    id: Annotated[str, Meta(description="The request's id.")]
    results: Annotated[list[JinaRanked], Meta(description="The best documents.")]
    meta: Annotated[RankingMeta, Meta(description="What else Cohere's clients read.")]


class Model(Struct):
    """A model that may be asked for."""

    id: Annotated[str, Meta(description="The name to send as `model`.")]
    object: Annotated[Literal["model"], Meta(description="The kind of object.")]
    created: Annotated[int, Meta(description="Unix time in seconds at which the server began.")]
    owned_by: Annotated[
        str, Meta(description="`inglenook`, or the name of the upstream that runs the model.")
    ]
    tasks: Annotated[
        list[Literal["chat", "embed", "rerank"]],
        Meta(description="What it is for; absent where only its upstream knows."),
    ] = []
    upstream_model_id: Annotated[
        str | UnsetType, Meta(description="What its upstream calls it, where that is known.")
    ] = UNSET


class ModelList(Struct):
    """Every model."""

    object: Annotated[Literal["list"], Meta(description="The kind of object.")]
    data: Annotated[list[Model], Meta(description="The models, in the order of the settings.")]


ModelState = Literal["stopped", "starting", "ready", "stopping", "restarting", "failed"]


class Health(Struct):
    """How the server is."""

    status: Annotated[
        Literal["ok", "draining"],
        Meta(description="`draining`: the server was told to end and begins nothing new."),
    ]
    version: Annotated[str, Meta(description="Inglenook's version.")]
    models: Annotated[
        dict[str, ModelState],
        Meta(
            description="Each model's state. A `stopped` model is started by its first request; a "
            "`failed` one did not come up. An upstream's model is always `ready`."
        ),
    ]


class ErrorDetail(Struct):
    """What went wrong."""

    message: Annotated[str, Meta(description="One sentence for people, with the mend.")]
    type: Annotated[
        str,
        Meta(
            description="Whose turn it is: the caller's (`invalid_request_error`, `authentication_error`, "
            "`permission_error`, `rate_limit_error`) or the server's (`server_error`). An upstream that "
            "refuses may have words of its own."
        ),
    ]
    param: Annotated[str | None, Meta(description="The field to mend, such as `messages[0].role`.")]
    code: Annotated[str, Meta(description="For programs: it never changes its meaning.")]
    prompt_tokens: Annotated[
        int | UnsetType, Meta(description="With `context_length_exceeded`: the prompt's tokens.")
    ] = UNSET
    context_length: Annotated[
        int | UnsetType, Meta(description="With `context_length_exceeded`: the model's limit.")
    ] = UNSET
    engine_log: Annotated[
        list[str] | UnsetType,
        Meta(description="With `model_load_failed`: the engine's last lines, without paths."),
    ] = UNSET


class ErrorEnvelope(Struct):
    """Every error, as an answer's body or as the last event of a stream that broke."""

    error: Annotated[ErrorDetail, Meta(description="What went wrong.")]
