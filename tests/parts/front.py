"""A server of ours before scripted upstreams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.parts.server import Server, start
from tests.parts.upstream import Act, Heard, Scripted, says, scripted


class Front:
    """One server whose many upstreams are all one scripted server: what one test did is no other's past."""

    def __init__(self, server: Server, there: Scripted) -> None:
        self.server, self.there = server, there
        self._numbers = count()
        self.model = ""

    def script(self, *acts: Act, always: Act | None = None) -> None:
        """Begin anew, at an upstream that nobody has asked yet."""
        self.model = f"m{next(self._numbers)}"
        self.there.calls.clear()
        self.there.script.clear()
        self.there.then(*acts)
        self.there.always = always or says()

    @property
    def calls(self) -> list[Heard]:
        return self.there.calls


@contextmanager
def front(directory: Path, count: int, **fields: Any) -> Iterator[Front]:
    """A server with ``count`` upstreams, each with the settings ``fields`` and a model of its own."""
    with scripted() as there:
        tables = [there.toml(f"up{at}", (f"m{at}",), **fields) for at in range(count)]
        server = start("\n".join(tables), directory, ())
        try:
            yield Front(server, there)
        finally:
            server.end()
