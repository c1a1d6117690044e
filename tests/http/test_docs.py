"""The documentation's pages: complete, true, shut off from the rest of the world, and as fast as files."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

import inglenook
from inglenook.config.load import load
from inglenook.http.app import create_app
from inglenook.http.edge import Edge, Routes
from inglenook.http.routes import docs
from inglenook.telemetry.access import AccessLog
from inglenook.telemetry.seen import Seen
from inglenook.wire.openapi import document
from inglenook.wire.openapi_failures import failures
from inglenook.wire.openapi_operations import OPERATIONS, Operation
from tests.parts.server import Answer, Server

ASSETS = Path(inglenook.__file__).parent / "http" / "assets"
PAGES = ("/docs", "/swagger-ui", "/swagger-ui/")
FILES = sorted(path for path in docs.routes() if "." in path and not path.startswith("/api"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def ask(path: str, method: str = "GET", **headers: str) -> Answer:
    """One request to the routes, in this process."""
    edge = Edge(docs.routes(), Seen(AccessLog("text", enabled=False)))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(edge(scope, receive, send))
    named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], named, b"".join(part.get("body", b"") for part in sent[1:]))


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text inside scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style"):
            self.scripts += data.strip()

    def links(self) -> Iterator[str]:
        for _, attributes in self.tags:
            for name in ("href", "src", "data-openapi"):
                if link := attributes.get(name):
                    yield link

    def ids(self) -> list[str]:
        return [found for _, attributes in self.tags if (found := attributes.get("id"))]


def text_of(html: str, id: str) -> str:
    """The text of a sample on the page."""
    found = re.search(rf'<code id="{id}">(.*?)</code>', html, re.DOTALL)
    assert found is not None
    plain = re.sub(r"<[^>]+>", "", found[1])
    return plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def app_routes() -> Routes:
    """The route table of the whole server."""
    app = create_app(load(None, {}, {}))

    async def opened() -> Routes:
        async with app.running():
            return app._routes()

    return asyncio.run(opened())


def test_every_route_is_documented() -> None:
    """A route of the app has an operation, an operation a route; the pages themselves have none."""
    served = {
        (re.sub(r"\*$", "{}", path), method)
        for path, methods in app_routes().items()
        for method in methods
        if path not in docs.routes()
    }
    told = {
        (re.sub(r"\{\w+\}", "{}", path), method.upper())
        for path, methods in document("1")["paths"].items()
        for method in methods
    }
    assert served == told


@pytest.mark.parametrize("path", [*PAGES, *FILES])
def test_headers_shut_the_pages_in(path: str) -> None:
    """A browser may load from and talk to this server alone, and guess no types."""
    answer = ask(path)
    assert answer.status == 200
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    for source in ("script-src", "style-src", "connect-src"):
        assert policy[source] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", PAGES)
def test_pages_refer_to_nothing_elsewhere(path: str) -> None:
    """Every link is relative, leads to a route of ours or a place on the page, and no code is inline."""
    page = Elements(ask(path).body.decode())
    known = set(app_routes())
    for link in page.links():
        parts = urlsplit(link)
        assert not parts.scheme and not parts.netloc and not link.startswith("/"), link
        if link.startswith("#"):
            assert link[1:] in page.ids()
        else:
            base = path if path.endswith("/") else posixpath.dirname(path)
            assert posixpath.normpath(posixpath.join(base, parts.path)) in known, link
    assert page.scripts == ""
    inline = [
        name for _, attributes in page.tags for name in attributes if name[:2] == "on" or name == "style"
    ]
    assert inline == []
    assert len(page.ids()) == len(set(page.ids()))


@pytest.mark.parametrize("name", ["docs.css", "docs.js", "swagger.css", "swagger.js", "icon.svg"])
def test_our_files_refer_to_nothing_elsewhere(name: str) -> None:
    """No address of another host, no import, no font."""
    text = (ASSETS / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?:|//\w|url\(|@import", text.replace("\n// ", "\n")) == []


def test_swagger_ui_is_the_pinned_one() -> None:
    """What we ship is what npm has under the pinned version, byte for byte."""
    folder = ASSETS / "swagger-ui"
    pinned = re.findall(r"^\| (\S+) \| ([0-9a-f]{64}) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert [name for name, _ in pinned] == ["swagger-ui-bundle.js", "swagger-ui.css"]
    for name, expected in pinned:
        content = gzip.decompress((folder / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == expected
    assert "Apache License" in (folder / "LICENSE").read_text()


def test_swagger_ui_asks_nobody_else() -> None:
    """Its online validator is off, and it reads our own document."""
    script = (ASSETS / "swagger.js").read_text()
    assert "validatorUrl: null" in script
    assert 'data-openapi="openapi.json"' in ask("/swagger-ui").body.decode()
    assert 'data-openapi="../openapi.json"' in ask("/swagger-ui/").body.decode()


@pytest.mark.parametrize("path", [*PAGES, *FILES])
def test_compression_is_the_clients_choice(path: str) -> None:
    """The same content either way, marked as what it is."""
    plain, packed = ask(path), ask(path, accept_encoding="br, gzip;q=0.5")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.body == gzip.decompress(packed.body)
    assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"
    assert "content-encoding" not in ask(path, accept_encoding="gzip;q=0, identity").headers


@pytest.mark.parametrize("path", [*PAGES, *FILES])
def test_head_is_get_without_the_body(path: str) -> None:
    """The headers of GET, its length too."""
    head, get = ask(path, "HEAD"), ask(path)
    assert head.body == b""
    assert head.headers | {"x-request-id": ""} == get.headers | {"x-request-id": ""}
    assert int(head.headers["content-length"]) == len(get.body)


def test_files_are_cached_under_their_hash() -> None:
    """Browsers keep files for ever and ask for pages again, so that an upgrade shows at once."""
    for path in PAGES:
        assert ask(path).headers["cache-control"] == "no-cache"
        for link in Elements(ask(path).body.decode()).links():
            name = posixpath.basename(urlsplit(link).path)
            if name.endswith((".js", ".css", ".svg")):
                assert re.fullmatch(r"v=[0-9a-f]{12}", urlsplit(link).query), link
    for path in FILES:
        expected = "no-cache" if path == "/openapi.json" else "public, max-age=31536000, immutable"
        assert ask(path).headers["cache-control"] == expected


@pytest.mark.parametrize(("path", "to"), [("/docs/", "/docs"), ("/redoc", "/docs")])
def test_other_addresses_lead_here(path: str, to: str) -> None:
    """Where other servers have these pages, a relative redirect leads to ours."""
    answer = ask(path)
    base = path if path.endswith("/") else posixpath.dirname(path)
    assert answer.status == 308
    assert posixpath.normpath(posixpath.join(base, answer.headers["location"])) == to


def test_the_document_is_where_earlier_systems_had_it() -> None:
    """The same, but for the way from there to where its paths begin."""
    here, there = (json.loads(ask(path).body) for path in ("/openapi.json", "/api/openapi.json"))
    assert (here.pop("servers")[0]["url"], there.pop("servers")[0]["url"]) == ("./", "../")
    assert here == there


def test_the_page_has_its_readers_address() -> None:
    """The examples work as they stand, without JavaScript too."""
    page = ask("/docs", host="box.local:9000").body.decode()
    assert text_of(page, "sample-curl").startswith("curl http://box.local:9000/v1/chat/completions ")
    assert "{{" not in page
    assert text_of(ask("/docs").body.decode(), "sample-curl").startswith("curl http://127.0.0.1:8000/v1/")


def test_a_strange_host_is_not_repeated() -> None:
    """What could be markup never reaches the page."""
    page = ask("/docs", host='"><script>').body.decode()
    assert "curl <b data-base>http://127.0.0.1:8000</b>/v1" in page


def test_the_page_tells_all_that_the_document_tells() -> None:
    """Every operation, every field of its request, every error."""
    page = ask("/docs").body.decode()
    described = json.loads(ask("/openapi.json").body)
    ids = Elements(page).ids()
    for operation in OPERATIONS:
        assert f"<code>{operation.path}</code>" in page
        assert operation.id in ids
        if operation.request is not None:
            for field in described["components"]["schemas"][operation.request.__name__]["properties"]:
                assert f"<code>{field}</code>" in page
    assert [code for code in failures() if f"error-{code}" not in ids] == []


def test_the_document_is_that_of_this_version() -> None:
    """``/openapi.json`` is what ``wire.openapi`` says."""
    answer = ask("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == document(inglenook.__version__)


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.requests], ids=lambda o: o.id)
def test_examples_work(starter: Server, operation: Operation) -> None:
    """Each example request gets an answer of the documented shape from the built-in model."""
    for name, body in operation.requests.items():
        answer = starter.ask(operation.method.upper(), operation.path, body)
        assert answer.status == 200, (name, answer.body)
        if body.get("stream"):
            *events, last = answer.events
            assert last == "[DONE]"
            assert operation.event is not None
            for event in events:
                msgspec.convert(event, operation.event)
        elif "texts" in body:  # TEI's answer is a bare list
            assert all({"index", "score"} <= set(row) for row in answer.json)
        else:
            assert operation.answer is not None
            msgspec.convert(answer.json, operation.answer)


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.method == "get"], ids=lambda o: o.id)
def test_answers_have_the_documented_shape(starter: Server, operation: Operation) -> None:
    """What a GET answers fits what the document says."""
    answer = starter.get(re.sub(r"\{\w+\}", "starter", operation.path))
    assert answer.status == 200
    if operation.answer is None:
        assert answer.headers["content-type"].startswith("text/plain")
        assert operation.text.splitlines()[0] in answer.body.decode()
    else:
        msgspec.convert(answer.json, operation.answer, strict=True)


def test_the_python_sample_runs(starter: Server) -> None:
    """Copied from the page, with only its address changed by the server itself."""
    sample = text_of(starter.get("/docs").body.decode(), "sample-python")
    done = subprocess.run([sys.executable, "-c", sample], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(("sample", "expected"), [("sample-curl", "Paris"), ("sample-curl-stream", "[DONE]")])
def test_the_curl_samples_run(starter: Server, sample: str, expected: str) -> None:
    """Copied from the page into a shell."""
    command = text_of(starter.get("/docs").body.decode(), sample)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=50)
    assert expected in done.stdout, done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to look with")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/docs",
            r"<code>team/echo</code>.*Inglenook \S+ is up with 3 models|is up with 3 models.*team/echo",
        ),
        ("/swagger-ui", r'data-path="/v1/chat/completions"'),
        ("/swagger-ui/", r'data-path="/v1/chat/completions"'),
    ],
)
def test_a_browser_shows_it(starter: Server, tmp_path: Path, path: str, expected: str) -> None:
    """The scripts run under our policy, and no request is refused or goes elsewhere."""
    shown = look(f"{starter.url}{path}", tmp_path)
    assert re.search(expected, shown.stdout, re.DOTALL)
    assert re.findall(r"CONSOLE.*", shown.stderr) == []


def look(url: str, profile: Path) -> subprocess.CompletedProcess[str]:
    """The page as Chromium has it after its scripts, and what they wrote to the console."""
    assert CHROMIUM is not None
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    flags += " disable-component-update disable-sync dump-dom enable-logging=stderr"
    command = [CHROMIUM, *(f"--{flag}" for flag in flags.split())]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=8000", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)
