"""The dashboard asks only for metrics that a server prints, and shows what an operator looks for first."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inglenook.telemetry.names import METRICS

DOCS = Path(__file__).parents[2] / "docs"
PRINTED = {
    **{name.name: name.labels for name in METRICS if name.kind != "histogram"},
    **{
        name.name + suffix: (*name.labels, *label)
        for name in METRICS
        if name.kind == "histogram"
        for suffix, label in (("_bucket", ("le",)), ("_sum", ()), ("_count", ()))
    },
}
ALWAYS = {"job", "instance", "__name__"}
"""Labels that Prometheus itself adds."""


@pytest.fixture(scope="module")
def dashboard() -> Any:
    return json.loads((DOCS / "grafana.json").read_text())


def panels(dashboard: Any) -> Iterator[Any]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def queries(dashboard: Any) -> list[str]:
    found = [target["expr"] for panel in panels(dashboard) for target in panel.get("targets", [])]
    found += [each["definition"] for each in dashboard["templating"]["list"] if "definition" in each]
    return found


def test_every_name_in_it_is_printed(dashboard: Any) -> None:
    """So a renamed metric cannot leave an empty panel behind."""
    asked = {name for query in queries(dashboard) for name in re.findall(r"\binglenook_\w+", query)}
    assert asked - set(PRINTED) == set()
    known = set(PRINTED) | {"process_resident_memory_bytes", "process_cpu_seconds_total"}
    named = {
        name for query in queries(dashboard) for name in re.findall(r"\b(\w+)(?=\{|\[)", query) if "_" in name
    }
    assert named - known == set()


def test_every_label_in_it_is_a_label_of_its_metric(dashboard: Any) -> None:
    """In selectors, and in what is summed by."""
    for query in queries(dashboard):
        for name, selector in re.findall(r"\b(inglenook_\w+)\{([^}]*)\}", query):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert labels - {*PRINTED[name], *ALWAYS} == set(), query
        grouped = {
            label.strip() for group in re.findall(r"\bby\s*\(([^)]*)\)", query) for label in group.split(",")
        }
        labels = {label for name in re.findall(r"\binglenook_\w+", query) for label in PRINTED[name]}
        assert grouped - labels - ALWAYS == set(), query


def test_it_shows_what_one_looks_for_first(dashboard: Any) -> None:
    """Requests, errors, latency, first tokens, speed, queue, cache, upstreams, engines."""
    asked = " ".join(queries(dashboard))
    for name in METRICS:
        if name.name not in ("inglenook_build_info", "inglenook_slots"):
            assert name.name in asked, f"{name.name} is in no panel"


def test_grafana_can_take_it(dashboard: Any) -> None:
    """No address or id of one installation; a data source that its reader chooses; ids that differ."""
    assert dashboard["id"] is None
    assert dashboard["schemaVersion"] >= 39
    ids = [panel["id"] for panel in panels(dashboard)]
    assert len(ids) == len(set(ids))
    for panel in panels(dashboard):
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["title"]
            assert panel["targets"]
        position = panel["gridPos"]
        assert position["x"] + position["w"] <= 24


def test_every_metric_is_in_the_docs() -> None:
    """``docs/observability.md`` names each of them."""
    text = (DOCS / "observability.md").read_text()
    missing = [name.name for name in METRICS if f"`{name.name}`" not in text]
    assert missing == []
