"""The outermost layer: every request gets an id, one answer and one log line, whatever happens inside."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable

from inglenook.errors import InglenookError, MethodNotAllowed, NotFound, ShuttingDown
from inglenook.http.asgi import Receive, Scope, Send
from inglenook.http.exchange import ClientLeft, Exchange
from inglenook.telemetry.access import AccessLog
from inglenook.telemetry.call import Call

log = logging.getLogger("inglenook.http")

Handler = Callable[[Exchange], Awaitable[None]]
Routes = dict[str, dict[str, Handler]]
"""Path to method to handler. A path ending in ``/*`` matches all below it."""

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
CLIENT_CLOSED = 499
"""What the access log has for a client that left before any status (nginx's number)."""


class Edge:
    """Finds the handler, turns every exception into an answer, writes the access log."""

    def __init__(self, routes: Routes, access: AccessLog) -> None:
        self._exact = {path: routes[path] for path in routes if not path.endswith("/*")}
        self._below = [(path[:-1], routes[path]) for path in routes if path.endswith("/*")]
        self._access = access
        # Ids need to differ, not to be secret: the system's own randomness costs a system call each.
        self._chance = random.Random()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(self._request_id(scope), scope["method"], "", time.monotonic())
        exchange = Exchange(scope, receive, send, call)
        try:
            await self._serve(exchange, call)
        finally:
            self._access.write(call, time.monotonic())

    async def _serve(self, exchange: Exchange, call: Call) -> None:
        try:
            await self._handler(call, exchange.scope["path"])(exchange)
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

    def _handler(self, call: Call, path: str) -> Handler:
        methods = self._exact.get(path)
        call.route = path
        if methods is None:
            for prefix, below in self._below:
                if path.startswith(prefix) and len(path) > len(prefix):
                    methods, call.route = below, prefix + "*"
                    break
            else:
                call.route = "*"
                raise NotFound("There is nothing at this path. /docs has all there is.")
        handler = methods.get("GET" if call.method == "HEAD" else call.method)
        if handler is None:
            raise MethodNotAllowed(
                f"This path does not take {call.method}.", allow=", ".join(sorted(methods))
            )
        return handler

    def _request_id(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                return str(value, "latin-1")
        return f"{self._chance.getrandbits(128):032x}"
