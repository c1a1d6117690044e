"""Where a chat takes place: on a server that runs, or on one started for it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from inglenook.cli.models import Bar
from inglenook.cli.own_server import own_server
from inglenook.cli.remote import (
    DEFAULT_URL,
    Failure,
    Foreign,
    Refused,
    Server,
    Unreachable,
    named_url,
    server_at,
)
from inglenook.config.load import load
from inglenook.policy.reference import FORMS, BuiltinRef, FileRef, HubRef, ModelRef, parse_reference
from inglenook.store import hub
from inglenook.store.builtin import builtin_path

ECHO = "echo"
"""A built-in model without a file: the engine is all there is of it."""


@contextlib.contextmanager
def place(arguments: argparse.Namespace) -> Iterator[tuple[Server, str]]:
    """A server and the id of its model, for as long as this block.

    Raises ``Failure``, ``ValueError``, ``hub.HubError`` or ``SettingsError``.
    """
    named = named_url(arguments)
    server = server_at(named or DEFAULT_URL, arguments)
    model = _on_running(server, arguments.model, is_named=bool(named))
    if model is not None:
        yield server, model
        return
    ref = _reference(arguments.model, server)
    if sys.stderr.isatty():
        print("Starting a server for this chat...", file=sys.stderr)
    with own_server(ref, os.environ) as url:
        own = server_at(url, arguments)
        yield own, own.model(arguments.model) if ref is None and arguments.model else _first(own)


def _on_running(server: Server, model: str | None, *, is_named: bool) -> str | None:
    """The model's id on a server that runs; ``None`` when a server of our own is the way."""
    try:
        return server.model(model) if model else _first(server)
    except (Unreachable, Foreign):
        # At the default address anything may live; at an address that was named, the server is meant.
        if is_named:
            raise
    except Refused as refused:
        if is_named or refused.status != 404 or not model or not _is_reference(model):
            raise
    return None


def _first(server: Server) -> str:
    models = server.chat_models()
    if not models:
        raise Failure(f"The server at {server.url} has no model that chats.")
    return models[0]


def _reference(model: str | None, server: Server) -> ModelRef | None:
    """The model that a server of our own is to have, on this machine already; ``None``: its settings'."""
    if model is None:
        return None
    if not _is_reference(model):
        known = load(None, os.environ, {}).models
        if any(model in (each.id, *each.aliases) for each in known):
            return None
        raise Failure(f"no server runs at {server.url}, and {model!r} is no model to start: write {FORMS}")
    ref = parse_reference(model)
    _fetch(ref)
    return ref


def _fetch(ref: ModelRef) -> None:
    """Here, and not in the server, because here the person sees how far it is and what is wrong."""
    if isinstance(ref, BuiltinRef) and ref.name != ECHO:
        try:
            builtin_path(ref)
        except ValueError as problem:
            raise Failure(str(problem)) from None
    if isinstance(ref, HubRef):
        bar = Bar(sys.stderr) if sys.stderr.isatty() else None
        try:
            hub.ensure(ref, progress=bar or hub.silent)
        finally:
            if bar:
                bar.close()


def _is_reference(model: str) -> bool:
    """Whether ``model`` says where a model is, rather than being a server's name for one."""
    try:
        ref = parse_reference(model)
    except ValueError:
        return model.startswith(("hf:", "builtin:"))
    return not isinstance(ref, FileRef) or Path(ref.path).expanduser().is_file()
