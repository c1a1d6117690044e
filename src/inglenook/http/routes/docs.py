"""GET /docs, /openapi.json and /swagger-ui: the API for people, for programs and for trying out.

All of it comes from this package; no page loads anything from elsewhere, nor may it.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec

from inglenook import __version__
from inglenook.http.edge import Handler, Routes
from inglenook.http.exchange import Exchange
from inglenook.http.routes._reference import contents, error_table, reference
from inglenook.http.routes._served import ASK_AGAIN, CSS, FOR_A_YEAR, JSON, SCRIPT, SVG, File, Page
from inglenook.wire.openapi import Json, document
from inglenook.wire.openapi_failures import failures


def routes() -> Routes:
    """Every page and file. Built once: the reference is rendered here, not for each reader."""
    described = document(__version__)
    shipped = _shipped(files("inglenook.http") / "assets")
    marks = {f"{{{{{path}}}}}": f"{path}?v={file.mark}" for path, file in shipped.items()}
    # Its own address is where its paths begin.
    further_down = described | {"servers": [{**described["servers"][0], "url": "../"}]}
    handlers: dict[str, Handler] = {
        **{f"/{path}": file for path, file in shipped.items()},
        "/openapi.json": File.of(msgspec.json.encode(described), JSON, ASK_AGAIN),
        "/docs": Page(_filled("docs.html", {**marks, **_reference(described)}, "")),
        "/swagger-ui": Page(_filled("swagger.html", marks, "")),
        "/swagger-ui/": Page(_filled("swagger.html", marks, "../")),
        # Where other servers have these.
        "/docs/": _moved("../docs"),
        "/redoc": _moved("docs"),
        "/api/openapi.json": File.of(msgspec.json.encode(further_down), JSON, ASK_AGAIN),
    }
    return {path: {"GET": handler} for path, handler in handlers.items()}


def _shipped(assets: Traversable) -> dict[str, File]:
    """The files that pages ask for, by path."""

    def own(name: str, kind: bytes) -> File:
        return File.of((assets / name).read_bytes(), kind, FOR_A_YEAR)

    def packed(name: str, kind: bytes) -> File:
        return File((assets / "swagger-ui" / f"{name}.gz").read_bytes(), kind, FOR_A_YEAR)

    return {
        "docs/docs.css": own("docs.css", CSS),
        "docs/docs.js": own("docs.js", SCRIPT),
        "docs/icon.svg": own("icon.svg", SVG),
        "swagger-ui/page.css": own("swagger.css", CSS),
        "swagger-ui/page.js": own("swagger.js", SCRIPT),
        "swagger-ui/swagger-ui.css": packed("swagger-ui.css", CSS),
        "swagger-ui/swagger-ui-bundle.js": packed("swagger-ui-bundle.js", SCRIPT),
    }


def _reference(described: Json) -> dict[str, str]:
    return {
        "{{contents}}": contents(described),
        "{{reference}}": reference(described),
        "{{errors}}": error_table(failures().values()),
    }


def _filled(name: str, parts: dict[str, str], up: str) -> str:
    """A page with its parts. ``up`` leads from the page to the root: links work under any prefix."""
    html = (files("inglenook.http") / "assets" / name).read_text(encoding="utf-8")
    for mark, part in {**parts, "{{up}}": up, "{{version}}": __version__}.items():
        html = html.replace(mark, part)
    return html


def _moved(to: str) -> Handler:
    async def handle(exchange: Exchange) -> None:
        await exchange.answer(308, b"", [b"location: " + to.encode()])

    return handle
