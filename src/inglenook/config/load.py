"""From a file, the environment and flags to ``Settings``: read, merge, check.

A flag stands above the environment, the environment above the file, the file above the defaults.
Every mistake stops the start with one sentence: where, what, and what to write instead.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import fields, replace

from inglenook.config.dialects import dotenv
from inglenook.config.dialects.base import Dialect, VariableError, Variables
from inglenook.config.dialects.table import DIALECTS
from inglenook.config.fallbacks import fallback_chains
from inglenook.config.settings import (
    ApiSettings,
    AuthSettings,
    CacheSettings,
    EngineSettings,
    HubSettings,
    KeySettings,
    LimitsSettings,
    ModelSettings,
    SamplingDefaults,
    ServerSettings,
    Settings,
    TelemetrySettings,
    UpstreamSettings,
    UpstreamTimeouts,
)

PREFIX = "INGLENOOK_"
UPSTREAM_URL = re.compile(r"https?://[^/]|unix:/")
ENGINES = (
    "llamacpp",
    "sentence_transformers",
    "bge_m3",
    "cross_encoder",
    "static",
    "deterministic",
    "echo",
)
STARTERS = (
    ModelSettings(id="starter", path="builtin:starter", engine="llamacpp", tasks=("chat",)),
    ModelSettings(id="starter-embed", path="builtin:starter-embed", engine="static", tasks=("embed",)),
)
"""What is served when nothing was said about models."""
_BUILTIN_ENGINES = {"echo": "echo", "deterministic": "deterministic", "starter-embed": "static"}

_SHAPES: dict[str, type[msgspec.Struct]] = {
    "server": ServerSettings,
    "models": ModelSettings,
    "upstreams": UpstreamSettings,
    "engines": EngineSettings,
    "auth": AuthSettings,
    "limits": LimitsSettings,
    "cache": CacheSettings,
    "api": ApiSettings,
    "hub": HubSettings,
    "telemetry": TelemetrySettings,
}
_TABLES: dict[str, type[msgspec.Struct]] = {
    "defaults": SamplingDefaults,
    "timeouts": UpstreamTimeouts,
    "keys": KeySettings,
}
"""Settings that are tables, or lists of tables, themselves."""
Json = dict[str, Any]


class SettingsError(Exception):
    """The settings are wrong. The message says where, what, and what to write instead."""


def load(
    file: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
    env_file: Path | None = None,
) -> Settings:
    """The one settings object. ``flags`` are given as ``{"server": {"port": 1}}``.

    ``env_file`` adds variables that the environment does not have. A dialect's own variables stand below
    everything else. Raises ``SettingsError``.
    """
    if env_file is not None:
        environ = {**_dotenv(env_file), **environ}
    said: Json = {}
    for level in (_read(file) if file is not None else {}, _from_environment(environ), flags):
        said = _over(said, level)
    dialect = _dialect(said)
    if dialect is not None:
        said = _over(_translated(dialect, environ), said)
    return completed(_checked(said), environ)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Json:
    """``above`` where it says something; tables are merged, lists are taken whole."""
    said = dict(below)
    for section, values in above.items():
        old = said.get(section, {})
        merges = isinstance(values, Mapping) and isinstance(old, Mapping)
        said[section] = {**old, **values} if merges else values
    return said


def _dialect(said: Json) -> Dialect | None:
    server = said.get("server")
    name = server.get("dialect", "") if isinstance(server, dict) else ""
    if not name:
        return None
    for dialect in DIALECTS:
        if dialect.name == name:
            return dialect
    known = ", ".join(dialect.name for dialect in DIALECTS)
    raise SettingsError(f"server.dialect: {name!r} is none of {known}")


def _translated(dialect: Dialect, environ: Mapping[str, str]) -> Json:
    if dialect.reads_dotenv and (file := Path(".env")).is_file():
        environ = {**_dotenv(file), **environ}
    try:
        return dialect.settings(Variables(environ))
    except VariableError as problem:
        raise SettingsError(str(problem)) from None


def _dotenv(file: Path) -> dict[str, str]:
    try:
        return dotenv.parse(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise SettingsError(f"{file}: cannot be read ({problem.strerror})") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: is not UTF-8 text") from None


def _read(file: Path) -> Json:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise SettingsError(f"{file}: cannot be read ({problem.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SettingsError(f"{file}: is not valid TOML: {problem}") from None


def _from_environment(environ: Mapping[str, str]) -> Json:
    """``INGLENOOK_SECTION__NAME`` as ``{"section": {"name": value}}``; values as TOML has them, else text."""
    said: Json = {}
    for variable, text in environ.items():
        section, _, name = variable.removeprefix(PREFIX).lower().partition("__")
        if not variable.startswith(PREFIX) or section not in _SHAPES:
            continue
        value = _value(text)
        if name:
            said.setdefault(section, {})[name] = value
        else:
            said[section] = value
    return said


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _checked(said: Json) -> Settings:
    _refuse_unknown("", said, tuple(_SHAPES))
    for section, shape in _SHAPES.items():
        values = said.get(section)
        if values is None:
            continue
        many = section in ("models", "upstreams")
        if many and not isinstance(values, list):
            raise SettingsError(f"{section}: must be a list of tables, written [[{section}]]")
        for at, table in enumerate(values if many else [values]):
            where = f"{section}[{at}]" if many else section
            if not isinstance(table, dict):
                raise SettingsError(f"{where}: must be a table")
            _refuse_unknown(f"{where}.", table, _names(shape))
            _refuse_unknown_within(f"{where}.", table)
    try:
        return msgspec.convert(said, Settings)
    except msgspec.ValidationError as problem:
        raise SettingsError(_explained(str(problem))) from None


def _refuse_unknown_within(where: str, said: Json) -> None:
    for name, shape in _TABLES.items():
        inner = said.get(name)
        if isinstance(inner, dict):
            _refuse_unknown(f"{where}{name}.", inner, _names(shape))
        for at, table in enumerate(inner if isinstance(inner, list) else []):
            if isinstance(table, dict):
                _refuse_unknown(f"{where}{name}[{at}].", table, _names(shape))


def _names(shape: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(shape))


def _refuse_unknown(where: str, said: Json, known: tuple[str, ...]) -> None:
    for name in said:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise SettingsError(f"{where}{name}: unknown setting{hint}")


def _explained(message: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.server.port`" as "server.port: expected int, got str"."""
    text, _, at = message.partition(" - at `$")
    where = at.removesuffix("`").removeprefix(".") or "settings"
    said = text.replace("`", "")
    return f"{where}: {said[:1].lower()}{said[1:]}"


def completed(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Fill in what follows from the rest: engines from paths, secrets from where they are kept.

    Raises ``SettingsError`` for what contradicts itself. What is complete stays as it is.
    """
    models = settings.models
    if not models and not settings.upstreams and not settings.server.dialect:
        models = STARTERS
    models = tuple(_with_engine(at, model) for at, model in enumerate(models))
    for at, upstream in enumerate(settings.upstreams):
        if not UPSTREAM_URL.match(upstream.url):
            raise SettingsError(f"upstreams[{at}].url: must start with http://, https:// or unix:/")
    upstreams = tuple(
        replace(upstream, api_key=secret(f"upstreams[{at}].api_key", upstream.api_key, environ))
        for at, upstream in enumerate(settings.upstreams)
    )
    _refuse_twice([(f"models[{at}].id", model.id) for at, model in enumerate(models)])
    _refuse_twice([(f"upstreams[{at}].name", each.name) for at, each in enumerate(upstreams)])
    keys = tuple(
        replace(key, key=secret(f"auth.keys[{at}].key", key.key, environ))
        for at, key in enumerate(settings.auth.keys)
    )
    headers = {
        name: secret(f"telemetry.otlp_headers.{name}", value, environ)
        for name, value in settings.telemetry.otlp_headers.items()
    }
    try:
        fallback_chains(replace(settings, models=models))
    except ValueError as wrong:
        raise SettingsError(str(wrong)) from None
    return replace(
        settings,
        models=models,
        upstreams=upstreams,
        auth=replace(settings.auth, keys=keys),
        telemetry=replace(settings.telemetry, otlp_headers=headers),
    )


def _with_engine(at: int, model: ModelSettings) -> ModelSettings:
    if model.engine and model.engine not in ENGINES:
        known = f"{', '.join(ENGINES[:-1])} or {ENGINES[-1]}"
        raise SettingsError(f"models[{at}].engine: {model.engine!r} is not an engine; write {known}")
    return replace(model, engine=model.engine or _inferred(model.path))


def _inferred(path: str) -> str:
    """The engine that the path's own words decide; empty where what is there has to be looked at."""
    if path.startswith("builtin:"):
        return _BUILTIN_ENGINES.get(path.removeprefix("builtin:"), "llamacpp")
    names_a_file = path.startswith("hf:") and path.count(":") == 2
    return "llamacpp" if names_a_file or path.lower().endswith((".gguf", "-gguf")) else ""


def _refuse_twice(named: list[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for where, name in named:
        if name in seen:
            raise SettingsError(f"{where}: {name!r} is taken by {seen[name]}")
        seen[name] = where


def secret(where: str, value: str, environ: Mapping[str, str]) -> str:
    """A secret as itself, or from ``env:NAME`` or ``file:PATH``. Raises ``SettingsError``, never with it."""
    if name := re.fullmatch(r"env:(.+)", value):
        if name[1] not in environ:
            raise SettingsError(f"{where}: the environment has no {name[1]}")
        return environ[name[1]]
    if path := re.fullmatch(r"file:(.+)", value):
        try:
            return Path(os.path.expanduser(path[1])).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise SettingsError(f"{where}: its file cannot be read") from None
    return value
