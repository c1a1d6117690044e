"""The outermost layer: every request gets an id, one answer and one log line, whatever happens inside."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable

from inglenook.errors import InglenookError, MethodNotAllowed, NotFound, ShuttingDown
from inglenook.http.admission import Admission, Standing
from inglenook.http.asgi import Receive, Scope, Send
from inglenook.http.cors import Cors, is_preflight
from inglenook.http.exchange import ClientLeft, Exchange, Present, openai_error
from inglenook.http.guard import Guard
from inglenook.telemetry.call import Call
from inglenook.telemetry.seen import Seen

log = logging.getLogger("inglenook.http")

Handler = Callable[[Exchange], Awaitable[None]]
Routes = dict[str, dict[str, Handler]]
"""Path to method to handler. A path ending in ``/*`` matches all below it."""

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
CLIENT_CLOSED = 499
"""What the access log has for a client that left before any status (nginx's number)."""


class Edge:
    """Finds the handler, turns every exception into an answer, sees that it is told of."""

    def __init__(
        self,
        routes: Routes,
        seen: Seen,
        guard: Guard | None = None,
        admission: Admission | None = None,
        cors: Cors | None = None,
    ) -> None:
        """Without a guard all may ask for everything, without admission as often as they like."""
        self._exact = {path: routes[path] for path in routes if not path.endswith("/*")}
        self._below = [(path[:-1], routes[path]) for path in routes if path.endswith("/*")]
        self._seen, self._traces = seen, seen.traces
        self._guard, self._admission, self._cors = guard, admission, cors
        self.present: Present = openai_error
        """How errors look; a dialect's own, set once when everything is built."""
        self.request_ids = _REQUEST_ID
        """What is taken for an id that a client gave; set like ``present``."""
        # Ids need to differ, not to be secret: the system's own randomness costs a system call each.
        self._chance = random.Random()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        call = Call(self._request_id(headers), scope["method"], "", time.monotonic())
        if self._traces.on or b"traceparent" in headers:
            call.trace = self._traces.begin(scope["headers"])
        exchange = Exchange(scope, headers, receive, send, call)
        exchange.present = self.present
        standing = None
        try:
            handler, standing = self._admitted(exchange, call)
            await handler(exchange)
        except InglenookError as error:
            await exchange.fail(error)
        except ClientLeft:
            call.outcome, call.status = "cancelled", call.status or CLIENT_CLOSED
        except asyncio.CancelledError:
            # Only the end of drain_seconds cancels us: what is under way is told so.
            await exchange.fail(ShuttingDown("The server is shutting down."))
            raise
        except Exception:
            log.exception("request %s failed in a way that we did not foresee", call.request_id)
            await exchange.fail(
                InglenookError(f"Something went wrong in the server. Its log has it as {call.request_id}.")
            )
        finally:
            ended = time.monotonic()
            if standing is not None and self._admission is not None:
                self._admission.leave(standing, call, ended)
            self._seen.ended(call, ended)

    def _admitted(self, exchange: Exchange, call: Call) -> tuple[Handler, Standing | None]:
        """CORS, Host, key, path, limits: nothing is told of a path to those who may not have it."""
        headers = exchange.headers
        methods = self._methods(call, exchange.scope["path"])
        if self._cors is not None:
            call.headers += self._cors.headers(headers)
            if is_preflight(call.method, headers):
                return self._cors.preflight, None
        if self._guard is not None:
            call.client = self._guard.client(exchange.scope, headers)
        handler = _handler(methods, call.method)
        if self._admission is None or call.route not in self._admission.counted:
            return handler, None
        return handler, self._admission.enter(call, headers)

    def _methods(self, call: Call, path: str) -> dict[str, Handler]:
        """The handlers of a path, none if there is no such path; notes the route."""
        methods = self._exact.get(path)
        if methods is not None:
            call.route = path
            return methods
        for prefix, below in self._below:
            if path.startswith(prefix) and len(path) > len(prefix):
                call.route = prefix + "*"
                return below
        call.route = "*"
        return {}

    def _request_id(self, headers: dict[bytes, bytes]) -> str:
        value = headers.get(b"x-request-id")
        if value is not None and self.request_ids.fullmatch(value):
            return str(value, "latin-1").strip()
        return f"{self._chance.getrandbits(128):032x}"


def _handler(methods: dict[str, Handler], method: str) -> Handler:
    if not methods:
        raise NotFound("There is nothing at this path. /docs has all there is.")
    handler = methods.get("GET" if method == "HEAD" else method)
    if handler is None:
        raise MethodNotAllowed(f"This path does not take {method}.", allow=", ".join(sorted(methods)))
    return handler
