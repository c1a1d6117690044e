"""The one exception of this package, and how everything that can go wrong becomes it."""

from __future__ import annotations

import contextlib
import email.utils
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec


class CallFailed(RuntimeError):
    """A call was not answered, or answered with an error. The message never holds a key or a prompt.

    ``status``: of the answer; 0 when there was none.
    ``code``: for programs. The server's own, or ``http_STATUS`` where it gave none; else ``unreachable``,
    ``timeout``, ``connection_lost``, ``invalid_address``, ``invalid_proxy``, ``invalid_key``,
    ``missing_key``, ``invalid_answer``.
    ``param``: the field to mend, when the server names one.
    ``retry_after``: seconds after which the same call may succeed, when the server says so.
    ``request_id``: what the server's log has the call under, ``""`` when unknown.
    ``engine_log``: the last lines of an engine that did not start.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after
        self.request_id = ""
        self.engine_log: tuple[str, ...] = ()


def refusal(url: str, status: int, headers: Mapping[str, str], body: bytes) -> CallFailed:
    """What an answer means whose status is no success: OpenAI's envelope, or one of the looser ones."""
    said = _object(body)
    error = said.get("error")
    # `{"error": {...}}` is OpenAI's, `{"error": "words"}` TEI's and others', `{"detail": ...}` FastAPI's.
    fields = error if isinstance(error, dict) else {"message": error or said.get("detail"), **said}
    message, code, param, log = (fields.get(name) for name in ("message", "code", "param", "engine_log"))
    words = " ".join(message.split()) if isinstance(message, str) else ""
    failed = CallFailed(
        words or f"{shown(url)} answered with status {status}",
        status=status,
        code=code if isinstance(code, str) and code else f"http_{status}",
        param=param if isinstance(param, str) else None,
        retry_after=_seconds(headers.get("retry-after", "")),
    )
    failed.request_id = headers.get("x-request-id", "")
    failed.engine_log = tuple(map(str, log)) if isinstance(log, list) else ()
    return failed


@contextlib.contextmanager
def explained(url: str, seconds: float) -> Iterator[None]:
    """Turn what the HTTP library raises into ``CallFailed``."""
    where = shown(url)
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
        raise CallFailed(f"no server answers at {where}", code="unreachable") from exc
    except (TimeoutError, httpx2.TimeoutException) as exc:
        raise CallFailed(f"{where} did not answer within {seconds:g} seconds", code="timeout") from exc
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
        raise CallFailed(f"{where} is no address of a server", code="invalid_address") from None
    except httpx2.HTTPError as exc:
        raise CallFailed(f"the answer of {where} broke off", code="connection_lost") from exc


def shown(url: str) -> str:
    """Where a call went, as it may be told: an address can hold a password, and a query a key."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "the address"
    if not parts.scheme or not host:
        return "the address"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _seconds(retry_after: str) -> float | None:
    """A ``retry-after`` header, which is a number of seconds or a date."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
