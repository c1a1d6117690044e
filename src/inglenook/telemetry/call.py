"""What is known and noted about one request, beside its untouched body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from inglenook.policy.cache_key import Freshness
from inglenook.policy.client import NOBODY, Client
from inglenook.telemetry.trace import Trace
from inglenook.wire.openai import Usage

Outcome = Literal["complete", "error", "cancelled"]


@dataclass(slots=True)
class Call:
    """One request's record: filled as it goes, read once by the access log."""

    request_id: str
    method: str
    route: str
    began: float
    """Seconds, ``time.monotonic``, like the other moments: a loop's own clock may be too coarse."""
    model: str = ""
    stream: bool = False
    attempts: int = 0
    """Tries so far, at this and other servers."""
    place: int = 0
    """How many stood before it in its model's line, itself counted; 0: it had a turn at once."""
    waited: float = 0.0
    """Seconds in that line."""
    at_most: int = 0
    """Tokens that its answer may have by its own word; -1: it does not say; 0: there are none in it."""
    reserved: int = 0
    """Tokens that its client's window holds for it until it has ended."""
    turn_at: float = 0.0
    first_at: float = 0.0
    answered: bool = False
    """A byte of the answer itself has gone out, so nothing may be repeated any more."""
    status: int = 0
    code: str = ""
    refused: str = ""
    """Which of its client's limits it ran into: requests, tokens or concurrency."""
    usage: Usage | None = None
    outcome: Outcome = "complete"
    client: Client = NOBODY
    upstream: str = ""
    """The upstream that answered, or was asked last; empty for a model of our own."""
    instead_of: str = ""
    """The model that was asked for, where ``model`` answers in its place."""
    stream_type: bytes = b"text/event-stream; charset=utf-8"
    """The content type of its answer, if that is a stream."""
    cache: Literal["", "hit", "miss", "joined"] = ""
    freshness: Freshness = ""
    """What the client's ``Cache-Control`` asks of our cache."""
    departed: Callable[[Callable[[], object]], bool] | None = None
    """To be told when the client has left: whether its task has to go on, for others who have joined. It is
    told how to cancel that task when they have left too."""
    headers: list[bytes] = field(default_factory=list)
    """What any layer adds to the head of the answer, whatever its status will be: lines, ``name: value``."""
    allowance: bytes = b""
    """The same of what its client may still have: whole lines of ours, each with its end."""
    trace: Trace | None = None
    """Whose trace it belongs to, if anybody's."""

    @property
    def onward(self) -> tuple[tuple[str, str], ...]:
        """Headers by which an engine or upstream learns of which request, and trace, its work is a part."""
        own = (("x-request-id", self.request_id),)
        return own if self.trace is None else own + self.trace.headers
