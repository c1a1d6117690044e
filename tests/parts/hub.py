"""A small hub on loopback, and a machine that pulls from it. Standard library only.

The hub speaks the part of the protocol that a pull needs: a repository's listing, and files by HEAD
and GET with ranges. Large files are answered with a redirect to a second origin, as real hubs do.
Faults are set per file name; every request is kept in ``hub.log``.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import inglenook

_LARGE = (".gguf", ".safetensors", ".bin", ".pt")
# The commands as a program of their own, whatever else the package's own program has.
_PROGRAM = """
import argparse, sys
from inglenook.cli.models import add_commands
parser = argparse.ArgumentParser(prog="inglenook")
add_commands(parser.add_subparsers(required=True))
args = parser.parse_args()
sys.exit(args.run(args))
"""


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    range: str | None
    token: str | None
    origin: str


@dataclass
class Fault:
    """What goes wrong with one file, ``times`` times."""

    times: int = 1
    cut_after: int | None = None
    hold_after: int | None = None
    damage: bool = False
    status: int | None = None
    ignore_range: bool = False
    # Set when the held bytes are out, and by the hub's end to let the handler go.
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


@dataclass
class Repo:
    """One repository: its commits by id, and the names that mean one of them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False


class Hub:
    """A context manager: inside, ``address`` answers."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.log: list[Seen] = []
        # What some mirrors, networks and attackers do.
        self.bare_listing = False
        self.login_page = False
        self.sizes: dict[str, int] = {}
        # Two names of one machine: what is sent to one host must not follow to another.
        self._servers = [_Server(self, "127.0.0.1", "hub"), _Server(self, "localhost", "storage")]
        self._threads = [
            # A short poll: what the end waits for.
            threading.Thread(target=server.serve_forever, args=(0.01,))
            for server in self._servers
        ]

    @property
    def address(self) -> str:
        return self._servers[0].address

    @property
    def storage(self) -> str:
        return self._servers[1].address

    def commit(self, repo: str, files: Mapping[str, bytes], *refs: str) -> str:
        """Add a commit with exactly ``files``; ``main`` and ``refs`` mean it from now on."""
        known = self.repos.setdefault(repo, Repo())
        content = repr((len(known.commits), sorted(files.items()))).encode()
        commit = hashlib.sha1(content).hexdigest()
        known.commits[commit] = dict(files)
        known.refs |= dict.fromkeys(("main", *refs), commit)
        return commit

    def fault(self, file: str, fault: Fault) -> Fault:
        """Let ``file`` fail in this way, after the faults that it has already."""
        self.faults.setdefault(file, []).append(fault)
        return fault

    def gets(self, file: str) -> list[Seen]:
        """The requests for ``file``'s bytes that reached the origin which holds them."""
        return [
            seen
            for seen in self.log
            if seen.method == "GET"
            and seen.path.endswith(f"/{file}")
            and (seen.origin == "storage" or not file.endswith(_LARGE))
        ]

    def close(self) -> None:
        for fault in (fault for faults in self.faults.values() for fault in faults):
            fault.release.set()
        for server, thread in zip(self._servers, self._threads, strict=True):
            if thread.is_alive():
                server.shutdown()
                thread.join()
            server.server_close()

    def __enter__(self) -> Hub:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub, host: str, origin: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub, self.host, self.origin = hub, host, origin

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """The hub keeps its own log."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, headers = self.server.hub, self.headers
        path = unquote(urlsplit(self.path).path)
        token, origin = headers["Authorization"], self.server.origin
        hub.log.append(Seen(self.command, path, headers["Range"], token, origin))
        if origin == "storage":
            self._file(*self._parts(path, "resolve"), send=True)
        elif hub.login_page:
            self._send(b"<html>Please log in</html>")
        elif path.startswith("/api/models/"):
            self._listing(path.removeprefix("/api/models"))
        elif "/resolve/" in path:
            self._file(*self._parts(path, "resolve"), send=False)
        else:
            self._refuse(404, None)

    def _listing(self, path: str) -> None:
        name, revision, _ = self._parts(path, "revision")
        repo = self._allowed(name)
        if repo is None:
            return
        commit = self._commit(repo, revision)
        if commit is None:
            return
        full = "blobs" in parse_qs(urlsplit(self.path).query) and not self.server.hub.bare_listing
        siblings = [self._sibling(n, c, full=full) for n, c in repo.commits[commit].items()]
        self._send(json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())

    def _sibling(self, name: str, content: bytes, *, full: bool) -> dict[str, Any]:
        if not full:
            return {"rfilename": name}
        size = self.server.hub.sizes.get(name, len(content))
        facts: dict[str, Any] = {"rfilename": name, "size": size, "blobId": git_sha1(content)}
        if name.endswith(_LARGE):
            facts["lfs"] = {"size": size, "sha256": sha256(content), "pointerSize": 130}
        return facts

    def _file(self, name: str, revision: str, file: str, *, send: bool) -> None:
        repo = self.server.hub.repos[name] if send else self._allowed(name)
        if repo is None:
            return
        if repo.gated and not send and not self._has(repo.token):
            return self._refuse(401 if self.headers["Authorization"] is None else 403, "GatedRepo")
        commit = self._commit(repo, revision)
        if commit is None:
            return
        if file not in repo.commits[commit]:
            return self._refuse(404, "EntryNotFound")
        content = repo.commits[commit][file]
        if send or not file.endswith(_LARGE):
            return self._send(content, self._facts(commit, git_sha1(content)), file=file)
        facts = self._facts(commit, '"pointer"') | {
            "X-Linked-Etag": f'"{sha256(content)}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"{self.server.hub.storage}{self.path}",
        }
        self._send(b"", facts, status=302)

    def _facts(self, commit: str, etag: str) -> dict[str, str]:
        return {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}

    def _send(
        self,
        content: bytes,
        facts: Mapping[str, str] | None = None,
        *,
        status: int = 200,
        file: str = "",
    ) -> None:
        fault = self._fault(file)
        if fault and fault.status:
            return self._refuse(fault.status, None)
        facts = dict(facts or {})
        asked = self.headers["Range"] if file and not (fault and fault.ignore_range) else None
        if asked:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                return self._refuse(416, None)
            facts["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            content, status = content[first:], 206
        self.send_response(status)
        for key, value in facts.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self._write(content, fault)

    def _write(self, content: bytes, fault: Fault | None) -> None:
        if fault and fault.damage:
            content = bytes([content[0] ^ 1]) + content[1:]
        stop = None
        if fault:
            stop = fault.cut_after if fault.cut_after is not None else fault.hold_after
        self.wfile.write(content[:stop])
        self.wfile.flush()
        if fault and stop is not None:
            fault.reached.set()
            if fault.hold_after is not None:
                fault.release.wait()
            self.close_connection = True

    def _fault(self, file: str) -> Fault | None:
        if self.command != "GET":
            return None
        due = (fault for fault in self.server.hub.faults.get(file, []) if fault.times)
        fault = next(due, None)
        if fault:
            fault.times -= 1
        return fault

    def _parts(self, path: str, word: str) -> tuple[str, str, str]:
        name, _, rest = path.strip("/").partition(f"/{word}/")
        if word == "revision":
            return name, rest or "main", ""
        revision, _, file = rest.partition("/")
        return name, revision, file

    def _allowed(self, name: str) -> Repo | None:
        repo = self.server.hub.repos.get(name)
        if repo is None or (repo.token and not repo.gated and not self._has(repo.token)):
            # Real hubs do not tell a stranger whether a private repository exists.
            known = self.headers["Authorization"] is not None
            self._refuse(404 if known else 401, "RepoNotFound")
            return None
        return repo

    def _has(self, token: str | None) -> bool:
        return bool(self.headers["Authorization"] == f"Bearer {token}")

    def _commit(self, repo: Repo, revision: str) -> str | None:
        commit = repo.refs.get(revision, revision)
        if commit in repo.commits:
            return commit
        self._refuse(404, "RevisionNotFound")
        return None

    def _refuse(self, status: int, code: str | None) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Machine:
    """Where Inglenook runs: a home directory of its own, and the environment that goes with it.

    The hub library reads its environment when it is imported, so everything here is a new process.
    """

    def __init__(self, home: Path, endpoint: str, **environment: str) -> None:
        self.home = home
        mine = {
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(Path(inglenook.__file__).parents[1]),
            "NO_PROXY": "127.0.0.1,localhost",
            "COLUMNS": "100",
        }
        keep = ("PATH", "LANG", "TMPDIR", "VIRTUAL_ENV")
        inherited = {name: os.environ[name] for name in keep if name in os.environ}
        self.environment = inherited | mine | environment

    def blobs(self, repo: str) -> Path:
        return self.home / "hf" / "hub" / f"models--{repo.replace('/', '--')}" / "blobs"

    def inglenook(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.python(_PROGRAM, *args)

    def find(self, ref: str) -> Path | None:
        """What the store finds for a reference, without any word to the hub."""
        script = """
import sys
from inglenook.policy.reference import parse_reference
from inglenook.store import hub
print(hub.find(parse_reference(sys.argv[1])) or "")
"""
        done = self.python(script, ref)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip()) if done.stdout.strip() else None

    def python(self, script: str, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *args]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=50)

    def start(
        self, *args: str, script: str = _PROGRAM, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """The same, still running; the caller ends it."""
        command = [sys.executable, "-c", script, *args]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
