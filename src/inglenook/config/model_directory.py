"""A directory of GGUF files, in which models are found by their names."""

from __future__ import annotations

import os
import re
from pathlib import Path

_DEEPEST = ("*.gguf", "*/*.gguf", "*/*/*.gguf")
_MOST = 10_000
"""Files looked at: the directory may turn out to be somebody's whole disk."""
_PREFERRED = ("q4_k_m", "q8_0")
"""Of several files of one model: small with little loss, then nearly lossless."""
_BESIDE = ("mmproj", "imatrix")
_LATER_SHARD = re.compile(r"-(?!00001)\d{5}-of-\d{5}$")
_QUANTIZED = re.compile(r"[._-](i?q\d\w*|b?f\d+|fp\d+|mxfp\d\w*|ud|gguf)([._-].*)?")


def gguf_names(directory: str) -> dict[str, Path]:
    """Every model in ``directory``: its file by its path there, without the ending. Sorted."""
    if not directory:
        return {}
    top = Path(os.path.expanduser(directory))
    if top.is_file():
        return {top.stem: top}
    found: dict[str, Path] = {}
    for pattern in _DEEPEST:
        for file in top.glob(pattern):
            if len(found) < _MOST and _is_model(file):
                found[file.relative_to(top).with_suffix("").as_posix()] = file
    return dict(sorted(found.items()))


def find_gguf(directory: str, name: str) -> Path | None:
    """The file in ``directory`` that is called like the model ``name``, or like the last part of its name.

    That may be the file's own name, with or without a quantization behind it, or that of the directory it is
    in. Capitals do not matter.
    """
    found = {key.casefold(): file for key, file in gguf_names(directory).items()}
    whole = name.removesuffix(".gguf").casefold()
    for wanted in dict.fromkeys((whole, whole.rpartition("/")[2])):
        if wanted in found:
            return found[wanted]
        within = [key for key in found if key.startswith(f"{wanted}/")]
        begun = [key for key in found if key.startswith(wanted)]
        quantized = [key for key in begun if _QUANTIZED.fullmatch(key.removeprefix(wanted))]
        if chosen := _preferred(within) or _preferred(quantized):
            return found[chosen]
    return None


def _is_model(file: Path) -> bool:
    stem = file.stem.lower()
    return not any(word in stem for word in _BESIDE) and _LATER_SHARD.search(stem) is None


def _preferred(names: list[str]) -> str:
    for tag in _PREFERRED:
        if tagged := [name for name in names if tag in name]:
            return tagged[0]
    return names[0] if names else ""
