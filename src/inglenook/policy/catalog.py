"""Which model a name means. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inglenook.errors import ModelNotFound


@dataclass(frozen=True)
class Entry:
    """One model that clients may ask for."""

    id: str
    owned_by: str
    aliases: tuple[str, ...] = ()
    listed: bool = True
    """Whether ``GET /v1/models`` offers it. A stand-in only answers to its name."""


class Catalog:
    """Every name that clients may use. Built once; two models with one name are refused."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._by_name: dict[str, Entry] = {}
        for entry in self.entries:
            for name in (entry.id, *entry.aliases):
                if name in self._by_name:
                    raise ValueError(f"two models answer to {name!r}: rename one of them")
                self._by_name[name] = entry

    def resolve(self, name: str) -> Entry:
        """The entry that ``name`` (an id or an alias) means. Raises ``ModelNotFound``."""
        entry = self._by_name.get(name)
        if entry is None:
            raise ModelNotFound(self._sorry(name), param="model")
        return entry

    def _sorry(self, name: str) -> str:
        near = difflib.get_close_matches(name[:100], self._by_name, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; GET /v1/models lists what there is"
        return f"The model {name[:100]!r} does not exist{hint}"


def model_object(entry: Entry, created: int) -> Mapping[str, object]:
    """OpenAI's model object; ``created`` is Unix time in seconds."""
    return {"id": entry.id, "object": "model", "created": created, "owned_by": entry.owned_by}
