"""Which model a name means. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from inglenook.errors import ModelNotFound

ANY = "*"
"""As a name: every one that no other entry has."""


@dataclass(frozen=True)
class Entry:
    """One model that clients may ask for."""

    id: str
    owned_by: str
    aliases: tuple[str, ...] = ()
    listed: bool = True
    """Whether ``GET /v1/models`` offers it. A stand-in only answers to its name."""
    tasks: tuple[str, ...] = ()
    """What it is for; empty where that is not known, as of an upstream's models."""


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

    def find(self, name: str) -> Entry | None:
        """The entry that ``name`` (an id or an alias) means, if there is one."""
        return self._by_name.get(name) or self._by_name.get(ANY)

    def add(self, entry: Entry) -> None:
        """Take in a model that nobody has configured, under a name that is free."""
        self.entries = (*self.entries, entry)
        self._by_name[entry.id] = entry

    def resolve(self, name: str) -> Entry:
        """The entry that ``name`` (an id or an alias) means. Raises ``ModelNotFound``."""
        entry = self._by_name.get(name) or self._by_name.get(ANY)
        if entry is None:
            raise ModelNotFound(self._sorry(name), param="model")
        return entry

    def _sorry(self, name: str) -> str:
        near = difflib.get_close_matches(name[:100], self._by_name, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; GET /v1/models lists what there is"
        return f"The model {name[:100]!r} does not exist{hint}"


def model_object(entry: Entry, created: int) -> Mapping[str, object]:
    """OpenAI's model object; ``created`` is Unix time in seconds."""
    told = {"id": entry.id, "object": "model", "created": created, "owned_by": entry.owned_by}
    return {**told, "tasks": entry.tasks} if entry.tasks else told


Listed = Mapping[str, Any]
"""One model as a server's own ``GET /v1/models`` has it."""
MAX_LISTED = 10_000


def merged(entries: Iterable[Entry]) -> list[Entry]:
    """Entries with each id once: servers that have the same model are its replicas. The first one owns it."""
    by_id: dict[str, Entry] = {}
    for entry in entries:
        by_id.setdefault(entry.id, entry)
    return list(by_id.values())


def read_listing(body: bytes) -> list[Listed]:
    """The models of a ``GET /v1/models`` answer. Raises ``ValueError`` when it is none."""
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("not a list of models") from None
    data = answer.get("data")
    if not isinstance(data, list):
        raise ValueError("not a list of models")
    return [
        entry for entry in data[:MAX_LISTED] if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    ]


def upstream_model_id(name: str, listed: Sequence[Listed]) -> str | None:
    """What an upstream itself calls the model that is ``name`` here; ``None`` when it does not say.

    A server of one model mostly answers to any name, so that model is it.
    """
    if any(entry["id"] == name for entry in listed):
        return name
    return str(listed[0]["id"]) if len(listed) == 1 else None


def mapped_models(aliases: Iterable[tuple[str, str, Sequence[Listed] | None]]) -> list[Mapping[str, object]]:
    """The list of models of a proxy that is only its upstreams: contract `proxy.md`, section 4.

    Each alias comes with its upstream's address and the upstream's own list, ``None`` when it failed. An
    alias is the first entry of that list under its new name; an empty list gives a stub, a failure nothing.
    """
    objects: dict[str, Mapping[str, object]] = {}
    for alias, url, listed in sorted(aliases, key=lambda each: each[0]):
        if alias in objects or listed is None:
            continue
        if listed:
            objects[alias] = {**listed[0], "id": alias, "upstream_model_id": listed[0]["id"]}
        else:
            stub = {"id": alias, "object": "model", "owned_by": "llamacpp", "meta": {"upstream": url}}
            objects[alias] = stub
    return list(objects.values())
