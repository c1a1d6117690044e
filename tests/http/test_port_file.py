"""The file with the port, as those see it who look for it."""

from __future__ import annotations

import os
from pathlib import Path

from inglenook.http.port_file import announced


def test_it_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """What an earlier server left is replaced, never written over: nobody reads half a port."""
    file, earlier = tmp_path / ".port", tmp_path / "earlier"
    earlier.write_text("8000")
    os.link(earlier, file)
    with announced(str(file), 8001):
        assert file.read_text() == "8001" and earlier.read_text() == "8000"
        assert sorted(tmp_path.iterdir()) == [file, earlier]
    assert list(tmp_path.iterdir()) == [earlier]
