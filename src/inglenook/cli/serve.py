"""``inglenook serve``: the server, until it is told to end."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from inglenook.cli.subcommands import Commands
from inglenook.config.load import SettingsError, load
from inglenook.config.settings import ServerSettings, Settings
from inglenook.http.app import create_app
from inglenook.http.port_file import announced
from inglenook.http.server import ENDING, listen, serve
from inglenook.http.tls import tls_context
from inglenook.telemetry.logs import configure, hold

log = logging.getLogger("inglenook.http")

NEEDS_KEY = """
Every request needs a key. A new one:  inglenook keys create CLIENT
"""
NEEDS_THEIR_KEY = """
Every request needs a key that the settings name.
"""

QUESTION = '[{"role": "user", "content": "What is the capital of France?"}]'


def add_commands(commands: Commands) -> None:
    command = commands.add_parser(
        "serve",
        help="start the server",
        description="Start the server. Without a file it serves the built-in models.",
    )
    add_settings_flags(command)
    command.set_defaults(run=serve_command)


def add_settings_flags(command: argparse.ArgumentParser) -> None:
    """The flags that stand above environment and file."""
    command.add_argument("--config", metavar="FILE", type=Path, help="settings, as TOML")
    command.add_argument("--dialect", metavar="NAME", help="be a drop-in for an earlier system; see the docs")
    command.add_argument("--env-file", metavar="FILE", type=Path, help="variables that the environment lacks")
    command.add_argument("--host", help="address to listen on (127.0.0.1)")
    command.add_argument("--port", type=int, help="port to listen on (8000); 0 takes a free one")
    command.add_argument("--log-level", help="debug, info, warning, error or off")
    command.add_argument("--log-format", help="text, json, pretty, dashed, stamped or flat")


def settings_from(arguments: argparse.Namespace) -> Settings:
    """What file, environment and flags say together. Raises ``SettingsError``."""
    return load(arguments.config, os.environ, _flags(arguments), arguments.env_file)


def _flags(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    said = {
        "server": {"dialect": arguments.dialect, "host": arguments.host, "port": arguments.port},
        "telemetry": {"log_level": arguments.log_level, "log_format": arguments.log_format},
    }
    given = {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in said.items()
    }
    return {section: values for section, values in given.items() if values}


def serve_command(arguments: argparse.Namespace) -> int:
    for which in ENDING:
        signal.signal(which, _end)  # until the running server has a better one, and after it
    hold()
    try:
        settings = settings_from(arguments)
        tls = tls_context(settings.server)
        app = create_app(settings)
    except (SettingsError, ValueError) as problem:
        print(f"inglenook: {problem}", file=sys.stderr)
        return 2
    try:
        listener = listen(settings.server)
    except OSError as problem:
        where = f"{settings.server.host}:{settings.server.port}"
        print(
            f"inglenook: cannot listen on {where} ({problem.strerror}); choose another with --port",
            file=sys.stderr,
        )
        return 1
    configure(settings.telemetry)
    host, port = listener.getsockname()[:2]
    app.keys.look()
    scheme = "http" if tls is None else "https"
    welcome = _welcome(settings, f"{scheme}://{_reachable(host)}:{port}", needs_key=app.keys.needs_key)
    with announced(settings.server.port_file, port):
        print(welcome, flush=True)
        serve(app, settings.server, listener, app.drain, tls, _is_over(settings.server, app.idle_seconds))
    return 0


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


def _whose_key(settings: Settings) -> str:
    return NEEDS_THEIR_KEY if settings.auth.database == "none" else NEEDS_KEY


def _is_over(server: ServerSettings, idle_seconds: Callable[[], float]) -> Callable[[], bool] | None:
    """Whether nobody has asked anything for so long that the server is to end; ``None``: it never is."""
    most = server.idle_shutdown_seconds
    if not most:
        return None

    def is_over() -> bool:
        if idle_seconds() < most:
            return False
        log.info("no inference request for %g seconds: the server ends (server.idle_shutdown_seconds)", most)
        return True

    return is_over


def _reachable(host: str) -> str:
    """An address that a client on this machine can call."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _welcome(settings: Settings, url: str, *, needs_key: bool) -> str:
    ids = [model.id for model in settings.models]
    ids += [name for upstream in settings.upstreams for name in upstream.models]
    authorized = ' -H "authorization: Bearer $INGLENOOK_API_KEY"' if needs_key else ""
    key = 'os.environ["INGLENOOK_API_KEY"]' if needs_key else '"-"'
    is_default = url.startswith("http:") and url.endswith(":8000")
    only_embeds = bool(settings.models) and all(model.tasks == ("embed",) for model in settings.models)
    path, fields = "/v1/chat/completions", f'"messages": {QUESTION}'
    talk = f"Chat here:    inglenook run{'' if is_default else f' --url {url}'}"
    if only_embeds:
        path, fields = "/v1/embeddings", '"input": "hello world"'
        talk = f"Embed here:   inglenook embed{'' if is_default else f' --url {url}'} 'hello world'"
    model = next((name for name in ids if name != "*"), "MODEL")  # "*" is any name, and none to ask for
    body = f'{{"model": "{model}", {fields}}}'
    call = f"""curl {url}{path}{authorized} -H 'content-type: application/json' \\
    -d '{body}'"""
    return f"""Inglenook is listening on {url}  (models: {", ".join(ids) or "none"})

  {talk}
  From curl:    {call}
  From Python:  OpenAI(base_url="{url}/v1", api_key={key})
  All calls:    {url}/docs
{_whose_key(settings) if needs_key else ""}"""
