"""Whom a server on loopback answers to: this machine's names, and those that were allowed."""

from __future__ import annotations

import pytest

from inglenook.errors import Forbidden
from inglenook.policy.hosts import Hosts, is_loopback

OURS = [
    "localhost",
    "LocalHost:8000",
    "localhost.:80",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.9.255.254:1",
    "[::1]",
    "[::1]:8000",
    "localhost:",
]
NOT_OURS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "localhostevil",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io:8000",
    "evil.example#localhost",
    "localhost@evil.example",
    "evil.example:80@localhost",
    "localhost:8000:evil",
    "localhost,evil.example",
    "127.1",
    "127.0.0.256",
    "2130706433",
    "0.0.0.0:8000",
    "10.0.0.1",
    "[::1]evil",
    "[::ffff:10.0.0.1]",
    "::1",
    "null",
    " localhost x",
    "\xff",
]


def refused(hosts: Hosts, host: str = "localhost", origin: str | None = None) -> bool:
    try:
        hosts.check(host.encode("latin-1"), None if origin is None else origin.encode("latin-1"))
    except Forbidden:
        return True
    return False


@pytest.mark.parametrize("host", OURS)
def test_this_machines_names_are_answered_to(host: str) -> None:
    """Any port; the case and a root's dot make no difference."""
    assert not refused(Hosts((), ()), host)
    assert not refused(Hosts((), ()), origin=f"http://{host}")


@pytest.mark.parametrize("host", NOT_OURS)
def test_other_names_are_not(host: str) -> None:
    """Whatever they resolve to, and twice in a row."""
    hosts = Hosts((), ())
    assert [refused(hosts, host) for _ in range(2)] == [True, True]
    assert refused(hosts, origin=f"http://{host}")


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "file://",
        "",
        "localhost",
        "http://",
        "http://localhost/x",
        "ftp://localhost",
        "chrome-extension://localhost",
        "http://[",
        "http://local\thost",
    ],
)
def test_odd_origins_are_refused(origin: str) -> None:
    """``null`` is what any page can be in a sandboxed frame."""
    assert refused(Hosts((), ()), origin=origin)


def test_a_refusal_names_the_setting() -> None:
    """The operator learns what to write, an attacker nothing."""
    with pytest.raises(Forbidden, match=r"server\.allowed_hosts"):
        Hosts((), ()).check(b"evil.example", None)
    with pytest.raises(Forbidden, match=r"server\.cors_origins"):
        Hosts((), ()).check(b"localhost", b"https://evil.example")


def test_allowed_names_and_origins() -> None:
    """A name with any port, a name with one port, an origin as it is."""
    hosts = Hosts(("box.lan", "odd.lan:81"), ("https://app.example", "chrome-extension://abc", "null"))
    assert not refused(hosts, "BOX.lan.:8000")
    assert not refused(hosts, "box.lan")
    assert not refused(hosts, "odd.lan:81")
    assert refused(hosts, "odd.lan:82")
    assert refused(hosts, "app.example")
    for origin in ("http://box.lan:3000", "https://app.example", "Chrome-Extension://abc", "null"):
        assert not refused(hosts, origin=origin), origin
    assert refused(hosts, origin="http://app.example")


def test_any_name_and_any_origin() -> None:
    """``*``, each for itself."""
    assert not refused(Hosts(("*",), ()), "evil.example")
    assert refused(Hosts((), ("*",)), "evil.example")
    assert not refused(Hosts((), ("*",)), origin="null")


def test_what_was_allowed_in_one_header_is_not_in_the_other() -> None:
    """The two are remembered apart."""
    hosts = Hosts((), ("*",))
    assert not refused(hosts, origin="evil.example")
    assert refused(hosts, "evil.example")


def test_no_host_at_all_is_no_browser() -> None:
    """HTTP/1.0 has no ``Host``; a rebound name comes with one always."""
    hosts = Hosts((), ())
    assert not refused(hosts, "")
    assert refused(hosts, "", origin="http://evil.example")


def test_memory_is_bounded() -> None:
    """Ports differ; whoever tries them all fills nothing."""
    hosts = Hosts((), ())
    for port in range(2000):
        assert not refused(hosts, f"localhost:{port}", origin=f"http://localhost:{port}")
    assert len(hosts._good_hosts) <= 256 >= len(hosts._good_origins)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.53", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("unix:/run/inglenook.sock", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("1270.0.0.1", False),
        ("box.lan", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host: str, expected: bool) -> None:
    """Of others nobody knows by what names they are called."""
    assert is_loopback(host) is expected
