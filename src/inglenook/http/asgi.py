"""The ASGI types we use. Specification: ASGI 3.0, HTTP connection scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
"""A request's: names in lower case, and values."""
Lines = list[bytes]
"""An answer's headers, each as it is sent: ``name: value``. Most are made once, for all answers."""
