"""What a generator process is told to do: one job, as JSON on its standard input. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Target:
    """Where requests go: a port on 127.0.0.1 or a unix socket, and the headers to send along."""

    port: int = 0
    unix: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Requests:
    """A closed loop: ``connections`` at once, each asking again when it has its answer."""

    target: Target
    connections: int
    seconds: float
    size: int


@dataclass(frozen=True)
class Latency:
    """One request after the other on one connection, for at most ``seconds``."""

    target: Target
    size: int
    count: int
    seconds: float


@dataclass(frozen=True)
class FirstToken:
    """Short streams, one after the other on one connection, each timed to its first event."""

    target: Target
    count: int
    seconds: float


@dataclass(frozen=True)
class Streams:
    """``streams`` at once, begun evenly over ``ramp`` seconds, each of ``deltas`` paced events.

    With ``bodies`` those are asked instead of the mock's streams, and nothing is known of the
    answers beforehand.
    """

    target: Target
    streams: int
    deltas: int
    interval_us: int
    ramp: float
    deadline: float
    bodies: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Idle:
    """Connections that have had one answer and are then held open until standard input ends."""

    target: Target
    connections: int


Job = Requests | Latency | FirstToken | Streams | Idle
_KINDS: dict[str, type[Job]] = {
    "requests": Requests,
    "latency": Latency,
    "first_token": FirstToken,
    "streams": Streams,
    "idle": Idle,
}


def encode(job: Job) -> str:
    """A job on one line."""
    kind = next(name for name, type_ in _KINDS.items() if isinstance(job, type_))
    return json.dumps({"kind": kind, **asdict(job)}) + "\n"


def decode(line: str) -> Job:
    """The job on a line that `encode` wrote."""
    told = json.loads(line)
    kind = _KINDS[told.pop("kind")]
    return kind(target=Target(**told.pop("target")), **told)
