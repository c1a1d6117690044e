"""What is known and noted about one request, beside its untouched body."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from inglenook.policy.client import NOBODY, Client
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
    turn_at: float = 0.0
    first_at: float = 0.0
    answered: bool = False
    """A byte of the answer itself has gone out, so nothing may be repeated any more."""
    status: int = 0
    code: str = ""
    usage: Usage | None = None
    outcome: Outcome = "complete"
    client: Client = NOBODY
    upstream: str = ""
    """The upstream that answered, or was asked last; empty for a model of our own."""
    cache: Literal["", "hit", "miss", "joined"] = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """What any layer adds to the head of the answer, whatever its status will be."""
