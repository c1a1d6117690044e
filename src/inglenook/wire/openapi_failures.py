"""Every error code, as an example and in words. ``errors.py`` says what each is, this what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from inglenook.errors import (
    AtCapacity,
    BadRequest,
    BodyTooLarge,
    ConnectTimeout,
    ContextLengthExceeded,
    EngineError,
    EngineLost,
    EngineStartFailed,
    EngineTimeout,
    Forbidden,
    InglenookError,
    MethodNotAllowed,
    ModelLoading,
    ModelNotFound,
    NotFound,
    QueueFull,
    RateLimited,
    RequestTimeout,
    ShuttingDown,
    Unauthenticated,
    Unavailable,
    Unprocessable,
    UpstreamRefused,
)


@dataclass(frozen=True)
class Failure:
    """One code: an error as a client would get it, and what the client should know."""

    example: InglenookError
    meaning: str

    @property
    def code(self) -> str:
        return self.example.code

    @property
    def repeatable(self) -> bool:
        """Whether the answer says in ``retry-after`` when to ask again."""
        return isinstance(self.example, Unavailable | RateLimited)


EVERYWHERE = ("internal_error",)
BODY = (
    "request_timeout",
    "invalid_json",
    "invalid_type",
    "missing_required_parameter",
    "invalid_value",
    "invalid_schema",
    "invalid_grammar",
    "body_too_large",
)
VECTORS = (
    "request_timeout",
    "invalid_json",
    "invalid_type",
    "missing_required_parameter",
    "invalid_value",
    "body_too_large",
)
"""What can be wrong with texts to embed or rerank."""
KEY = ("invalid_header", "invalid_api_key", "permission_denied")
"""What can be wrong with who asks."""
MODEL = (
    *KEY,
    "rate_limit_exceeded",
    "at_capacity",
    "model_not_found",
    "context_length_exceeded",
    "unavailable",
    "queue_full",
    "model_loading",
    "model_load_failed",
    "shutting_down",
    "engine_error",
    "engine_lost",
    "engine_timeout",
    "connect_timeout",
    "upstream_refused",
)
"""What a call that asks a model can meet, beside the errors of its body."""


def failures() -> dict[str, Failure]:
    """Every code there is, by itself, in the order of the statuses."""
    known = (*_access(), *_callers(), *_servers(), *_later())
    return {failure.code: failure for failure in known}


def _callers() -> tuple[Failure, ...]:
    return (
        Failure(
            BadRequest(
                "The body is not valid JSON. Send one JSON object, encoded as UTF-8.", code="invalid_json"
            ),
            "The body is not JSON.",
        ),
        Failure(
            BadRequest(
                "temperature must be a number, not a string", param="temperature", code="invalid_type"
            ),
            "A field has the wrong type; `param` names it.",
        ),
        Failure(
            BadRequest("messages is required", param="messages", code="missing_required_parameter"),
            "A field is missing; `param` names it.",
        ),
        Failure(
            BadRequest("temperature must be between 0.0 and 2.0", param="temperature"),
            "A value is out of range, or does not go with another; `param` names the field.",
        ),
        Failure(
            BadRequest(
                "The JSON schema in response_format is too large: at most 64 levels.",
                param="response_format",
                code="invalid_schema",
            ),
            "The model's engine cannot follow a JSON schema of the request; `param` names it.",
        ),
        Failure(
            BadRequest("The grammar cannot be followed.", param="grammar", code="invalid_grammar"),
            "The model's engine cannot follow the grammar.",
        ),
        Failure(
            Unprocessable([{"type": "missing", "loc": ["body", "prompt"], "msg": "Field required"}]),
            "Fields of a body for `/llm` are wrong, which names all of them in a list of its own.",
        ),
        Failure(
            ContextLengthExceeded(given=9000, limit=8192),
            "The prompt is longer than the model's context. Nothing is ever cut off silently.",
        ),
        Failure(NotFound("There is nothing at this path. /docs has all there is."), "No such path."),
        Failure(
            ModelNotFound("The model 'startr' does not exist; did you mean 'starter'?", param="model"),
            "No model or alias has this name.",
        ),
        Failure(
            MethodNotAllowed("This path does not take GET.", allow="POST"),
            "The path takes another method; the `allow` header has which.",
        ),
        Failure(
            RequestTimeout("The request did not arrive in time."),
            "The client stopped sending in the middle of its request.",
        ),
        Failure(
            BodyTooLarge("The body is larger than 10 MiB. Send less, or raise server.max_body_mb."),
            "The body is larger than `server.max_body_mb` (10 MiB unless set).",
        ),
    )


def _access() -> tuple[Failure, ...]:
    return (
        Failure(
            BadRequest("The header host may be there once only.", code="invalid_header"),
            "A header that decides who asks whom is there twice.",
        ),
        Failure(
            Unauthenticated("This server needs an API key. Send it as `Authorization: Bearer KEY`."),
            "No key, or one that is not known here, has expired or was revoked.",
        ),
        Failure(
            Forbidden("Your API key is not for this model. GET /v1/models lists those it is for."),
            "The key is good, but not for this model; or the server answers to this machine's names only.",
        ),
    )


def _servers() -> tuple[Failure, ...]:
    refused = {
        "message": "top_k is not supported by this model.",
        "type": "invalid_request_error",
        "param": "top_k",
    }
    return (
        Failure(
            UpstreamRefused(400, refused),
            "The upstream that has the model refused the request. Status, words and, if it has one, "
            "code are its own.",
        ),
        Failure(
            InglenookError("Something went wrong in the server. Its log has it as 5f1c7a9b2d3e4f60."),
            "A fault of the server's own. Its log has the request id.",
        ),
        Failure(
            EngineError("The model's server failed to answer this request."),
            "The model's engine or upstream failed.",
        ),
        Failure(
            EngineLost("The engine ended before the answer was complete."),
            "The model's engine ended, or fell silent, in the middle of the answer.",
        ),
        Failure(
            EngineTimeout("The model's engine took longer than 300 seconds."),
            "The texts take the model longer than `limits.embedding_timeout_seconds`, so send fewer at a "
            "time; or an upstream sent nothing for as long as its `timeouts` allow.",
        ),
        Failure(
            ConnectTimeout("The model's server did not take a connection in 5 seconds."),
            "An upstream is out of reach, and was tried again.",
        ),
    )


def _later() -> tuple[Failure, ...]:
    return (
        Failure(
            Unavailable("The model is busy. Ask again in a few seconds.", retry_after=5),
            "Every slot of the model was taken for as long as a request may wait.",
        ),
        Failure(
            RateLimited(
                "You have used your 60 requests of this minute (requests_per_minute). "
                "Ask again in 7 seconds.",
                retry_after=7,
            ),
            "The client has used what it may have in a minute, or at once. The refusal costs it nothing.",
        ),
        Failure(
            AtCapacity(
                "The server is answering as many requests as it may (limits.max_concurrent_requests). "
                "Ask again in 10 seconds.",
                retry_after=10,
            ),
            "As many requests as `limits.max_concurrent_requests` are being answered already.",
        ),
        Failure(
            QueueFull("Too many requests are waiting for this model.", retry_after=5),
            "As many requests as the model's `max_queue` are waiting already.",
        ),
        Failure(
            ModelLoading("The model is still loading. Ask again in a few seconds.", retry_after=10),
            "The model takes longer to load than a request may wait.",
        ),
        Failure(
            EngineStartFailed(
                "The engine ended before it was ready (exit code 1).",
                log=("error loading model: tensor 'output.weight' has wrong shape",),
            ),
            "The model's engine did not start; `engine_log` has its last lines.",
        ),
        Failure(
            ShuttingDown("The server is shutting down."),
            "The server was told to end. Ask again when it is back.",
        ),
    )
