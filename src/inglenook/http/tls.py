"""TLS in process: the certificate and key of the settings as what the server needs, or words on why not."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

import uvloop

from inglenook.config.load import SettingsError
from inglenook.config.settings import ServerSettings

HANDSHAKE_SECONDS = 10.0
"""From a connection's first moment to the end of its handshake; asyncio would wait for a minute."""
GOODBYE_SECONDS = 1.0
"""What a client has to answer our end of the connection; asyncio would wait for half a minute. An idle client
does not answer, and the end of the server would wait for it."""
_KEYS = ("-----BEGIN PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN EC PRIVATE KEY-----")
"""PKCS#8 (RFC 5958), PKCS#1 (RFC 8017), SEC1 (RFC 5915)."""
_NOT_ITS_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's words for another key, and for one of another kind."""
_ENCRYPTED = ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED")


class Loop(uvloop.Loop):
    """An event loop whose servers know our deadlines for TLS, which uvicorn has no settings for."""

    async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.Server:
        if kwargs.get("ssl"):
            kwargs |= {"ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": GOODBYE_SECONDS}
        return cast(asyncio.Server, await super().create_server(*args, **kwargs))


def tls_context(server: ServerSettings) -> ssl.SSLContext | None:
    """What connections are secured with; ``None`` without TLS.

    Raises ``SettingsError`` for files that cannot be used, and never asks for a passphrase.
    """
    if not server.tls_cert and not server.tls_key:
        return None
    if not server.tls_key:
        raise SettingsError("server.tls_key: is missing; server.tls_cert needs its key")
    if not server.tls_cert:
        raise SettingsError("server.tls_cert: is missing; server.tls_key needs its certificate")
    cert, key = _path(server.tls_cert), _path(server.tls_key)
    _check_certificate(_read("server.tls_cert", cert))
    _check_key(_read("server.tls_key", key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as problem:
        raise _unusable(context, cert, problem) from None
    return context


def _path(setting: str) -> Path:
    return Path(setting).expanduser()


def _read(setting: str, path: Path) -> str:
    try:
        return path.read_text(encoding="latin-1")
    except OSError as problem:
        raise SettingsError(f"{setting}: {path} cannot be read ({problem.strerror})") from None


def _check_certificate(text: str) -> None:
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise SettingsError("server.tls_cert: has no PEM certificate (-----BEGIN CERTIFICATE-----)")


def _check_key(text: str) -> None:
    if any(mark in text for mark in _ENCRYPTED):
        raise SettingsError(
            "server.tls_key: is encrypted; take the passphrase off with: openssl pkey -in KEY -out NEW_KEY"
        )
    if not any(mark in text for mark in _KEYS):
        raise SettingsError(
            "server.tls_key: has no PEM key (-----BEGIN PRIVATE KEY-----, or RSA or EC before PRIVATE)"
        )


def _unusable(context: ssl.SSLContext, cert: Path, problem: ssl.SSLError) -> SettingsError:
    """Which of the two files is wrong."""
    if problem.reason in _NOT_ITS_KEY:
        return SettingsError("server.tls_key: is not the key of the certificate in server.tls_cert")
    try:
        # A certificate of one's own is its own authority: what cannot be read as one cannot be read at all.
        context.load_verify_locations(cert)
    except ssl.SSLError:
        return SettingsError("server.tls_cert: is damaged, or not a certificate")
    why = (problem.reason or "unknown").replace("_", " ").lower()
    return SettingsError(f"server.tls_key: cannot be used with server.tls_cert ({why})")
