"""``inglenook serve``: the server, until it is told to end."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from inglenook.cli.subcommands import Commands
from inglenook.config.load import SettingsError, load
from inglenook.config.settings import Settings
from inglenook.http.app import create_app
from inglenook.http.server import listen, serve
from inglenook.telemetry.logs import configure


def add_commands(commands: Commands) -> None:
    command = commands.add_parser(
        "serve",
        help="start the server",
        description="Start the server. Without a file it serves the built-in model.",
    )
    add_settings_flags(command)
    command.set_defaults(run=serve_command)


def add_settings_flags(command: argparse.ArgumentParser) -> None:
    """The flags that stand above environment and file."""
    command.add_argument("--config", metavar="FILE", type=Path, help="settings, as TOML")
    command.add_argument("--host", help="address to listen on (127.0.0.1)")
    command.add_argument("--port", type=int, help="port to listen on (8000); 0 takes a free one")
    command.add_argument("--log-level", help="debug, info, warning, error or off")
    command.add_argument("--log-format", help="text or json")


def settings_from(arguments: argparse.Namespace) -> Settings:
    """What file, environment and flags say together. Raises ``SettingsError``."""
    return load(arguments.config, os.environ, _flags(arguments))


def _flags(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    said = {
        "server": {"host": arguments.host, "port": arguments.port},
        "telemetry": {"log_level": arguments.log_level, "log_format": arguments.log_format},
    }
    given = {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in said.items()
    }
    return {section: values for section, values in given.items() if values}


def serve_command(arguments: argparse.Namespace) -> int:
    try:
        settings = settings_from(arguments)
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
    print(_welcome(settings, f"http://{_reachable(host)}:{port}"), flush=True)
    serve(app, settings.server, listener, app.drain)
    return 0


def _reachable(host: str) -> str:
    """An address that a client on this machine can call."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _welcome(settings: Settings, url: str) -> str:
    ids = [model.id for model in settings.models]
    ids += [name for upstream in settings.upstreams for name in upstream.models]
    question = '[{"role": "user", "content": "What is the capital of France?"}]'
    call = f"""curl {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{ids[0]}", "messages": {question}}}'"""
    return f"""Inglenook is listening on {url}  (models: {", ".join(ids)})

  Chat here:    inglenook run{"" if url.endswith(":8000") else f" --url {url}"}
  From curl:    {call}
  From Python:  OpenAI(base_url="{url}/v1", api_key="-")
  All calls:    {url}/docs
"""
