"""What a model path may be."""

from __future__ import annotations

import pytest

from inglenook.policy.reference import (
    BuiltinRef,
    FileRef,
    HubRef,
    ModelRef,
    is_plain_name,
    parse_reference,
)

COMMIT = "3052356b6ebc68436af4a321141a7fbb59662dd7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("builtin:starter", BuiltinRef("starter")),
        ("hf:owner/repo", HubRef("owner/repo")),
        ("hf:Owner-1/Repo_v1.5-GGUF", HubRef("Owner-1/Repo_v1.5-GGUF")),
        ("hf:owner/repo:model.gguf", HubRef("owner/repo", "model.gguf")),
        ("hf:owner/repo:Q8_0", HubRef("owner/repo", "Q8_0")),
        ("hf:owner/repo:dir/model v2.gguf", HubRef("owner/repo", "dir/model v2.gguf")),
        ("hf:owner/repo@v1.0", HubRef("owner/repo", None, "v1.0")),
        ("hf:owner/repo:m.gguf@refs/pr/3", HubRef("owner/repo", "m.gguf", "refs/pr/3")),
        (f"hf:owner/repo:m.gguf@{COMMIT}", HubRef("owner/repo", "m.gguf", COMMIT)),
        ("model.gguf", FileRef("model.gguf")),
        ("/srv/models/model:v2@x.gguf", FileRef("/srv/models/model:v2@x.gguf")),
        ("./qwen:7b", FileRef("./qwen:7b")),
        ("~/models/dir", FileRef("~/models/dir")),
        ("C:\\models\\model.gguf", FileRef("C:\\models\\model.gguf")),
        ("model.v1:b", FileRef("model.v1:b")),
    ],
)
def test_every_form_is_parsed_and_written_back(text: str, expected: ModelRef) -> None:
    """A right path becomes its parts, and they become the same path again."""
    assert expected == parse_reference(text)
    assert text == str(parse_reference(text))


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("", "write builtin:NAME, hf:OWNER/REPO"),
        ("  ", "write builtin:NAME, hf:OWNER/REPO"),
        ("builtin:", "inglenook list"),
        ("builtin:../x", "inglenook list"),
        ("hf:repo", "write hf:OWNER/repo"),
        ("hf:", "write hf:OWNER/REPO"),
        ("hf:/repo", "write hf:OWNER/repo"),
        ("hf:owner/repo/dir/m.gguf", "write hf:owner/repo:dir/m.gguf"),
        ("hf://owner/repo", "write hf:owner/repo"),
        ("hf://owner/repo/m.gguf", "write hf:owner/repo:m.gguf"),
        ("hf:owner/repo:", "write hf:owner/repo:FILE"),
        ("hf:owner/repo:../m.gguf", "write hf:owner/repo:FILE"),
        ("hf:owner/repo:/etc/passwd", "write hf:owner/repo:FILE"),
        ("hf:owner/repo@", "a branch, a tag or a commit"),
        ("hf:owner/repo@../../x", "a branch, a tag or a commit"),
        ("hf:owner/repo@a b", "a branch, a tag or a commit"),
        ("hf:owner/repo@v1:m.gguf", "write hf:owner/repo:m.gguf@v1"),
        ("hf:ow ner/repo", "write hf:OWNER/REPO"),
        ("hf:../..", "write hf:OWNER/REPO"),
        ("hf:owner/re--po", "write hf:OWNER/REPO"),
        ("hf:owner/repo.", "write hf:OWNER/REPO"),
        (f"hf:owner/{'r' * 96}", "write hf:OWNER/REPO"),
        ("HF:owner/repo", "write builtin:NAME, hf:OWNER/REPO"),
        ("qwen:7b", "./qwen:7b"),
        ("https://hub.example/owner/repo", "write hf:owner/repo"),
        ("https://hub.example/owner/repo/tree/main", "write hf:owner/repo@main"),
        (
            "https://hub.example/owner/repo/blob/main/d/m.gguf?download=true",
            "write hf:owner/repo:d/m.gguf@main",
        ),
    ],
)
def test_a_wrong_path_names_its_mend(text: str, mend: str) -> None:
    """What cannot be meant is refused in one sentence that holds the right form."""
    with pytest.raises(ValueError) as caught:
        parse_reference(text)
    assert mend in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "a/b.gguf", "..a/b"])
def test_a_plain_name_stays_inside(name: str) -> None:
    """Names that stay in their directory are plain."""
    assert is_plain_name(name)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "a\0b"])
def test_other_names_are_not_plain(name: str) -> None:
    """Names that leave their directory, or mean something to a file system, are not."""
    assert not is_plain_name(name)
