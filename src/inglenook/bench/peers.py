"""The other gateways that a run may stand beside: installed at a fixed version from their
registries on first use.

They go into a cache directory of the user's and never into our own environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from inglenook.bench.arms import Builder, Missing, Place
from inglenook.bench.exchange import KEY, MODEL
from inglenook.bench.jobs import Target
from inglenook.bench.processes import Recipe

VERSIONS = {"litellm": "1.105.0", "portkey": "1.15.2"}
# With a newer node-server it answers every stream with 500: https://github.com/Portkey-AI/gateway/issues/1389
PORTKEY_PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": VERSIONS["portkey"]},
    "overrides": {"@hono/node-server": "1.12.2"},
}
INSTALL_SECONDS = 1200.0


def cache_directory() -> Path:
    """Where the peers are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "inglenook" / "bench"


def litellm(place: Place) -> Recipe | Missing:
    """The LiteLLM proxy as its makers advise for speed: aiohttp transport, no database, no
    callbacks, one worker.
    """
    home = cache_directory() / f"litellm-{VERSIONS['litellm']}"
    problem = _install_once(home, _litellm_steps(home))
    if problem:
        return Missing(f"litellm could not be installed: {problem}")
    config = place.directory / "litellm.json"  # JSON is YAML
    config.write_text(json.dumps(_litellm_config(place)))
    argv = (
        *(str(home / "venv/bin/litellm"), "--config", str(config)),
        *("--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1", "--telemetry", "False"),
    )
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        # Checking a key would cost it time that a bare relay need not spend.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    target = Target(port=place.port, headers={"Authorization": f"Bearer {KEY}"})
    return Recipe("litellm", argv, target, "/health/liveliness", env=env, start_seconds=120.0, is_exact=False)


def _litellm_config(place: Place) -> dict[str, object]:
    upstream = {
        "model": f"openai/{MODEL}",
        "api_base": f"http://127.0.0.1:{place.mock_port}/v1",
        "api_key": KEY,
    }
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": upstream}],
        "litellm_settings": {"telemetry": False, "callbacks": [], "num_retries": 0},
        "general_settings": {"disable_spend_logs": True},
    }


def _litellm_steps(home: Path) -> list[Sequence[str]]:
    return [
        [sys.executable, "-m", "venv", str(home / "venv")],
        [str(home / "venv/bin/pip"), "install", "--quiet", f"litellm[proxy]=={VERSIONS['litellm']}"],
    ]


def portkey(place: Place) -> Recipe | Missing:
    """Portkey's open-source gateway on Node, told by header where the upstream is."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return Missing("portkey needs Node; install it with: apt-get install nodejs npm")
    home = cache_directory() / f"portkey-{VERSIONS['portkey']}"
    home.mkdir(parents=True, exist_ok=True)
    (home / "package.json").write_text(json.dumps(PORTKEY_PACKAGE))
    problem = _install_once(home, [[npm, "install", "--no-audit", "--no-fund", "--prefix", str(home)]])
    if problem:
        return Missing(f"portkey could not be installed: {problem}")
    program = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    argv = (node, str(program), f"--port={place.port}", "--headless")
    headers = {
        "Authorization": f"Bearer {KEY}",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{place.mock_port}/v1",
    }
    env = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    target = Target(port=place.port, headers=headers)
    return Recipe("portkey", argv, target, "/", env=env, start_seconds=60.0, is_exact=False)


def _install_once(home: Path, steps: Sequence[Sequence[str]]) -> str:
    """Run the steps unless that was done before; the problem in words, or nothing."""
    done = home / "installed"
    if done.exists():
        return ""
    home.mkdir(parents=True, exist_ok=True)
    for step in steps:
        try:
            told = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as exc:
            return str(exc)
        if told.returncode:
            return told.stderr.strip()[-500:] or f"{step[0]} failed"
    done.touch()
    return ""


BUILDERS: dict[str, Builder] = {"litellm": litellm, "portkey": portkey}
