"""The benchmarks read /proc and use epoll: elsewhere only what is pure is tested."""

from __future__ import annotations

import sys

_NEEDS_LINUX = ["command", "engine", "gateway", "machine", "streams", "upstream"]

collect_ignore = [] if sys.platform == "linux" else [f"test_{name}.py" for name in _NEEDS_LINUX]
