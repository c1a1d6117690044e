"""Every way a request can fail, and how each one looks on the wire.

InglenookError                    500  internal_error
├── BadRequest                    400  invalid_value: the caller can mend it; ``param`` says where
│   ├── ContextLengthExceeded     400  context_length_exceeded
│   ├── Unprocessable             422  unprocessable: several fields at once, told as FastAPI does
│   └── BodyTooLarge              413  body_too_large
├── NotFound                      404  not_found
│   └── ModelNotFound             404  model_not_found
├── MethodNotAllowed              405  method_not_allowed
├── RequestTimeout                408  request_timeout: the client stopped sending
├── Unauthenticated               401  invalid_api_key: no key, or not one of ours
├── Forbidden                     403  permission_denied: the key is good, but not for this
├── RateLimited                   429  rate_limit_exceeded: ask again after ``retry_after`` seconds
├── UpstreamRefused               4xx  upstream_refused: an upstream's own words about the request
├── Unavailable                   503  nothing was lost; ask again after ``retry_after`` seconds
│   ├── AtCapacity                503  at_capacity: ``limits.max_concurrent_requests`` are running
│   ├── QueueFull                 503  queue_full
│   ├── ModelLoading              503  model_loading: the load takes longer than a request may wait
│   ├── EngineStartFailed         503  model_load_failed: carries the engine's last log lines
│   └── ShuttingDown              503  shutting_down
└── EngineError                   502  engine_error: the engine or upstream answered, but wrongly
    ├── EngineLost                502  engine_lost: it ended in the middle of an answer
    └── EngineTimeout             504  engine_timeout: it took longer than a request may take
        └── ConnectTimeout        504  connect_timeout: nobody took the connection, so nothing was sent

Errors are raised, never returned, and never log themselves. ``http.edge`` alone turns them into an answer.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Said(NamedTuple):
    """What an engine or upstream answered where an error is its answer."""

    status: int
    retry_after: float | None = None
    """Seconds, as its ``Retry-After`` has them."""


class InglenookError(Exception):
    """A failure we chose to report. A subclass fixes the status, an instance the words.

    The words reach the client: they never hold a path, a prompt, a key or another exception's text.
    """

    status: int = 500
    type: str = "server_error"
    code: str = "internal_error"
    said: Said | None = None
    """Set by whoever asked, for whoever decides whether to ask again."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        if code is not None:
            self.code = code

    def body(self) -> dict[str, Any]:
        """OpenAI's envelope: ``{"error": {"message", "type", "param", "code"}}``."""
        return {
            "error": {
                "message": str(self),
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def headers(self) -> list[bytes]:
        """What the answer says beside its body: header lines, ``name: value``."""
        return []


class BadRequest(InglenookError):
    """The request cannot be served as it stands; ``param`` names the field to mend."""

    status, type, code = 400, "invalid_request_error", "invalid_value"


class ContextLengthExceeded(BadRequest):
    """The prompt does not fit the model. Nothing is ever cut silently."""

    code = "context_length_exceeded"

    def __init__(self, *, given: int, limit: int, param: str = "messages", mend: str = "") -> None:
        mend = mend or f"Shorten the {param}, or raise the model's `context` setting."
        super().__init__(
            f"This model's maximum context length is {limit} tokens, but the {param} came to "
            f"{given} tokens. {mend}",
            param=param,
        )
        self.given, self.limit = given, limit

    def body(self) -> dict[str, Any]:
        body = super().body()
        body["error"] |= {"prompt_tokens": self.given, "context_length": self.limit}
        return body


class Unprocessable(BadRequest):
    """A body with wrong fields, told of as FastAPI tells: every field in ``details``."""

    status, code = 422, "unprocessable"

    def __init__(self, details: list[dict[str, Any]]) -> None:
        """``details``: objects with ``type``, ``loc`` and ``msg``, none of which quotes a value."""
        super().__init__("; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in details))
        self.details = details


class BodyTooLarge(BadRequest):
    """The body passed ``server.max_body_mb``; the rest of it was not read."""

    status, code = 413, "body_too_large"


class NotFound(InglenookError):
    """No route has this path."""

    status, type, code = 404, "invalid_request_error", "not_found"


class ModelNotFound(NotFound):
    """No model, alias or upstream answers to this name."""

    code = "model_not_found"


class MethodNotAllowed(InglenookError):
    """The path exists, but not for this verb."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> list[bytes]:
        return [b"allow: " + self.allow.encode()]


class RequestTimeout(InglenookError):
    """The client stopped sending in the middle of its request."""

    status, type, code = 408, "invalid_request_error", "request_timeout"


class Unauthenticated(InglenookError):
    """No key, or none that we know. Never says which of the two more precisely than it must."""

    status, type, code = 401, "authentication_error", "invalid_api_key"

    def __init__(self, message: str, *, is_missing: bool = False) -> None:
        """``is_missing``: there was none at all, which an older API may tell in other words."""
        super().__init__(message)
        self.is_missing = is_missing

    def headers(self) -> list[bytes]:
        return [b"www-authenticate: Bearer"]


class Forbidden(InglenookError):
    """We know who asks, and they may not have this."""

    status, type, code = 403, "permission_error", "permission_denied"


class RateLimited(InglenookError):
    """A client passed one of its limits. Nothing was done, and the refusal itself costs it nothing."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: int = 1, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = max(1, retry_after)

    def headers(self) -> list[bytes]:
        return [b"retry-after: %d" % self.retry_after]


class UpstreamRefused(InglenookError):
    """An upstream refused the request with a 4xx. What it says is for whoever wrote the request.

    The upstream's ``type``, ``param`` and, if it has one, ``code`` reach the client as they are; the log's
    code is ours, since a stranger's codes are without number.
    """

    code = "upstream_refused"

    def __init__(self, status: int, said: dict[str, Any], retry_after: int = 0) -> None:
        """``said`` is the ``error`` object that the client gets, already bounded and free of keys."""
        super().__init__(str(said.get("message", "")))
        self.status, self._said, self.retry_after = status, said, retry_after

    def body(self) -> dict[str, Any]:
        return {"error": {**self._said, "code": self._said.get("code") or self.code}}

    def headers(self) -> list[bytes]:
        return [b"retry-after: %d" % self.retry_after] if self.retry_after else []


class Unavailable(InglenookError):
    """Not now. Nothing was done, so the same request may be sent again after ``retry_after`` s."""

    status, code = 503, "unavailable"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = max(1, retry_after)

    def headers(self) -> list[bytes]:
        return [b"retry-after: %d" % self.retry_after]


class AtCapacity(Unavailable):
    """As many requests as ``limits.max_concurrent_requests`` are being answered already."""

    code = "at_capacity"


class QueueFull(Unavailable):
    """As many requests as the model's ``max_queue`` are waiting already."""

    code = "queue_full"


class ModelLoading(Unavailable):
    """The model is still loading and the request has waited as long as it may."""

    code = "model_loading"


class EngineStartFailed(Unavailable):
    """The engine did not come up. ``log`` has its last lines, paths taken out."""

    code = "model_load_failed"

    def __init__(self, message: str, *, log: tuple[str, ...] = (), retry_after: int = 10) -> None:
        super().__init__(message, retry_after=retry_after)
        self.log = log

    def body(self) -> dict[str, Any]:
        body = super().body()
        if self.log:
            body["error"]["engine_log"] = list(self.log)
        return body


class ShuttingDown(Unavailable):
    """The server is draining: what runs may finish, nothing new is begun."""

    code = "shutting_down"


class EngineError(InglenookError):
    """The engine or upstream failed; neither the caller nor the gateway did anything wrong."""

    status, code = 502, "engine_error"


class EngineLost(EngineError):
    """The engine ended, or went silent, before its answer was complete."""

    code = "engine_lost"


class EngineTimeout(EngineError):
    """The engine is at work, but took longer than a request of this kind may take; it was told to stop."""

    status, code = 504, "engine_timeout"


class ConnectTimeout(EngineTimeout):
    """Nobody took the connection in time. Nothing was sent, so it may be tried again."""

    code = "connect_timeout"
