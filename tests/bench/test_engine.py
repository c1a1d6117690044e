"""The engine's benchmark: the finding of its socket, the report, and one short run with a true engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inglenook.bench import engine, machine
from inglenook.bench.engine import FirstToken, Plan, Run, Speed
from inglenook.bench.processes import BenchError

LISTEN = """
import socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[2])
    listener.listen()
    print("up", flush=True)
    while True:
        sock, _ = listener.accept()
        with sock:
            sock.recv(1000)
            sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""
PARENT = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"


def test_the_engine_is_found_by_its_command_line(tmp_path: Path) -> None:
    """Among the server's descendants, by a socket that answers."""
    path = tmp_path / "engine.sock"
    argv = [sys.executable, "-c", PARENT, "-c", LISTEN, "--host", str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        process.stdout.readline()
        found = engine.find_engine(process.pid)
        engine_pid = [pid for pid in machine.tree(process.pid) if pid != process.pid]
        subprocess.run(["kill", *map(str, engine_pid)], check=True)
    assert found.unix == str(path)


def test_a_server_without_engine_is_an_error() -> None:
    """A run would compare the server with itself."""
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process,
        pytest.raises(BenchError, match="is the engine running"),
    ):
        engine.find_engine(process.pid)


def test_the_table_tells_ratios_and_added_times() -> None:
    """Paired by round."""
    run = Run(
        Plan("m.gguf", rounds=2),
        {},
        {},
        speeds=[Speed(0, 1, 100.0, 99.0, True), Speed(1, 1, 50.0, 49.5, False)],
        first_tokens=[FirstToken(0, [10.0, 10.0], [10.5, 10.5]), FirstToken(1, [20.0], [20.5])],
        faults=["round 1, 1 streams, direct: 1 answers with status 500"],
    )
    lines = engine.table(run).splitlines()
    assert next(line for line in lines if line.startswith("  1 ")).split()[:4] == [
        "1",
        "75.0",
        "74.2",
        "0.990",
    ]
    assert next(line for line in lines if line.startswith("  p50")).split()[1] == "0.500"
    assert "same text through and direct, one stream: 1 of 2 rounds" in lines
    assert lines[-1].endswith("status 500")


def test_a_short_run_with_a_true_engine() -> None:
    """Both ways lead to the same engine and say the same."""
    run = engine.perform(
        Plan("builtin:starter", rounds=1, tokens=4, first_tokens=1, seed=1), list[str]().append
    )
    assert run.faults == []
    assert sorted(speed.streams for speed in run.speeds) == [1, 2, 4, 8]
    assert all(speed.direct > 0 and speed.through > 0 for speed in run.speeds)
    assert next(speed.is_same_text for speed in run.speeds if speed.streams == 1)
    assert json.loads(engine.document(run, ["x"]))["plan"]["tokens"] == 4
