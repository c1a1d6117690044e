"""LlamaIndex, unchanged: ``OpenAILike`` and ``OpenAILikeEmbedding``, in front of every kind of server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.conftest import CHATTING, Visit

PYTHON = Path(sys.prefix) / "llamaindex" / "bin" / "python"
SCRIPT = Path(__file__).with_name("llamaindex_client.py")


@pytest.mark.skipif(not PYTHON.exists(), reason="LlamaIndex is not installed; `make test` does it")
def test_llamaindex(visit: Visit) -> None:
    """Chat, streams, tools, structured output, embeddings, an index, errors: each asserted in the script."""
    places = ", ".join(visit(name).json for name in (*CHATTING, "aegis"))
    done = subprocess.run(
        [str(PYTHON), "-I", str(SCRIPT), f"[{places}]"],
        capture_output=True,
        text=True,
        timeout=55,
        env={name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all right\n")
