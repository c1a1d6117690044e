"""Models from a hub: pulled, found, listed and removed. Knows nothing of engines.

HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to the hub's own
tools. They are read when the first of these functions runs, so they must be set before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from inglenook.config.settings import HubSettings
from inglenook.policy.reference import HubRef
from inglenook.policy.weights import Files, Folder, Unclear, choose
from inglenook.store.hub_cache import (
    CachedRepo,
    PulledModel,
    cached_repos,
    is_commit,
    link,
    remember,
)
from inglenook.store.hub_error import HubError, HubUnreachable, NoGGUF, explained
from inglenook.store.hub_fetch import (
    Fetcher,
    Listing,
    Progress,
    is_complete,
    listing,
    remote_file,
    silent,
)

__all__ = [
    "Freed",
    "HubError",
    "HubUnreachable",
    "NoGGUF",
    "Progress",
    "PulledModel",
    "Unfinished",
    "check_gguf",
    "ensure",
    "ensure_gguf",
    "find",
    "listed",
    "pull",
    "remove",
    "remove_unfinished",
    "set_up",
    "silent",
    "unfinished",
]

_log = logging.getLogger("inglenook.hub")


@dataclass(frozen=True)
class Unfinished:
    """Bytes on disk that are no model yet, under their repository's name."""

    ref: HubRef
    size: int


@dataclass(frozen=True)
class Freed:
    """What ``remove`` took away. ``size`` is what the disk has more now: shared contents stay."""

    what: str
    size: int


def set_up(settings: HubSettings) -> None:
    """Say where the hub and its models are. To be called before the first of these functions runs."""
    # The hub's library knows its variables only, and reads them when it is imported.
    if settings.endpoint:
        os.environ["HF_ENDPOINT"] = settings.endpoint
    if settings.home:
        os.environ["HF_HOME"] = os.path.expanduser(settings.home)


def find(ref: HubRef) -> Path | None:
    """The complete model that ``ref`` means, if it is here: a file, the first of its shards, or a
    directory.

    Never touches the network. Without a revision, ``main`` as it was last pulled is looked at
    first, then every other revision that is here, the newest first.
    """
    model = next(CachedRepo.of(ref.repo).models(ref), None)
    return model.path if model else None


def ensure(ref: HubRef, *, progress: Progress = silent, allow_pickle: bool = False) -> Path:
    """The model that ``ref`` means, pulled only if it is not here. Raises ``HubError``."""
    return find(ref) or pull(ref, progress=progress, allow_pickle=allow_pickle)


def ensure_gguf(ref: HubRef) -> Path:
    """The same for a GGUF file. Raises ``NoGGUF`` where there is none, before anything is downloaded."""
    check_gguf(ref)
    return ensure(ref)


def check_gguf(ref: HubRef) -> None:
    """Raise ``NoGGUF`` where ``ref`` means other files, here or at the hub, and ``HubError`` for nothing."""
    here = find(ref)
    if here is not None:
        is_gguf = here.is_file()
    else:
        with explained(ref):
            is_gguf = not isinstance(_choice(ref, listing(ref), allow_pickle=True), Folder)
    if not is_gguf:
        raise NoGGUF(f"{ref.repo} has no GGUF file")


def pull(ref: HubRef, *, progress: Progress = silent, allow_pickle: bool = False) -> Path:
    """The newest model that ``ref`` means, with whatever is not here yet downloaded and checked.

    When the hub cannot be reached, what is here is the answer; a commit that is here is not asked
    for at all. Interrupted by an error, Ctrl-C or a kill, it leaves nothing that ``find`` returns,
    and the next call goes on from what had come. Raises ``HubError``.
    """
    here = find(ref)
    if here is not None and is_commit(ref.revision):
        return here
    repo = CachedRepo.of(ref.repo)
    fetcher = Fetcher(ref, repo, progress)
    try:
        with explained(ref):
            return _pull(ref, fetcher, listing(ref), allow_pickle=allow_pickle)
    except HubUnreachable:
        if here is None:
            raise
        _log.warning("the hub gave no answer for %s; the copy that is here stands", ref)
        return here


def listed() -> list[PulledModel]:
    """Every complete model that is here, pulled by this program or another of the hub's tools."""
    return [model for repo in cached_repos() for model in repo.all_models()]


def unfinished() -> list[Unfinished]:
    """What interrupted pulls have left, one entry for each repository."""
    found = [(repo, repo.unfinished()) for repo in cached_repos()]
    return [Unfinished(HubRef(repo.name), _total(partials)) for repo, partials in found if partials]


def remove(ref: HubRef) -> Freed:
    """Remove the model that ``find`` returns for ``ref``, and nothing else.

    Without a revision, every revision's name for the same content goes, since only then the disk is
    freed. Raises ``HubError``.
    """
    repo = CachedRepo.of(ref.repo)
    models = list(repo.models(ref))
    if not models:
        raise HubError(_not_here(ref, repo))
    with explained(ref):
        same = [model for model in models if model.blobs == models[0].blobs]
        names = [name for model in same for name in model.files]
        return Freed(str(models[0].ref), _delete(repo, names))


def remove_unfinished(ref: HubRef) -> Freed:
    """Remove what interrupted pulls of ``ref``'s repository left. Raises ``HubError``."""
    repo = CachedRepo.of(ref.repo)
    partials = repo.unfinished()
    if not partials:
        raise HubError(f"no interrupted pull of {HubRef(repo.name)} has left anything")
    with explained(ref):
        size = _total(partials)
        for partial in partials:
            partial.unlink(missing_ok=True)
        repo.sweep()
    return Freed(f"unfinished downloads of {HubRef(repo.name)}", size)


def _pull(ref: HubRef, fetcher: Fetcher, found: Listing, *, allow_pickle: bool) -> Path:
    choice = _choice(ref, found, allow_pickle=allow_pickle)
    repo, snapshot = fetcher.repo, fetcher.repo.snapshot(found.commit)
    files = [remote_file(ref, found, name) for name in choice.names]
    missing = [file for file in files if not is_complete(snapshot / file.name, file)]
    if missing:
        # Without this directory the hub's own tools call the repository broken while a pull runs.
        snapshot.mkdir(parents=True, exist_ok=True)
        repo.blobs.mkdir(parents=True, exist_ok=True)
        fetcher.check_room(missing)
    contents = [fetcher.blob(file) for file in missing]
    # Names come last and together: until the last of them is there, `find` answers None.
    for file, content in zip(missing, contents, strict=True):
        link(repo, found.commit, file.name, content)
    remember(repo, ref.revision or "main", found.commit)
    return snapshot if isinstance(choice, Folder) else snapshot / choice.names[0]


def _choice(ref: HubRef, found: Listing, *, allow_pickle: bool) -> Files | Folder:
    choice = choose(found.files, ref.file, allow_pickle=allow_pickle)
    if isinstance(choice, Unclear):
        raise HubError(f"{ref.repo} {choice.why}")
    return choice


def _not_here(ref: HubRef, repo: CachedRepo) -> str:
    words = f"{ref} is not here: `inglenook list` shows what is"
    if repo.unfinished():
        words += f", `inglenook rm --unfinished {HubRef(repo.name)}` drops what a stopped pull left"
    return words


def _delete(repo: CachedRepo, files: Iterable[Path]) -> int:
    """Remove these names, and the contents that nothing else shares; the bytes that frees."""
    # The hub library does it, since contents may be shared between repositories in a way of its own.
    from huggingface_hub import scan_cache_dir

    doomed = {_resolved(file) for file in files}
    cache = scan_cache_dir()
    known = [file for cached in cache.repos for rev in cached.revisions for file in rev.files]
    found = [file for file in known if _resolved(file.file_path) in doomed]
    if len(found) < len(doomed):
        raise HubError(f"{repo.directory} is damaged: remove this directory to free its space")
    strategy = cache.delete_files(*found)
    strategy.execute()
    repo.sweep()
    return strategy.expected_freed_size


def _resolved(file: Path) -> Path:
    """The name itself with no link on the way to it: so the library's paths and ours agree."""
    return file.parent.resolve() / file.name


def _total(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)
