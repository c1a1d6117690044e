"""Which files of a repository are the model."""

from __future__ import annotations

import pytest

from inglenook.policy.weights import (
    Files,
    Folder,
    Unclear,
    choose,
    gguf_groups,
    is_whole,
    lacking,
    nearest,
)

SHARDS = ("big-00001-of-00003.gguf", "big-00002-of-00003.gguf", "big-00003-of-00003.gguf")


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (["README.md", "m.gguf"], None, ("m.gguf",)),
        (["m.gguf", "mmproj-m.gguf", "imatrix.gguf"], None, ("m.gguf",)),
        (["m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"], None, ("m-Q4_K_M.gguf",)),
        (["m.Q2_K.gguf", "m.q8_0.gguf"], None, ("m.q8_0.gguf",)),
        (["m-Q2_K.gguf", "m-Q8_0.gguf"], "m-Q2_K.gguf", ("m-Q2_K.gguf",)),
        (["m-Q2_K.gguf", "m-Q8_0.gguf"], "q2_k", ("m-Q2_K.gguf",)),
        (["m-Q4_K_S.gguf", "m-Q4_K.gguf"], "Q4_K", ("m-Q4_K.gguf",)),
        (["m-IQ4_XS.gguf", "d/m-Q4_XS.gguf"], "Q4_XS", ("d/m-Q4_XS.gguf",)),
        (["config.json", "model.safetensors"], "config.json", ("config.json",)),
        ([*SHARDS, "README.md"], None, SHARDS),
        (SHARDS, "big-00002-of-00003.gguf", SHARDS),
        (SHARDS, "big", SHARDS),
        (["m.gguf", "mmproj-m.gguf"], "mmproj-m.gguf", ("mmproj-m.gguf",)),
    ],
)
def test_a_file_is_chosen(names: list[str], wanted: str | None, expected: tuple[str, ...]) -> None:
    """What is named or preferred is chosen, with all of its shards, the first first."""
    assert Files(expected) == choose(names, wanted)


@pytest.mark.parametrize(
    ("names", "wanted", "why"),
    [
        (["m-Q2_K.gguf", "m-Q3_K.gguf"], None, "name one of m-Q2_K.gguf, m-Q3_K.gguf"),
        (["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"], None, "name one of a-Q4_K_M.gguf, b-Q4_K_M.gguf"),
        (["a-Q8_0.gguf", "b-Q8_0.gguf"], "Q8_0", "name one of a-Q8_0.gguf, b-Q8_0.gguf"),
        (["model-Q8_0.gguf"], "model-Q8_1.gguf", "did you mean model-Q8_0.gguf?"),
        (["model-Q8_0.gguf"], "zzz", "it has model-Q8_0.gguf"),
        (["README.md"], "zzz", "has no file 'zzz'"),
        (SHARDS[:2], None, "lacks 1 of the 3 parts"),
        (SHARDS[1:], "big-00002-of-00003.gguf", "lacks 1 of the 3 parts"),
        ([f"m{n}.gguf" for n in range(40)], None, "and 10 more"),
        (["pytorch_model.bin", "config.json"], None, "--allow-pickle"),
        (["README.md"], None, "no GGUF and no safetensors"),
    ],
)
def test_an_unclear_reference_says_what_to_write(names: list[str], wanted: str | None, why: str) -> None:
    """Nothing is guessed: the answer lists what there is."""
    choice = choose(names, wanted)
    assert isinstance(choice, Unclear)
    assert why in choice.why


FOLDER = [
    ".gitattributes",
    "1_Pooling/config.json",
    "2_Dense/model.safetensors",
    "README.md",
    "config.json",
    "flax_model.msgpack",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "onnx/model.onnx",
    "original/consolidated.00.pth",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tokenizer.json",
]


def test_a_folder_has_no_pickles_and_no_other_programs_weights() -> None:
    """Without a GGUF the directory is the model, without what no engine here should load."""
    choice = choose(FOLDER, None)
    assert isinstance(choice, Folder)
    assert set(choice.names) == {
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "README.md",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    }


def test_pickles_come_when_they_are_allowed() -> None:
    """A caller who trusts their author gets the pickled weights too."""
    choice = choose(FOLDER, None, allow_pickle=True)
    assert isinstance(choice, Folder)
    assert {"pytorch_model.bin", "pytorch_model.bin.index.json"} <= set(choice.names)
    only = choose(["config.json", "model.pt"], None, allow_pickle=True)
    assert Folder(("config.json", "model.pt")) == only


def test_a_folder_is_whole_only_with_its_last_file() -> None:
    """Put there in the chosen order, a directory is whole when all of it is there, not before."""
    choice = choose(FOLDER, None)
    assert isinstance(choice, Folder)
    wholes = [is_whole(choice.names[:count]) for count in range(len(choice.names) + 1)]
    assert [False] * len(choice.names) + [True] == wholes


def test_weights_alone_are_no_whole_folder() -> None:
    """A directory needs a description beside its weights."""
    assert not is_whole(["model.safetensors"])
    assert not is_whole(["model.safetensors", "model.safetensors.index.json"])
    assert not is_whole(["config.json"])
    assert not is_whole(["config.json", "2_Dense/model.safetensors"])
    assert not is_whole(["config.json", "sparse_linear.pt", "training_args.bin"])
    assert is_whole(["config.json", "model.safetensors"])
    assert is_whole(["config.json", "sparse_linear.pt", "pytorch_model.bin"])
    assert is_whole(["modules.json", "0_StaticEmbedding/model.safetensors"])


def test_groups_and_what_they_lack() -> None:
    """Shards of one file are one group, whole or not; other files are groups of their own."""
    names = ["b.gguf", *SHARDS[:2], "README.md"]
    assert [("b.gguf",), SHARDS[:2]] == gguf_groups(names)
    assert [SHARDS[2]] == lacking(SHARDS[0], names)
    assert lacking("b.gguf", names) == []


def test_nearest_ignores_case() -> None:
    """A name that differs in case or by a few letters is near."""
    assert nearest("MODEL-q8.gguf", ["model-Q8.gguf", "other.bin"]) == ["model-Q8.gguf"]
    assert nearest("x", ["model-Q8.gguf"]) == []
