"""The W3C headers, by the specification's own rules and examples."""

from __future__ import annotations

import pytest

from inglenook.wire.trace_context import MAX_STATE, parent_header, read_parent, read_state

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False), ("ff", True), ("02", False)])
def test_a_valid_parent(flags: str, sampled: bool) -> None:
    """Only the last bit of the flags says whether it is sampled."""
    parent = read_parent(f"00-{TRACE}-{SPAN}-{flags}".encode())
    assert parent == (TRACE, SPAN, sampled)


def test_a_later_version_may_have_more() -> None:
    """Of what comes behind, nothing is understood and nothing refused."""
    assert read_parent(f"cc-{TRACE}-{SPAN}-01-what-the-future".encode()) == (TRACE, SPAN, True)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01 ",
        f"00-{TRACE}-{SPAN}-1",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"cc-{TRACE}-{SPAN}-01-\r\nx: y",
        f"cc-{TRACE}-{SPAN}-01-\xe9",
        f"cc-{TRACE}-{SPAN}-01.more",
    ],
)
def test_an_invalid_parent_is_none(value: str) -> None:
    """So a new trace begins; section 3.2.2."""
    assert read_parent(value.encode("latin-1")) is None


def test_state_is_put_together_and_bounded() -> None:
    """Several headers are one list; what is not valid, or too much, is dropped."""
    assert read_state([b"rojo=1,congo=t61rcWkgMzE", b" a@b=2 , "]) == "rojo=1,congo=t61rcWkgMzE,a@b=2"
    assert read_state([]) == ""
    assert read_state([b"NoCapitals=1"]) == ""
    assert read_state([b"a=\x01"]) == ""
    assert read_state([b"a=b\r\nx: y"]) == ""
    assert read_state([b",".join(b"k%d=v" % at for at in range(33))]) == ""
    assert read_state([b"a=" + b"x" * MAX_STATE]) == ""


def test_what_we_write_can_be_read() -> None:
    """Both ways."""
    for sampled in (True, False):
        assert read_parent(parent_header(TRACE, SPAN, sampled).encode()) == (TRACE, SPAN, sampled)
