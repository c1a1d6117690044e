"""A server to be asked, and an environment in which nobody has said anything."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.parts.answering import Answering, answering


@pytest.fixture(autouse=True)
def no_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the providers nor the proxies of the person who runs the tests are used."""
    for name in list(os.environ):
        if name.startswith("LLM_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def there() -> Iterator[Answering]:
    with answering() as server:
        yield server
