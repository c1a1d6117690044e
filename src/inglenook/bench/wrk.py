"""wrk as the closed-loop generator: the script it runs and the result it tells. Pure but for
writing the script.

https://github.com/wg/wrk - in Debian the package `wrk`. It cannot speak over unix sockets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inglenook.bench import exchange

CONNECTIONS = 32
MARK = "INGLENOOK "

# Requests differ, so that no cache answers for the upstream; they are written out once, so that
# this costs nothing.
_SCRIPT = """\
local requests, at, count = {}, 0, %(distinct)d
local before, after = %(before)s, %(after)s
%(headers)s
init = function(args)
  for n = 1, count do
    requests[n] = wrk.format("POST", nil, nil, before .. string.format("%%08d", n) .. after)
  end
end
request = function()
  at = at %% count + 1
  return requests[at]
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '%(mark)s{"requests":%%d,"micros":%%d,"p50_us":%%d,"p99_us":%%d,"max_us":%%d,' ..
    '"connect":%%d,"read":%%d,"write":%%d,"status":%%d,"timeout":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""


@dataclass(frozen=True)
class Wrk:
    """What one run of wrk measured."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    failures: dict[str, int]  # by kind, only those that happened; "status" are answers that are no success


def write_script(path: Path, headers: Mapping[str, str], size: int) -> None:
    """Write the script that asks for chat answers with bodies of ``size`` bytes."""
    number = "00000000"
    before, after = exchange.chat_body(number, size=size).decode().split(number, 1)
    sent = {"Content-Type": "application/json", **headers}
    lines = [f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in sent.items()]
    script = _SCRIPT % {
        "distinct": exchange.DISTINCT,
        "before": _lua(before),
        "after": _lua(after),
        "headers": "\n".join(lines),
        "mark": MARK,
    }
    path.write_text(script)


def _lua(text: str) -> str:
    """A Lua string: for printable ASCII without control characters JSON's spelling is Lua's."""
    return json.dumps(text)


def command(program: str, script: Path, port: int, seconds: int) -> list[str]:
    """The command line of one run."""
    url = f"http://127.0.0.1:{port}{exchange.CHAT_PATH}"
    return [program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]


def parse(output: str) -> Wrk:
    """Read what the script's last function printed. Raises ValueError when it is not there."""
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise ValueError(f"wrk told no result: {output.strip()[-300:]!r}")
    told: dict[str, int] = json.loads(line.removeprefix(MARK))
    kinds = ("connect", "read", "write", "status", "timeout")
    return Wrk(
        requests=told["requests"],
        seconds=told["micros"] / 1e6,
        p50_ms=told["p50_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        max_ms=told["max_us"] / 1e3,
        failures={kind: told[kind] for kind in kinds if told[kind]},
    )
