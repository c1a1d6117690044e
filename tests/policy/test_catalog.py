"""Names of models: ours, and what upstreams call theirs."""

from __future__ import annotations

import pytest

from inglenook.policy.catalog import Catalog, Entry, mapped_models, merged, read_listing, upstream_model_id

QWEN = {"id": "qwen.gguf", "object": "model", "owned_by": "llamacpp", "meta": {"n_ctx": 4096}}
PHI = {"id": "phi", "object": "model"}


def test_servers_of_one_model_are_one_entry_owned_by_the_first() -> None:
    """Its replicas are nothing that a client has to know of."""
    catalog = Catalog(merged([Entry("m", "inglenook", ("alias",)), Entry("m", "up"), Entry("n", "up")]))
    assert [(entry.id, entry.owned_by) for entry in catalog.entries] == [("m", "inglenook"), ("n", "up")]
    assert catalog.resolve("alias").id == "m"


def test_an_alias_that_is_another_models_name_is_refused() -> None:
    """It would be two models, not two replicas."""
    with pytest.raises(ValueError, match="two models answer to 'n'"):
        Catalog(merged([Entry("m", "inglenook", ("n",)), Entry("n", "up")]))


def test_what_an_upstream_calls_the_model() -> None:
    """By name where it has it; a server of one model answers to any name."""
    assert upstream_model_id("phi", [QWEN, PHI]) == "phi"
    assert upstream_model_id("mine", [QWEN]) == "qwen.gguf"
    assert upstream_model_id("mine", [QWEN, PHI]) is None
    assert upstream_model_id("mine", []) is None


def test_the_list_of_a_proxy_maps_aliases_to_first_entries() -> None:
    """Contract proxy.md, 4: renamed first entries in name order, stubs for empty lists, failures left out."""
    listed = mapped_models(
        [
            ("zeta", "http://z", [QWEN, PHI]),
            ("empty", "http://e", []),
            ("down", "http://d", None),
            ("alpha", "http://a", [PHI]),
            ("alpha", "http://b", [QWEN]),
        ]
    )
    assert listed == [
        {"id": "alpha", "object": "model", "upstream_model_id": "phi"},
        {"id": "empty", "object": "model", "owned_by": "llamacpp", "meta": {"upstream": "http://e"}},
        {**QWEN, "id": "zeta", "upstream_model_id": "qwen.gguf"},
    ]


def test_a_listing_is_read_for_its_models() -> None:
    """What is no model in it is left out."""
    assert read_listing(b'{"data":[{"id":"a"},{"id":1},7,{"id":"b","x":2}]}') == [
        {"id": "a"},
        {"id": "b", "x": 2},
    ]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"data":{}}', b'{"data":"x"}', b"\xff", b"[" * 9999]
)
def test_what_is_no_listing(body: bytes) -> None:
    """A page, or another API's answer."""
    with pytest.raises(ValueError, match="not a list of models"):
        read_listing(body)
