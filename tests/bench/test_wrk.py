"""wrk's script and the reading of its result."""

from __future__ import annotations

from pathlib import Path

import pytest

from inglenook.bench import wrk

OUTPUT = """Running 3s test @ http://127.0.0.1:1/v1/chat/completions
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   607.00us    1.57ms  33.17ms   97.42%
Requests/sec:  43762.86
INGLENOOK {"requests":131288,"micros":3000000,"p50_us":523,"p99_us":2900,"max_us":33170,\
"connect":0,"read":2,"write":0,"status":7,"timeout":0}
"""


def test_the_result_is_read_exactly() -> None:
    """From the line that our script prints; only failures that happened are named."""
    assert wrk.parse(OUTPUT) == wrk.Wrk(
        requests=131288,
        seconds=3.0,
        p50_ms=0.523,
        p99_ms=2.9,
        max_ms=33.17,
        failures={"read": 2, "status": 7},
    )


def test_an_output_without_result_is_an_error() -> None:
    """It is quoted, for it says why."""
    with pytest.raises(ValueError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_the_script_holds_headers_and_body(tmp_path: Path) -> None:
    """The number that makes requests differ is left to Lua."""
    script = tmp_path / "post.lua"
    wrk.write_script(script, {"Authorization": 'Bearer "x"'}, 1000)
    text = script.read_text()
    assert 'wrk.headers["Authorization"] = "Bearer \\"x\\""' in text
    assert '{\\"model\\":\\"mock\\"' in text
    assert "00000000" not in text


def test_the_command_names_its_bounds() -> None:
    """One thread, 32 connections, a fixed time."""
    command = wrk.command("/bin/wrk", Path("/s.lua"), 99, 8)
    assert command[:4] == ["/bin/wrk", "-t1", "-c32", "-d8s"]
    assert command[-1] == "http://127.0.0.1:99/v1/chat/completions"
