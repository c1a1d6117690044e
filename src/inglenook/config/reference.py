"""The settings reference, made from the settings themselves so that it cannot be wrong."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import FieldInfo, fields

from inglenook.config.settings import (
    ApiSettings,
    AuthSettings,
    CacheSettings,
    EngineSettings,
    HubSettings,
    LimitsSettings,
    ModelSettings,
    SamplingDefaults,
    ServerSettings,
    TelemetrySettings,
    UpstreamSettings,
    UpstreamTimeouts,
)

SECTIONS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("[server]", ServerSettings),
    ("[[models]]", ModelSettings),
    ("[[upstreams]]", UpstreamSettings),
    ("[engines]", EngineSettings),
    ("[auth]", AuthSettings),
    ("[limits]", LimitsSettings),
    ("[cache]", CacheSettings),
    ("[api]", ApiSettings),
    ("[hub]", HubSettings),
    ("[telemetry]", TelemetrySettings),
)
HEAD = """# Settings

Made by `inglenook config explain`; a test holds it equal to the settings in the code.

A flag stands above the environment, the environment above the file, the file above the defaults.
A file is named with `inglenook serve --config FILE` and written in TOML. Every section's settings can also be
given as `INGLENOOK_SECTION__NAME` (`INGLENOOK_SERVER__PORT=9000`), and a whole list as TOML
(`INGLENOOK_MODELS='[{id = "m", path = "m.gguf"}]'`). An unknown setting stops the start.
"""


def reference() -> str:
    """Every setting, its default and what it does, as Markdown."""
    return HEAD + "".join(_section(title, shape) for title, shape in SECTIONS)


def _section(title: str, shape: type[msgspec.Struct]) -> str:
    rows = "".join(_row(field) for field in fields(shape))
    says = (shape.__doc__ or "").strip().splitlines()[0]
    says = says.replace("``", "`").partition(": ")[2]
    head = f"\n## `{title}`\n\n{says[:1].upper()}{says[1:]}\n\n"
    head += "| setting | default | what it does |\n| --- | --- | --- |\n"
    return head + rows


def _row(field: FieldInfo) -> str:
    return f"| `{field.name}` | {_default(field)} | {_says(field)} |\n"


def _default(field: FieldInfo) -> str:
    if field.required:
        return "required"
    value: Any = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory()
    if isinstance(value, SamplingDefaults | UpstreamTimeouts | msgspec.UnsetType) or value in ((), {}, ""):
        return ""
    return f"`{msgspec.json.encode(value).decode()}`"


def _says(field: FieldInfo) -> str:
    kind = msgspec.inspect.type_info(field.type)
    schema = kind.extra_json_schema if isinstance(kind, msgspec.inspect.Metadata) else None
    text = str((schema or {}).get("description", ""))
    if field.name == "defaults":
        names = ", ".join(f"`{inner.name}`" for inner in fields(SamplingDefaults))
        text += f": a table of {names}"
    return text
