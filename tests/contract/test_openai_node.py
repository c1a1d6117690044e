"""The official client for Node, unchanged, in front of every kind of server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.conftest import CHATTING, Visit

MODULES = Path(sys.prefix) / "node" / "node_modules"
SCRIPT = Path(__file__).with_name("openai_node.mjs")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "openai").is_dir(),
    reason="needs Node and its openai package; `make test` installs the latter",
)


@pytest.mark.parametrize("name", [*CHATTING, "aegis"])
def test_node_client(visit: Visit, tmp_path: Path, name: str) -> None:
    """Chat, stream, tools, completions, models, embeddings and errors, each asserted in the script."""
    # Node resolves a module's imports from where the module lies.
    (tmp_path / "node_modules").symlink_to(MODULES)
    script = tmp_path / SCRIPT.name
    shutil.copy(SCRIPT, script)
    done = subprocess.run(
        ["node", str(script), visit(name).json],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ.copy(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all right"
