"""Who asks. A client is what a key belongs to; without keys, the address that a request comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """One client and what it may have. A limit of 0 is none."""

    name: str
    models: frozenset[str] = frozenset()
    """Ids it may ask for; empty: all."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrency: int = 0
    weight: float = 1.0
    """Its share of a busy model, against the other clients' weights."""
    expires: float = 0.0
    """Unix time in seconds after which its key is worth nothing; 0: never."""
    configured: bool = False
    """It has a key, so that its name may be a metric's label: the names are few and chosen."""

    def may_use(self, model: str, aliases: Iterable[str] = ()) -> bool:
        """Whether it may ask for a model; its key may name it by any of its names."""
        return not self.models or model in self.models or not self.models.isdisjoint(aliases)


NOBODY = Client("")
"""Before anybody looked."""
