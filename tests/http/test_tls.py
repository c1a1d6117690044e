"""HTTPS in process: every usual kind of key file works, and a wrong one is named before anything starts."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from inglenook.config.load import SettingsError
from inglenook.config.settings import ServerSettings
from inglenook.http import tls
from inglenook.http.tls import tls_context
from tests.conftest import StartServer
from tests.parts.server import Server, parse_events

ECHO = '[[models]]\nid = "echo"\npath = "builtin:echo"\n'

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates for localhost with their keys, in every form that keys come in, and wrong ones."""
    place = tmp_path_factory.mktemp("pem")

    def at(name: str) -> str:
        return str(place / name)

    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2")
    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    for name, kind in (("ec", ec), ("other", ec), ("rsa", ("-newkey", "rsa:2048"))):
        openssl(
            "req", "-x509", "-nodes", *kind, *subject, "-keyout", at(f"{name}.key"), "-out", at(f"{name}.crt")
        )
    openssl("ec", "-in", at("ec.key"), "-out", at("ec.sec1"))
    openssl("rsa", "-in", at("rsa.key"), "-traditional", "-out", at("rsa.pkcs1"))
    openssl("ecparam", "-name", "prime256v1", "-out", at("parameters"))
    (place / "ec.with-parameters").write_text(
        (place / "parameters").read_text() + (place / "ec.sec1").read_text()
    )
    openssl("pkcs8", "-topk8", "-in", at("ec.key"), "-passout", "pass:x", "-out", at("encrypted.pkcs8"))
    openssl(
        "rsa",
        "-in",
        at("rsa.key"),
        "-traditional",
        "-aes128",
        "-passout",
        "pass:x",
        "-out",
        at("encrypted.pkcs1"),
    )
    openssl("x509", "-in", at("ec.crt"), "-outform", "DER", "-out", at("ec.der"))
    (place / "ec.crlf").write_bytes((place / "ec.key").read_bytes().replace(b"\n", b"\r\n"))
    (place / "both.pem").write_text((place / "ec.key").read_text() + (place / "ec.crt").read_text())
    (place / "chain.pem").write_text((place / "ec.crt").read_text() + (place / "other.crt").read_text())
    for name in ("ec.crt", "ec.key"):
        lines = (place / name).read_text().splitlines()
        (place / f"damaged.{name}").write_text(
            "\n".join([lines[0], "AAAA" + lines[1][4:], *lines[2:]]) + "\n"
        )
        (place / f"cut.{name}").write_text("\n".join(lines[:-1]) + "\n")
    (place / "empty").write_text("")
    return place


def settings(cert: Path | str, key: Path | str) -> str:
    return f"[server]\ntls_cert = {json.dumps(str(cert))}\ntls_key = {json.dumps(str(key))}\n{ECHO}"


def connected(server: Server, trusted: Path) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(trusted))
    return http.client.HTTPSConnection("localhost", server.port, timeout=10, context=context)


@pytest.mark.parametrize(
    ("cert", "key"),
    [
        ("ec.crt", "ec.key"),
        ("ec.crt", "ec.sec1"),
        ("ec.crt", "ec.with-parameters"),
        ("ec.crt", "ec.crlf"),
        ("rsa.crt", "rsa.key"),
        ("both.pem", "both.pem"),
        ("chain.pem", "ec.key"),
    ],
)
def test_every_kind_of_key_file_works(pem: Path, cert: str, key: str) -> None:
    """PKCS#8, SEC1 and PKCS#1, with a chain, in one file: a client that trusts the certificate gets through."""
    made = tls_context(ServerSettings(tls_cert=str(pem / cert), tls_key=str(pem / key)))
    assert made is not None
    trust = ssl.create_default_context(cafile=str(pem / cert.replace("both.pem", "ec.crt")))
    assert shaken_hands(made, trust) in ("TLSv1.2", "TLSv1.3")


def shaken_hands(ours: ssl.SSLContext, theirs: ssl.SSLContext) -> str | None:
    """The version that the two agree on, without a socket between them."""
    to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(to_us, to_them, server_side=True)
    client = theirs.wrap_bio(to_them, to_us, server_hostname="localhost")
    for side in (client, server) * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.version()


def test_the_server_speaks_https(serve: StartServer, pem: Path) -> None:
    """The address that is printed says so; a connection is kept."""
    server = serve(settings(pem / "rsa.crt", pem / "rsa.pkcs1"))
    assert server.url.startswith("https://127.0.0.1:")
    connection = connected(server, pem / "rsa.crt")
    for _ in range(2):
        connection.request("GET", "/health")
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["status"]) == (200, "ok")
    connection.close()


def test_streams_and_keys_over_https(serve: StartServer, pem: Path) -> None:
    """All the rest is as it is without."""
    more = '[auth]\nkeys = [{key = "k", client = "a"}]\n'
    server = serve(settings(pem / "ec.crt", pem / "ec.key") + more)
    connection = connected(server, pem / "ec.crt")
    body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "one two three"}]}
    for headers, status in (({}, 401), ({"authorization": "Bearer k"}, 200)):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        assert response.status == status
    assert list(parse_events(text))[-1] == "[DONE]"
    connection.close()


def test_what_is_no_tls_costs_one_connection(serve: StartServer, pem: Path) -> None:
    """Plain HTTP, noise and old TLS are turned away without a traceback; others are served."""
    server = serve(settings(pem / "ec.crt", pem / "ec.key") + '[telemetry]\nlog_level = "debug"\n')
    for noise in (
        b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\x16\x03\x01" + b"\xff" * 300,
        b"\x00",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(noise)
            client.shutdown(socket.SHUT_WR)
            assert b"200 OK" not in client.recv(65536)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as client,
        pytest.raises(OSError),
    ):
        old.wrap_socket(client)
    connection = connected(server, pem / "ec.crt")
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()
    server.end()
    assert "Traceback" not in server.log


def test_an_idle_client_does_not_hold_up_the_end(serve: StartServer, pem: Path) -> None:
    """It does not say goodbye, because its program is busy with other things."""
    server = serve(
        "[server]\ndrain_seconds = 600\n"
        + settings(pem / "ec.crt", pem / "ec.key").removeprefix("[server]\n")
    )
    connection = connected(server, pem / "ec.crt")
    connection.request("GET", "/health")
    connection.getresponse().read()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    connection.close()


def test_half_a_handshake_has_an_end(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As half a header has."""
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.2)
    context = tls_context(ServerSettings(tls_cert=str(pem / "ec.crt"), tls_key=str(pem / "ec.key")))

    async def stay() -> bytes:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"\x16\x03\x01")
            async with asyncio.timeout(20):
                rest = await reader.read()
            writer.close()
        return rest

    with asyncio.Runner(loop_factory=tls.Loop) as runner:
        assert runner.run(stay()) == b""


@pytest.mark.parametrize(
    ("cert", "key", "says"),
    [
        ("ec.crt", "", "server.tls_key: is missing"),
        ("", "ec.key", "server.tls_cert: is missing"),
        ("nowhere", "ec.key", "server.tls_cert: PEM/nowhere cannot be read (No such file or directory)"),
        ("ec.crt", "nowhere", "server.tls_key: PEM/nowhere cannot be read (No such file or directory)"),
        ("ec.crt", ".", "server.tls_key: PEM cannot be read (Is a directory)"),
        ("ec.der", "ec.key", "server.tls_cert: has no PEM certificate"),
        ("empty", "ec.key", "server.tls_cert: has no PEM certificate"),
        ("ec.key", "ec.crt", "server.tls_cert: has no PEM certificate"),
        ("ec.crt", "ec.crt", "server.tls_key: has no PEM key"),
        ("ec.crt", "empty", "server.tls_key: has no PEM key"),
        ("ec.crt", "other.key", "server.tls_key: is not the key of the certificate"),
        ("ec.crt", "rsa.key", "server.tls_key: is not the key of the certificate"),
        ("ec.crt", "encrypted.pkcs8", "server.tls_key: is encrypted"),
        ("rsa.crt", "encrypted.pkcs1", "server.tls_key: is encrypted"),
        ("damaged.ec.crt", "ec.key", "server.tls_cert: is damaged"),
        ("cut.ec.crt", "ec.key", "server.tls_cert: is damaged"),
        ("ec.crt", "damaged.ec.key", "server.tls_key: "),
        ("ec.crt", "cut.ec.key", "server.tls_key: "),
    ],
)
def test_wrong_files_are_named(pem: Path, cert: str, key: str, says: str) -> None:
    """Which setting, and what is wrong with it; nothing of what is in the file."""
    server = ServerSettings(tls_cert=cert and str(pem / cert), tls_key=key and str(pem / key))
    with pytest.raises(SettingsError) as refused:
        tls_context(server)
    said = str(refused.value).replace(str(pem), "PEM")
    assert said.startswith(says), said
    assert "\n" not in said


def test_a_wrong_file_stops_the_start(pem: Path, tmp_path: Path) -> None:
    """One sentence, exit status 2, no traceback; and nobody is asked for a passphrase."""
    config = tmp_path / "inglenook.toml"
    config.write_text(settings(pem / "ec.crt", pem / "encrypted.pkcs8"))
    command = [sys.executable, "-m", "inglenook", "serve", "--config", str(config), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, stdin=subprocess.DEVNULL)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(
        "inglenook: server.tls_key: is encrypted; take the passphrase off with: openssl"
    )
    assert ended.stderr.count("\n") == 1


def test_without_files_there_is_no_tls() -> None:
    """It is off until a certificate is named."""
    assert tls_context(ServerSettings()) is None
