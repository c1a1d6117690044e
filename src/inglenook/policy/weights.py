"""Which files of a repository are the model. Pure: names in, a choice out.

In order: what the caller named; the only GGUF; of several GGUFs the one with a preferred tag; and
without any GGUF the whole directory around the safetensors. Pickled weights run code when they are
loaded, so a directory has them only when the caller allows it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

# What llama.cpp takes too when nothing is said: small with little loss, then nearly lossless.
PREFERRED = ("Q4_K_M", "Q8_0")
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

# The same weights once more, for programs that are no engine here; they can be ten times the model.
_OTHER_PROGRAMS = (".onnx", ".onnx_data", ".h5", ".msgpack", ".ot", ".tflite", ".mlmodel")
_OTHER_DIRECTORIES = ("onnx/", "openvino/", "coreml/", "original/")
# GGUFs that go beside a model and are none.
_BESIDE = ("mmproj", "imatrix")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<suffix>\.\w+)")


@dataclass(frozen=True)
class Files:
    """The model is these files, and its first is what an engine is given: one file, or all shards
    of one.
    """

    names: tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """The model is the directory that holds these files, in the order they should be put there."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Unclear:
    """Nothing fits, or too much; ``why`` continues a sentence that began with the repository's
    name.
    """

    why: str


Choice = Files | Folder | Unclear


def choose(names: Collection[str], wanted: str | None, *, allow_pickle: bool = False) -> Choice:
    """The files that a reference with ``wanted`` after its colon means."""
    if wanted is not None:
        return _named(names, wanted)
    models = [group for group in gguf_groups(names) if not _is_beside(group[0])]
    if models:
        return _preferred(models, names)
    return _folder(names, allow_pickle=allow_pickle)


def gguf_groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Every GGUF there is, sorted; the shards of one file are one group, with those that lack left
    out.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        if name.lower().endswith(".gguf"):
            shard = _SHARD.fullmatch(name)
            key = f"{shard['stem']} of {shard['total']}" if shard else name
            groups.setdefault(key, []).append(name)
    return [tuple(group) for group in groups.values()]


def lacking(name: str, names: Collection[str]) -> list[str]:
    """The shards that ``names`` lacks of the file that ``name`` is a shard of; empty for a file of
    its own.
    """
    return [shard for shard in _all_shards(name) if shard not in names]


def is_whole(names: Collection[str]) -> bool:
    """Whether a directory with just these files can be loaded.

    It needs a description, every shard of the weights it begins, and main weights beside
    a ``config.json`` at the top, since parts of the model may have weights further down.
    """
    top = [name for name in names if "/" not in name]
    weights = [name for name in names if _is_weights(name)]
    described = any(_is_description(name) for name in top)
    if not described or not weights or any(lacking(name, names) for name in weights):
        return False
    return "config.json" not in top or any(_is_main(name) for name in top)


def nearest(wanted: str, names: Iterable[str]) -> list[str]:
    """Up to three names that a person may have meant, compared without regard to case."""
    by_fold = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(wanted.casefold(), by_fold, n=3, cutoff=0.5)
    return [by_fold[fold] for fold in found]


def _named(names: Collection[str], wanted: str) -> Choice:
    if wanted in names:
        return _complete(wanted, names)
    tagged = [group for group in gguf_groups(names) if _has_tag(group[0], wanted)]
    if len(tagged) == 1:
        return _complete(tagged[0][0], names)
    if tagged:
        return Unclear(f"has several files with {wanted!r}: name one of {_some(tagged)}")
    near = nearest(wanted, names)
    if near:
        return Unclear(f"has no file {wanted!r}: did you mean {' or '.join(near)}?")
    groups = gguf_groups(names)
    hint = f"; it has {_some(groups)}" if groups else ""
    return Unclear(f"has no file {wanted!r}{hint}")


def _preferred(models: list[tuple[str, ...]], names: Collection[str]) -> Choice:
    if len(models) == 1:
        return _complete(models[0][0], names)
    for tag in PREFERRED:
        tagged = [group for group in models if _has_tag(group[0], tag)]
        if len(tagged) == 1:
            return _complete(tagged[0][0], names)
    return Unclear(f"has several GGUF files: name one of {_some(models)}")


def _folder(names: Collection[str], *, allow_pickle: bool) -> Choice:
    safe = any(name.endswith(".safetensors") for name in names)
    pickled = any(_is_pickled(name) for name in names)
    if not safe and not (pickled and allow_pickle):
        if pickled:
            return Unclear(
                "has only pickled weights, which can run code when they are loaded: "
                "allow them if you trust their author (--allow-pickle)"
            )
        return Unclear("has no GGUF and no safetensors file: choose another repository")
    kept = [name for name in names if _belongs(name, allow_pickle=allow_pickle)]
    return Folder(tuple(sorted(kept, key=_put_order)))


def _belongs(name: str, *, allow_pickle: bool) -> bool:
    if name.startswith((".", *_OTHER_DIRECTORIES)) or name.endswith(_OTHER_PROGRAMS):
        return False
    return allow_pickle or not (_is_pickled(name) or name.endswith(".bin.index.json"))


def _put_order(name: str) -> tuple[bool, bool, int, str]:
    # The main weights at the top come last: only with them `is_whole` answers yes.
    return _is_weights(name), _is_main(name), -name.count("/"), name


def _complete(name: str, names: Collection[str]) -> Choice:
    shards = _all_shards(name)
    missing = lacking(name, names)
    if missing:
        return Unclear(f"lacks {len(missing)} of the {len(shards)} parts of {name}")
    return Files(tuple(shards))


def _all_shards(name: str) -> list[str]:
    shard = _SHARD.fullmatch(name)
    if not shard:
        return [name]
    total = int(shard["total"])
    return [f"{shard['stem']}-{n:05d}-of-{total:05d}{shard['suffix']}" for n in range(1, total + 1)]


def _has_tag(name: str, tag: str) -> bool:
    # `Q4_K` must not be found in `Q4_K_M`, nor `Q8_0` in `IQ8_0`.
    alone = rf"(?<![A-Za-z0-9]){re.escape(tag)}(?![A-Za-z0-9_])"
    return bool(re.search(alone, name, re.IGNORECASE))


def _is_beside(name: str) -> bool:
    return any(word in name.rpartition("/")[2].lower() for word in _BESIDE)


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors") or _is_pickled(name)


def _is_main(name: str) -> bool:
    # Beside the model's own weights there may be small pickled ones, such as an extra layer's.
    return name.endswith(".safetensors") or (
        _is_pickled(name) and ("model" in name or "consolidated" in name)
    )


def _is_pickled(name: str) -> bool:
    return name.lower().endswith(PICKLED)


def _is_description(name: str) -> bool:
    return name.endswith(".json") and not name.endswith(".index.json")


def _some(groups: list[tuple[str, ...]], most: int = 30) -> str:
    shown = ", ".join(group[0] for group in groups[:most])
    return shown if len(groups) <= most else f"{shown} and {len(groups) - most} more"
