"""Models from a hub as they lie on disk. Never touches the network.

The directory is the one that the hub's own tools use, in their layout, so what they pulled is found
here and the other way round. ``blobs`` holds contents under their checksums, ``snapshots/COMMIT``
links names to them, ``refs`` says which commit a branch or tag was when it was last pulled. A name
is linked only when its content is complete and checked; a download under way is
``blobs/CHECKSUM.incomplete``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from inglenook.policy.reference import HubRef
from inglenook.policy.weights import Files, Folder, Unclear, choose, gguf_groups, is_whole, lacking

_COMMIT = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True)
class PulledModel:
    """A complete model on disk. ``path`` is what an engine is given: a file, or a directory."""

    ref: HubRef
    size: int
    path: Path
    when: datetime
    # What makes two revisions' copies the same model: the contents of its files.
    files: tuple[Path, ...]

    @property
    def blobs(self) -> frozenset[str]:
        return frozenset(os.path.realpath(file) for file in self.files)


def cache_directory() -> Path:
    """Where pulled models lie: HF_HUB_CACHE, else ``hub`` under HF_HOME."""
    # The library reads these when it is imported; this part of it is quick to import.
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit, which can never mean anything else later."""
    return bool(revision and _COMMIT.fullmatch(revision))


@dataclass(frozen=True)
class CachedRepo:
    """One repository's directory in the cache, whether it exists or not."""

    name: str
    directory: Path

    @classmethod
    def of(cls, name: str) -> CachedRepo:
        return cls(name, cache_directory() / f"models--{name.replace('/', '--')}")

    @property
    def blobs(self) -> Path:
        return self.directory / "blobs"

    def snapshot(self, commit: str) -> Path:
        return self.directory / "snapshots" / commit

    def models(self, ref: HubRef) -> Iterator[PulledModel]:
        """What ``ref`` means in each revision that it allows, the best first."""
        for snapshot in self._snapshots(ref.revision):
            if model := _model_in(snapshot, ref):
                yield model

    def all_models(self) -> list[PulledModel]:
        """Every complete model, the newest copy only where revisions share one, under its shortest
        name.
        """
        found: dict[tuple[str | None, frozenset[str]], PulledModel] = {}
        named: set[str | None] = set()
        for snapshot in self._snapshots(None):
            for file in _entries(_names(snapshot)):
                revision = self._name_of(snapshot.name) if file in named else None
                model = _model_in(snapshot, HubRef(self.name, file, revision))
                if model and (file, model.blobs) not in found:
                    found[file, model.blobs] = model
                    named.add(file)
        return list(found.values())

    def unfinished(self) -> list[Path]:
        """Downloads that were begun and can go on. The hub's own tools name theirs otherwise."""
        return sorted(p for p in self.blobs.glob("*.incomplete") if "." not in p.stem)

    def sweep(self) -> None:
        """Forget revisions without a file, and the repository when it holds nothing at all."""
        # Not by the hub library: it would take a commit that two repositories share from either.
        for snapshot in [path for path in self._snapshots(None) if not _files_in(path)]:
            shutil.rmtree(snapshot)
            for ref in self._refs_of(snapshot.name):
                (self.directory / "refs" / ref).unlink()
        if not self._snapshots(None) and not _files_in(self.blobs):
            shutil.rmtree(self.directory, ignore_errors=True)

    def _snapshots(self, revision: str | None) -> list[Path]:
        """The revisions that a reference allows: one if it names it, else main's and then the
        newest first.

        The others count because pulling one file moves ``main`` for all: what was pulled before it
        did is still here, and must not need the network.
        """
        if revision is not None:
            commit = revision if is_commit(revision) else self._commit_of(revision)
            return [self.snapshot(commit)] if commit else []
        try:
            all_of_them = sorted((self.directory / "snapshots").iterdir(), key=_age)
        except OSError:
            return []
        main = self._commit_of("main")
        return sorted(all_of_them, key=lambda snapshot: snapshot.name != main)

    def _commit_of(self, revision: str) -> str | None:
        try:
            return (self.directory / "refs" / revision).read_text().strip() or None
        except OSError:
            return None

    def _name_of(self, commit: str) -> str:
        return next(iter(self._refs_of(commit)), commit)

    def _refs_of(self, commit: str) -> list[str]:
        refs = self.directory / "refs"
        return [
            path.relative_to(refs).as_posix()
            for path in _files_in(refs)
            if path.name[0] != "." and path.read_text().strip() == commit
        ]


def cached_repos() -> list[CachedRepo]:
    """Every model repository in the cache, by name."""
    try:
        directories = sorted(cache_directory().iterdir())
    except OSError:
        return []
    return [
        CachedRepo(directory.name.removeprefix("models--").replace("--", "/"), directory)
        for directory in directories
        if directory.name.startswith("models--") and directory.is_dir()
    ]


def link(repo: CachedRepo, commit: str, name: str, blob: Path) -> None:
    """Give a complete content its name in a revision, at once or not at all."""
    pointer = repo.snapshot(commit) / name
    pointer.parent.mkdir(parents=True, exist_ok=True)
    fresh = pointer.with_name(f".{pointer.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        fresh.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        # A file system without links: the snapshot then holds the content itself, as the hub's
        # tools do it.
        blob.replace(pointer)
    else:
        fresh.replace(pointer)


def remember(repo: CachedRepo, revision: str, commit: str) -> None:
    """Note which commit a branch or tag is. Nothing to note for a commit."""
    path = repo.directory / "refs" / revision
    # A cache that may only be read is still good for what is in it.
    if revision == commit or (path.is_file() and path.read_text() == commit):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(commit)
    fresh.replace(path)


def _model_in(snapshot: Path, ref: HubRef) -> PulledModel | None:
    names = _names(snapshot)
    choice = choose(names, ref.file, allow_pickle=True)
    if isinstance(choice, Unclear):
        return None
    if isinstance(choice, Files):
        exact = replace(ref, file=choice.names[0])
        return _pulled(exact, snapshot / choice.names[0], [names[name] for name in choice.names])
    if not is_whole(names):
        return None
    return _pulled(ref, snapshot, [names[name] for name in choice.names])


def _pulled(ref: HubRef, path: Path, files: list[Path]) -> PulledModel:
    stats = {os.path.realpath(file): file.stat() for file in files}
    when = datetime.fromtimestamp(max(stat.st_mtime for stat in stats.values()), UTC)
    return PulledModel(ref, sum(stat.st_size for stat in stats.values()), path, when, tuple(files))


def _names(snapshot: Path) -> dict[str, Path]:
    """Every file of a revision by its name there. A link whose content is gone is no file."""
    return {
        path.relative_to(snapshot).as_posix(): path
        for path in _files_in(snapshot)
        if path.is_file() and not path.name.startswith(".")
    }


def _files_in(directory: Path) -> list[Path]:
    """Everything below that is no directory, a link whose content is gone included."""
    return sorted(path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())


def _entries(names: dict[str, Path]) -> list[str | None]:
    """What may follow the colon for each model among these files; None stands for the directory."""
    groups = [group for group in gguf_groups(names) if not lacking(group[0], names)]
    is_folder = isinstance(choose(names, None, allow_pickle=True), Folder)
    return [*([None] if is_folder else []), *(group[0] for group in groups)]


def _age(snapshot: Path) -> float:
    return -snapshot.stat().st_mtime
