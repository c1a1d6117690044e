"""``docs/contract.md`` says what the server does, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from inglenook.http.cors import EXPOSED
from inglenook.http.routes import docs
from inglenook.telemetry.metrics import known_codes
from inglenook.wire.openapi import document
from inglenook.wire.openapi_failures import failures
from tests.conftest import StartServer
from tests.parts.server import Server

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def rows(name: str) -> list[list[str]]:
    """The cells of each row of the section's table, its head left out."""
    lines = [line for line in section(name).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_routes_are_all_routes() -> None:
    """Those of the API's description, and those of the pages that show it."""
    told = {(path, method.lower()) for paths, method, _ in rows("Routes") for path in words(paths)}
    api = {(path, method) for path, methods in document("1")["paths"].items() for method in methods}
    pages = {path for path in docs.routes() if "." not in path and not path.endswith("/")}
    pages |= {"/openapi.json", "/api/openapi.json"}
    assert told == api | {(path, "get") for path in pages}


def test_the_codes_are_all_codes() -> None:
    """With their statuses; and they are those that metrics know by name."""
    told = {words(code)[0]: status for code, status, _ in rows("Errors")}
    statuses = {code: str(each.example.status) for code, each in failures().items()}
    assert told == statuses | {"upstream_refused": "4xx"}
    assert set(told) == set(known_codes())


def test_the_headers_are_all_headers() -> None:
    """Those that pages of other origins may read, which is all that we add."""
    told = [name for names, _, _ in rows("Response headers") for name in words(names)]
    assert sorted(told) == sorted(EXPOSED.decode().split(", "))


def test_the_example_of_an_error_is_one(starter: Server) -> None:
    answer = starter.chat("hi", model="starter", temperature=9)
    assert (answer.status, answer.body.decode()) == (400, words_of_json("Errors"))


def words_of_json(name: str) -> str:
    """The section's example, as the server spaces it."""
    found = re.search(r"```json\n(.*)\n```", section(name))
    assert found is not None
    return found[1].replace('": ', '":').replace(', "', ',"')


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("chat/completions", {"functions": [{}]}, "functions"),
    ("chat/completions", {"modalities": ["text", "audio"]}, "modalities"),
    ("chat/completions", {"stream_options": {"include_usage": True}}, "stream_options"),
    ("chat/completions", {"n_cmpl": 2}, "n_cmpl"),
    ("completions", {"best_of": 2}, "best_of"),
    ("completions", {"logprobs": 1, "echo": True}, "logprobs"),
]


@pytest.mark.parametrize(("route", "fields", "param"), REFUSED, ids=[param for _, _, param in REFUSED])
def test_what_is_said_to_be_refused_is(
    route: str, fields: dict[str, Any], param: str, starter: Server
) -> None:
    """By its name on the page and in the answer; next to it an unknown field, and null, are taken."""
    assert f"`{param}`" in section("Request fields")
    body = {"model": "starter", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    body |= {"prompt": "hi", "colour": "blue", "stop": None}
    assert starter.ask("POST", f"/v1/{route}", body).status == 200
    answer = starter.ask("POST", f"/v1/{route}", body | fields)
    assert (answer.status, answer.error["param"]) == (400, param)


def test_an_upstream_is_told_no_other_address(serve: StartServer) -> None:
    server = serve('[[upstreams]]\nname = "far"\nurl = "http://127.0.0.1:9"\nmodels = ["far"]\n')
    for name in ("api_base", "base_url", "api_key"):
        assert f"`{name}`" in section("Request fields")
        answer = server.chat("hi", model="far", **{name: "http://127.0.0.1:1"})
        assert (answer.status, answer.error["param"]) == (400, name)
