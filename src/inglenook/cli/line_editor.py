"""Line editing at the prompt: history that lasts, and completion by Tab.

Both are readline's. A Python without it still has a prompt, with neither.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

MAX_HISTORY = 1000
Complete = Callable[[str], Sequence[str]]
"""From the line as it stands to the words that its last one may become."""


def history_file(environ: Mapping[str, str]) -> Path:
    """Where a chat's lines are kept: below the XDG state directory."""
    state = environ.get("XDG_STATE_HOME", "")
    # The specification has it that a relative path is to be ignored.
    root = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return root / "inglenook" / "chat_history"


@contextlib.contextmanager
def line_editing(history: Path, complete: Complete) -> Iterator[None]:
    """``input`` has history and completion inside this block; what was typed is kept after it.

    A history that cannot be read or written is done without: a chat is worth more.
    """
    try:
        # Only here, and not for a pipe: when imported it may write to standard output.
        readline = importlib.import_module("readline")
    except ImportError:
        yield
        return
    _bind(readline, complete)
    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _keep(readline, history)


def _bind(readline: ModuleType, complete: Complete) -> None:
    def candidate(word: str, at: int) -> str | None:
        found = complete(readline.get_line_buffer()[: readline.get_endidx()])
        return found[at] if at < len(found) else None

    readline.set_completer(candidate)
    # Ids of models hold most of the usual delimiters.
    readline.set_completer_delims(" ")
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    if not libedit:
        # Python turns it off. With it, pasted lines are one message, and not as many questions.
        readline.parse_and_bind("set enable-bracketed-paste on")


def _keep(readline: ModuleType, history: Path) -> None:
    history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Not every readline keeps others of this machine from reading a file that it makes.
    os.close(os.open(history, os.O_WRONLY | os.O_CREAT, 0o600))
    readline.set_history_length(MAX_HISTORY)
    readline.write_history_file(history)
