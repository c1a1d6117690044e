"""What a model path may be: ``builtin:NAME``, ``hf:OWNER/REPO[:FILE][@REVISION]`` or a plain path.
Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FORMS = "builtin:NAME, hf:OWNER/REPO[:FILE][@REVISION], or the path of a file or directory"

_REPO = re.compile(r"(?=.{1,96}$)\w([\w.-]*\w)?/\w([\w.-]*\w)?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]*")
# Two letters at least, so that a drive letter stays a plain path.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+_-]+:")
_WEB_ADDRESS = re.compile(
    r"(?:https?:)?//[^/]+/(?P<repo>[^/]+/[^/?#]+)"
    r"(?:/(?:blob|resolve|tree|raw)/(?P<revision>[^/?#]+)(?:/(?P<file>[^?#]+))?)?/?(?:[?#].*)?"
)


@dataclass(frozen=True)
class BuiltinRef:
    """A model shipped with the package."""

    name: str

    def __str__(self) -> str:
        return f"builtin:{self.name}"


@dataclass(frozen=True)
class HubRef:
    """A model in a hub's repository.

    ``file`` is a file's name in the repository, or a tag such as ``Q8_0`` that one GGUF's name
    holds; without it the repository decides. Without ``revision`` the main branch is meant.
    """

    repo: str
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        file = f":{self.file}" if self.file else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf:{self.repo}{file}{revision}"


@dataclass(frozen=True)
class FileRef:
    """A file or directory of the machine, exactly as it was written."""

    path: str

    def __str__(self) -> str:
        return self.path


ModelRef = BuiltinRef | HubRef | FileRef


def parse_reference(text: str) -> ModelRef:
    """What ``text`` means as a model path. Raises ``ValueError`` with a sentence that names the
    mend.
    """
    if not text.strip():
        raise ValueError(f"the model path is empty: write {FORMS}")
    if text.startswith("builtin:"):
        return _builtin(text)
    if text.startswith("hf:"):
        return _hub(text)
    if found := _WEB_ADDRESS.fullmatch(text):
        raise ValueError(f"{text!r} is a web address: write {HubRef(**found.groupdict())}")
    if scheme := _SCHEME.match(text):
        raise ValueError(f"{scheme[0]!r} is no kind of model path: write {FORMS} (a file may be ./{text})")
    return FileRef(text)


def is_plain_name(name: str) -> bool:
    """Whether ``name`` is a relative path with ``/`` that stays inside its directory."""
    parts = name.split("/")
    return "\\" not in name and "\0" not in name and not {"", ".", ".."} & set(parts)


def _builtin(text: str) -> BuiltinRef:
    name = text.removeprefix("builtin:")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise ValueError(f"{text!r} names no built-in model: `inglenook list` shows them")
    return BuiltinRef(name)


def _hub(text: str) -> HubRef:
    rest, at, revision = text.removeprefix("hf:").rpartition("@")
    if not at:
        rest, revision = revision, ""
    elif ":" in revision:
        revision, _, file = revision.partition(":")
        raise ValueError(f"{text!r} has the revision too early: write hf:{rest}:{file}@{revision}")
    repo, colon, file = rest.partition(":")
    _check_repo(text, repo)
    if colon and not is_plain_name(file):
        raise ValueError(f"{text!r} names no file: write hf:{repo}:FILE, or hf:{repo} alone")
    if at and (not _REVISION.fullmatch(revision) or not is_plain_name(revision)):
        raise ValueError(f"{text!r} names no revision: write @ and a branch, a tag or a commit")
    return HubRef(repo, file or None, revision or None)


def _check_repo(text: str, repo: str) -> None:
    parts = repo.strip("/").split("/", 2)
    if len(parts) == 1:
        raise ValueError(f"{text!r} lacks an owner: write hf:OWNER/{parts[0] or 'REPO'}")
    if len(parts) == 3 or repo.startswith("/"):
        file = f":{parts[2]}" if len(parts) == 3 else ""
        raise ValueError(f"{text!r} names a file wrongly: write hf:{parts[0]}/{parts[1]}{file}")
    # `--` joins owner and name in the cache, so a name that holds it could mean two repositories.
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise ValueError(f"{text!r} names no repository: write hf:OWNER/REPO[:FILE][@REVISION]")
