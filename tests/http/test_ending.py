"""The file with the port, and the server that ends when nobody asks for anything: with no dialect."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.conftest import StartServer
from tests.parts.server import until

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
