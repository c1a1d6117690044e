"""Bringing a repository's files onto the disk: listed, downloaded, resumed and checked.

The hub's own library downloads too, but it starts anew after an interruption and does not compare
checksums; so it is asked for addresses, headers and its HTTP client only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inglenook.policy.reference import HubRef, is_plain_name
from inglenook.store.hub_cache import CachedRepo, is_commit
from inglenook.store.hub_error import HubError, not_understood, unreachable

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_CHUNK = 1 << 20
_CHECKSUM = re.compile(r"[A-Za-z0-9_-]+")


class Progress(Protocol):
    """Told how far each file is; called often, so it must be quick. ``step`` is a file's name, or a
    word on it.
    """

    def __call__(self, step: str, done: int, total: int) -> None: ...


def silent(step: str, done: int, total: int) -> None:
    """The progress that nobody watches."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of one commit. ``checksum`` is its SHA-256, or git's SHA-1 of it where git itself
    keeps it.
    """

    name: str
    url: str
    size: int
    checksum: str


@dataclass(frozen=True)
class Listing:
    """The files of one commit by name. Sizes and checksums are asked for when a file is wanted."""

    commit: str
    files: dict[str, RepoSibling] = field(repr=False)


def listing(ref: HubRef) -> Listing:
    """What the hub has for ``ref``'s revision. Raises what ``explained`` turns into ours."""
    from huggingface_hub import HfApi, constants

    try:
        info = HfApi().model_info(
            ref.repo,
            revision=ref.revision or "main",
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        # A login page of some network answers 200 and means nothing.
        raise not_understood(ref) from exc
    if not is_commit(info.sha):
        raise not_understood(ref)
    siblings = info.siblings or []
    # A hub's names become paths here: one that leaves its directory is not taken.
    return Listing(str(info.sha), {s.rfilename: s for s in siblings if is_plain_name(s.rfilename)})


def remote_file(ref: HubRef, found: Listing, name: str) -> RemoteFile:
    """Where to get one listed file, and how to know it again."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(ref.repo, name, revision=found.commit)
    sibling = found.files[name]
    size, checksum = sibling.size, sibling.blob_id
    if sibling.lfs is not None:
        size, checksum = sibling.lfs.size, sibling.lfs.sha256
    if size is None or checksum is None:
        # Some mirrors list names alone.
        metadata = get_hf_file_metadata(url)
        size, checksum = metadata.size, metadata.etag
    if size is None or checksum is None or not _CHECKSUM.fullmatch(checksum):
        raise not_understood(ref)
    return RemoteFile(name, url, size, checksum)


@dataclass(frozen=True)
class Fetcher:
    """Downloads files of one reference into its repository's directory.

    A broken connection is taken up again at once, and when it brings nothing more, after each of
    ``pauses``.
    """

    ref: HubRef
    repo: CachedRepo
    progress: Progress = silent
    pauses: tuple[float, ...] = (0.0, 1.0, 3.0, 10.0)

    def check_room(self, files: Iterable[RemoteFile]) -> None:
        """Raise ``HubError`` before the first byte when the disk cannot hold them."""
        needed = sum(max(0, file.size - _size(self._partial(file))) for file in files)
        free = shutil.disk_usage(self.repo.blobs).free
        if needed > free:
            raise HubError(
                f"{self.ref} needs {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB: "
                "free some space or set HF_HOME to a directory on another disk"
            )

    def blob(self, file: RemoteFile) -> Path:
        """The checked content of ``file``, from here or from the hub.

        An interruption, of whatever kind, leaves what came so far for the next call. Content that
        fails its check is removed and raises ``HubError``.
        """
        final = self.repo.blobs / file.checksum
        with self._alone(file):
            if not is_complete(final, file):
                partial = self._partial(file)
                self._download(file, partial)
                self._check(file, partial)
                partial.replace(final)
        return final

    def _partial(self, file: RemoteFile) -> Path:
        return self.repo.blobs / f"{file.checksum}.incomplete"

    @contextmanager
    def _alone(self, file: RemoteFile) -> Iterator[None]:
        # The hub's own tools take the same lock for the same file.
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined] # lazy export

        locks = self.repo.directory.parent / ".locks" / self.repo.directory.name
        locks.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(locks / f"{file.checksum}.lock"):
            yield

    def _download(self, file: RemoteFile, partial: Path) -> None:
        if _size(partial) > file.size:
            partial.unlink()
        tries, most = 0, _size(partial)
        while not partial.exists() or _size(partial) < file.size:
            failure = self._try(file, partial)
            # More than ever before: a hub without ranges begins anew each time, and would for ever.
            if _size(partial) > most:
                tries, most = 0, _size(partial)
            elif tries == len(self.pauses):
                raise failure or unreachable(self.ref)
            else:
                time.sleep(self.pauses[tries])
                tries += 1

    def _try(self, file: RemoteFile, partial: Path) -> Exception | None:
        """One connection's worth; the failure, if there was one that another try may mend."""
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError

        try:
            _append(file, partial, self.progress)
        except httpx2.TransportError as exc:
            return exc
        except HfHubHTTPError as exc:
            if exc.response.status_code == 416:
                # The hub's file ends before the place where ours goes on.
                raise self._damaged(file, partial) from exc
            if exc.response.status_code < 500:
                raise
            return exc
        return None

    def _check(self, file: RemoteFile, partial: Path) -> None:
        step = f"checking {file.name}"
        actual = _digest(file, partial, lambda done: self.progress(step, done, file.size))
        if actual != file.checksum or _size(partial) != file.size:
            raise self._damaged(file, partial)

    def _damaged(self, file: RemoteFile, partial: Path) -> HubError:
        partial.unlink()
        return HubError(
            f"{file.name} of {self.ref.repo} arrived damaged (its checksum is wrong) and was "
            "removed: run the same command again to download it anew"
        )


def is_complete(path: Path, file: RemoteFile) -> bool:
    """Whether ``path`` is there and as long as ``file``. What has its name has been checked before."""
    return path.is_file() and path.stat().st_size == file.size


def _append(file: RemoteFile, partial: Path, progress: Progress) -> None:
    """Ask for what ``partial`` lacks and add it, until the answer ends."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import (  # type: ignore[attr-defined] # exported lazily
        build_hf_headers,
        hf_raise_for_status,
    )

    done = _size(partial)
    # Positions count in the file itself, so nothing on the way may compress it.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", file.url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        if response.status_code != 206:
            # The whole file comes: what was here would stand twice.
            done = 0
        with partial.open("ab" if done else "wb", buffering=_CHUNK) as out:
            progress(file.name, done, file.size)
            for chunk in response.iter_bytes():
                out.write(chunk)
                done += len(chunk)
                progress(file.name, done, file.size)
                if done > file.size:
                    break  # more than was promised: the check will say so
            out.flush()
            os.fsync(out.fileno())


def _digest(file: RemoteFile, path: Path, report: Callable[[int], None]) -> str:
    """The checksum of what lies on the disk, of the kind that the hub gave for the file.

    It is read again rather than computed on the way: what was kept from an earlier run counts, and
    so does what another program may have written where locks do not hold.
    """
    if re.fullmatch(r"[0-9a-f]{64}", file.checksum):
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", file.checksum):
        digest = hashlib.sha1(b"blob %d\0" % _size(path), usedforsecurity=False)
    else:
        # Some mirrors name no checksum; the size is then all there is to compare.
        return file.checksum if _size(path) == file.size else ""
    done = 0
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report(done)
    return digest.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
