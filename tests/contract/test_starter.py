"""What the built-in model's card promises, asked through the server."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from inglenook import models
from tests.parts.server import Server

HERE = Path(models.__path__[0])
SAMPLE = 8
"""Every eighth question of the closed set: a hundred of them."""


def test_it_answers_its_closed_set(starter: Server) -> None:
    """At temperature 0, at least 95 of 100."""
    measured: dict[str, Any] = json.loads((HERE / "starter.json").read_text())
    asked = [
        case
        for case in measured["closed_set"]
        if case["category"] in ("capital", "country", "arithmetic", "opposite", "calendar", "colour")
    ][::SAMPLE]

    def right(case: dict[str, Any]) -> bool:
        answer = starter.chat(case["question"], model="starter", temperature=0, max_tokens=60)
        return case["expect"].lower() in answer.json["choices"][0]["message"]["content"].lower()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(right, asked))
    assert len(answers) >= 70
    assert sum(answers) / len(answers) >= 0.95


def test_it_is_small_enough_to_ship() -> None:
    """At most 4 MB in the package, its card beside it, with the figures of its own file."""
    assert (HERE / "starter.gguf").stat().st_size <= 4_000_000
    measured: dict[str, Any] = json.loads((HERE / "starter.json").read_text())
    assert measured["bytes"] == (HERE / "starter.gguf").stat().st_size
    assert measured["scores"]["closed_set"]["all"]["share"] >= 0.95
    assert f"{measured['scores']['closed_set']['all']['share']:.1%}" in (HERE / "starter.md").read_text()


def test_it_says_so_when_it_does_not_know(starter: Server) -> None:
    """An honest answer names the way to a real model."""
    answer = starter.chat("Explain the causes of inflation in detail.", model="starter", temperature=0)
    assert "inglenook pull" in answer.json["choices"][0]["message"]["content"]
