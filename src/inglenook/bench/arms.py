"""The arms of the relay's benchmark: for each, what is written to disk and what is started.

An arm is one way from the generator to the mock upstream. `direct` and `direct2` go there at once;
two of them, so that a run can show what it takes for a difference where there is none.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inglenook.bench.exchange import KEY, MODEL
from inglenook.bench.jobs import Target
from inglenook.bench.processes import Recipe

DIRECT = ("direct", "direct2")
OURS = ("ours-min", "ours-full")
NGINX_PLACES = "/usr/sbin:/usr/local/sbin"  # not in everybody's PATH


@dataclass(frozen=True)
class Place:
    """What an arm is given: a directory of its own, a free port, and where the mock is."""

    directory: Path
    port: int
    mock_socket: Path
    mock_port: int


@dataclass(frozen=True)
class Missing:
    """Why an arm is left out, in a sentence that names the mend."""

    why: str


Builder = Callable[[Place], Recipe | Missing]


def mock(place: Place) -> Recipe:
    """The mock upstream itself."""
    argv = (
        *(sys.executable, "-m", "inglenook.bench.upstream"),
        *("--socket", str(place.mock_socket), "--port", str(place.mock_port)),
    )
    return Recipe("mock", argv, Target(port=place.mock_port))


def ours_min(place: Place) -> Recipe:
    """Our server with nothing switched on that can be switched off."""
    return _ours("ours-min", place, _minimal_settings(place))


def ours_full(place: Place) -> Recipe:
    """Our server with everything switched on that it has."""
    return _ours("ours-full", place, _full_settings(place))


def _ours(name: str, place: Place, settings: str) -> Recipe:
    config = place.directory / "inglenook.toml"
    config.write_text(settings)
    argv = (sys.executable, "-m", "inglenook", "serve", "--config", str(config))
    return Recipe(name, argv, Target(port=place.port, headers=_authorization()))


def _authorization() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}


def _minimal_settings(place: Place) -> str:
    return _upstream_settings(place) + '[telemetry]\nlog_level = "off"\n[auth]\ndatabase = "none"\n'


def _full_settings(place: Place) -> str:
    # A feature that a server may have switched on belongs here as soon as it exists.
    logging = '[telemetry]\nlog_level = "info"\nlog_format = "json"\n'
    return _upstream_settings(place) + logging + _access_settings(place) + _CACHE_SETTINGS


# Every request is looked up, and its answer kept, though the generators' are not ones that a cache keeps by
# itself. None is ever answered from the cache, or this arm alone would be spared the upstream: an
# answer is too old at once, and no generator has the same request under way twice.
_CACHE_SETTINGS = """\
[cache]
enabled = true
sampled = true
ttl_seconds = 0.000001
max_entries = 100
"""


def _access_settings(place: Place) -> str:
    # The generators' key, a database that is watched, and limits that nobody reaches but everybody pays for.
    return f"""\
[auth]
database = "{place.directory / "keys.sqlite"}"
keys = [{{key = "{KEY}", client = "bench"}}]
[limits]
requests_per_minute = 100_000_000
tokens_per_minute = 1_000_000_000_000
concurrency = 100_000
max_concurrent_requests = 100_000
"""


def _upstream_settings(place: Place) -> str:
    return f"""\
[server]
host = "127.0.0.1"
port = {place.port}

[[upstreams]]
name = "mock"
url = "unix:{place.mock_socket}"
models = ["{MODEL}"]

"""


def nginx(place: Place) -> Recipe | Missing:
    """nginx passing everything through, as lean as it can be configured."""
    program = shutil.which("nginx") or shutil.which("nginx", path=NGINX_PLACES)
    if program is None:
        return Missing("nginx is not installed; install it with: apt-get install nginx-light")
    config = place.directory / "nginx.conf"
    config.write_text(_nginx_config(place))
    # -e: otherwise nginx complains about a log directory that only root may write to.
    argv = (program, "-p", str(place.directory), "-c", str(config), "-e", "stderr")
    return Recipe("nginx", argv, Target(port=place.port, headers=_authorization()))


def _nginx_config(place: Place) -> str:
    # A worker started by root gives up root's rights, and then may not enter our private directory.
    user = "user root;" if os.geteuid() == 0 else ""
    temps = " ".join(f"{kind}_temp_path {kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""\
{user}
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path body;
  {temps}
  client_body_buffer_size 1m;
  client_max_body_size 64m;
  upstream mock {{
    server unix:{place.mock_socket};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{place.port} backlog=2048;
    location = /health {{ return 200; }}
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


BUILDERS: dict[str, Builder] = {
    "nginx": nginx,
    "ours-min": ours_min,
    "ours-full": ours_full,
}
