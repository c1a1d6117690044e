"""Another model's name in a request's body, and nothing else."""

from __future__ import annotations

import json

import pytest

from inglenook.errors import BadRequest
from inglenook.wire.model_name import refuse_addresses, with_model


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a","messages":[]}', b'{"model":"b\\"c","messages":[]}'),
        (b' { "x" : 1.50e3 , "model" : "a" } ', b'{"x":1.50e3,"model":"b\\"c"}'),
        (
            b'{"model":"a","big":123456789012345678901234567890}',
            b'{"model":"b\\"c","big":123456789012345678901234567890}',
        ),
        (b'{"model":"a","deep":{"model":"a"}}', b'{"model":"b\\"c","deep":{"model":"a"}}'),
        (
            b'{"\\u006dodel":"a","s":"\\u00e9\\ud83d\\ude00"}',
            b'{"model":"b\\"c","s":"\\u00e9\\ud83d\\ude00"}',
        ),
        (b'{"messages":[]}', b'{"messages":[],"model":"b\\"c"}'),
    ],
)
def test_the_model_is_put_in_and_every_other_value_keeps_its_bytes(body: bytes, expected: bytes) -> None:
    """Numbers that no float holds, escapes, fields of the same name further in."""
    assert with_model(body, 'b"c') == expected


def test_of_two_models_in_one_body_none_is_left() -> None:
    """Whoever reads the first and whoever reads the last see the same."""
    assert json.loads(with_model(b'{"model":"a","model":"z","n":1}', "b")) == {"model": "b", "n": 1}


@pytest.mark.parametrize("field", ["api_base", "base_url", "api_key"])
def test_a_body_that_names_an_address_is_refused(field: str) -> None:
    """However it is spaced; the field is named."""
    with pytest.raises(BadRequest, match=f"{field} cannot be set by a request") as caught:
        refuse_addresses(json.dumps({"model": "m", field: "http://evil"}).encode())
    assert caught.value.param == field
    escaped = f'{{"model": "m", "\\u{ord(field[0]):04x}{field[1:]}": null}}'
    with pytest.raises(BadRequest, match=f"{field} cannot be set by a request"):
        refuse_addresses(escaped.encode())


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "api_base"}]},
        {"x": {"base_url": 1}},
        {"s": 'say "api_key" '},
    ],
)
def test_words_are_not_fields(body: object) -> None:
    """One may talk about addresses."""
    refuse_addresses(json.dumps(body).encode())
