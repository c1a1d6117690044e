"""Whether a model's files are still those that they were."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from inglenook.config.settings import ModelSettings

MOST_FILES = 1000


def stamps(model: ModelSettings) -> str:
    """Sizes and times of a model's files on this machine, in words that change when one is replaced.

    Empty for what is not there, or not by a path of its own: ``hf:`` and ``builtin:`` name what they mean.
    """
    adapters = (lora.rpartition(":")[0] if not os.path.exists(lora) else lora for lora in model.lora)
    named = (model.path, model.mmproj, model.chat_template, *adapters)
    return " ".join(stamp for name in named if name for stamp in _stamps(os.path.expanduser(name)))


def _stamps(path: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        files = [path]
        if os.path.isdir(path):
            files = [os.path.join(path, name) for name in sorted(os.listdir(path))[:MOST_FILES]]
        for file in files:
            known = os.stat(file)
            yield f"{known.st_size}:{known.st_mtime_ns}"
