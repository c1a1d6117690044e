"""The file with the port, and the server that ends when nobody asks for anything: with no dialect."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import StartServer
from tests.parts.server import WAIT_SECONDS, Server, is_alive, until

SLOW = '[[models]]\nid = "echo"\npath = "builtin:echo"\nargs = ["--token-seconds", "0.2"]\n'


def test_a_file_holds_the_port(serve: StartServer, tmp_path: Path) -> None:
    """The one that was bound, in the server's own directory; gone when the server is."""
    server = serve('[server]\nport_file = ".port"\n')
    file = tmp_path / "server0" / ".port"
    assert file.read_text() == str(server.port)
    assert server.get("/health").status == 200
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not file.exists()


def test_another_servers_port_is_left_alone(serve: StartServer, tmp_path: Path) -> None:
    """Of two that write the same file, the first to end does not take away what the other wrote."""
    file = tmp_path / "port"
    first, second = (serve(f'[server]\nport_file = "{file}"\n') for _ in range(2))
    assert first.get("/health").status == 200
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    assert file.read_text() == str(second.port)


def test_a_file_that_cannot_be_written_is_told_of(serve: StartServer, tmp_path: Path) -> None:
    """And nothing else."""
    server = serve(f'[server]\nport_file = "{tmp_path}/nowhere/port"\n')
    assert server.get("/health").status == 200
    server.until_log("server.port_file")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_signal_while_it_starts_ends_it_too(tmp_path: Path) -> None:
    """Between the file and the first request it could take: status 0, no file, not a word on stderr."""
    file = tmp_path / "port"
    read, write = os.pipe()
    flags = fcntl.fcntl(write, fcntl.F_GETFL)
    fcntl.fcntl(write, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))  # until the pipe is full: its welcome stops the server here
    fcntl.fcntl(write, fcntl.F_SETFL, flags)
    environ = {**os.environ, "INGLENOOK_SERVER__PORT_FILE": str(file)}
    command = [sys.executable, "-P", "-m", "inglenook", "serve", "--port", "0"]
    with subprocess.Popen(command, env=environ, stdout=write, stderr=subprocess.PIPE) as server:
        os.close(write)
        until(lambda: file.exists() and file.read_text(), "the file")
        server.send_signal(signal.SIGTERM)
        with open(read, "rb") as welcome:
            welcome.read()
        assert server.communicate(timeout=WAIT_SECONDS)[1] == b""
    assert server.returncode == 0
    assert not file.exists()


def test_told_twice_it_waits_for_no_stream(serve: StartServer) -> None:
    """And still ends its engines and itself in good order: status 0, and no traceback in the log."""
    server = serve(f"[server]\ndrain_seconds = 600\n{SLOW}")
    with server.streaming(" ".join("abcdefghij" * 100)) as stream:
        assert stream.readline()
        engines = server.engines()
        server.signal(signal.SIGTERM)
        until(lambda: not _takes_connections(server), "the first signal to be heard")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert b"[DONE]" not in stream.read()
    assert engines and not any(map(is_alive, engines))
    assert "Traceback" not in server.log


def _takes_connections(server: Server) -> bool:
    try:
        server.raw().close()
    except OSError:
        return False
    return True


def test_it_ends_when_nobody_asks_for_anything(serve: StartServer, tmp_path: Path) -> None:
    """As at SIGTERM, with status 0; no engine is left. Looking at it is not asking for anything."""
    server = serve(f'[server]\nidle_shutdown_seconds = 1\nport_file = "port"\n{SLOW}')

    def has_ended() -> bool:
        if server.process.poll() is None:
            try:
                server.get("/health")
                server.get("/v1/models")
            except OSError:
                pass  # it ends at this very moment
        return server.process.poll() is not None

    until(has_ended, "the end")
    assert server.wait() == 0
    assert "server.idle_shutdown_seconds" in server.log
    assert not (tmp_path / "server0" / "port").exists()


def test_a_stream_keeps_it_up(serve: StartServer) -> None:
    """However long it takes; the time begins when it has ended."""
    server = serve(f"[server]\nidle_shutdown_seconds = 1\n{SLOW}")
    with server.streaming(" ".join("abcdefghijklmnop")) as stream:
        lines = [stream.readline() for _ in range(28)]  # two for each event: 2.8 seconds
        # One that is told to end takes no new connection.
        assert server.get("/health").status == 200
        assert b"".join([*lines, stream.read()]).endswith(b"data: [DONE]\n\n")
    assert server.wait() == 0


def test_it_never_ends_by_itself_where_nobody_says_so(serve: StartServer) -> None:
    """The default; and 0 in words."""
    for said in ("", "[server]\nidle_shutdown_seconds = 0\n"):
        server = serve(said)
        assert server.get("/health").status == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "idle_shutdown" not in server.log
