"""The models that ship with the package."""

from __future__ import annotations

from pathlib import Path

from inglenook import models
from inglenook.policy.reference import BuiltinRef

WEIGHTS = (".gguf", ".safetensors")


def builtin_models() -> dict[str, Path]:
    """The file of every built-in model by the model's name, sorted."""
    directory = Path(models.__path__[0])
    return {path.stem: path for path in sorted(directory.iterdir()) if path.suffix in WEIGHTS}


def builtin_path(ref: BuiltinRef) -> Path:
    """The file of one. Raises ``ValueError`` with what there is."""
    known = builtin_models()
    if ref.name not in known:
        raise ValueError(f"there is no built-in model {ref.name!r}; there is {', '.join(known)}")
    return known[ref.name]
