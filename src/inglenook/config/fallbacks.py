"""Who is asked when a model cannot answer: every ``fallbacks`` setting, followed to its end. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from inglenook.config.settings import Settings


class _Wish(NamedTuple):
    """One name in a ``fallbacks`` setting, and which setting that is."""

    where: str
    model: str


def fallback_chains(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    """Model id to the ids asked in its place, in order; a fallback's own fallbacks come right behind it.

    Raises ``ValueError`` with one sentence that names the setting: a name that no model has, or a way that
    leads back to where it began.
    """
    wishes = _wishes(settings)
    for model in wishes:
        _refuse_circles(wishes, (model,))
    return {model: tuple(_chain(wishes, model))[1:] for model in wishes}


def _wishes(settings: Settings) -> dict[str, list[_Wish]]:
    names: dict[str, str] = {}
    for upstream in settings.upstreams:
        names.update({name: name for name in upstream.models})
    for model in settings.models:
        names.update(dict.fromkeys((model.id, *model.aliases), model.id))
    wishes: dict[str, list[_Wish]] = {}
    for at, model in enumerate(settings.models):
        wished = _known(f"models[{at}].fallbacks", model.fallbacks, names)
        wishes.setdefault(model.id, []).extend(wished)
    for at, upstream in enumerate(settings.upstreams):
        wished = _known(f"upstreams[{at}].fallbacks", upstream.fallbacks, names)
        for name in upstream.models:
            # An upstream of several models may name one of them: for that one it means nothing.
            others = [wish for wish in wished if wish.model != name or len(upstream.models) == 1]
            wishes.setdefault(names[name], []).extend(others)
    return wishes


def _known(where: str, said: tuple[str, ...], names: Mapping[str, str]) -> list[_Wish]:
    for name in said:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{where}: no model is called {name!r}{hint}")
    return [_Wish(where, names[name]) for name in said]


def _refuse_circles(
    wishes: Mapping[str, list[_Wish]], way: tuple[str, ...], fine: set[str] | None = None
) -> None:
    fine = set() if fine is None else fine
    for where, model in wishes.get(way[-1], ()):
        if model in way:
            circle = " -> ".join((*way[way.index(model) :], model))
            raise ValueError(f"{where}: a model falls back to itself ({circle}); take one of them out")
        if model not in fine:
            _refuse_circles(wishes, (*way, model), fine)
    fine.add(way[-1])


def _chain(
    wishes: Mapping[str, list[_Wish]], model: str, chain: dict[str, None] | None = None
) -> dict[str, None]:
    """``model`` and all who follow it, each once, in the order in which they are asked."""
    chain = {} if chain is None else chain
    chain[model] = None
    for wish in wishes.get(model, ()):
        if wish.model not in chain:
            _chain(wishes, wish.model, chain)
    return chain
