"""How work with a hub fails, and the one place where the hub library's errors become ours.

The words never hold a foreign error's text: it may carry a signed address or a token.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from inglenook.policy.reference import HubRef

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class HubError(Exception):
    """A model could not be had or removed; the words are one sentence that names the mend."""


class HubUnreachable(HubError):
    """No answer came from the hub, or none of use. A copy that is already here is still good."""


class NoGGUF(HubError):
    """The model is there, but not as a GGUF file."""


@contextmanager
def explained(ref: HubRef) -> Iterator[None]:
    """Turn what the hub library, its HTTP client and the disk raise into ``HubError``."""
    # Imported here because it takes a third of a second, which nobody should pay who serves a plain
    # file.
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as exc:
        raise _refused(ref, exc) from exc
    except OfflineModeIsEnabled as exc:
        raise HubUnreachable(f"HF_HUB_OFFLINE is set and {ref} is not here yet: unset it to pull") from exc
    except (httpx2.HTTPError, httpx2.InvalidURL, ConnectionError) as exc:
        raise unreachable(ref) from exc
    except OSError as exc:
        raise _disk(exc) from exc


def unreachable(ref: HubRef) -> HubUnreachable:
    return HubUnreachable(
        f"the hub at {_host()} gave no answer for {ref}: check the network or HF_ENDPOINT, "
        "then run the same command again; it goes on where it stopped"
    )


def not_understood(ref: HubRef) -> HubUnreachable:
    return HubUnreachable(
        f"what {_host()} said about {ref} is no hub's answer: check HF_ENDPOINT and the network"
    )


def _refused(ref: HubRef, exc: HfHubHTTPError) -> HubError:
    from huggingface_hub import get_token
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RevisionNotFoundError

    status = exc.response.status_code
    if isinstance(exc, GatedRepoError):
        then = "with the account of HF_TOKEN" if get_token() else "then set HF_TOKEN"
        return HubError(f"{ref.repo} is gated: accept the terms on its page, {then}")
    if isinstance(exc, RevisionNotFoundError):
        return HubError(f"{ref.repo} has no revision {ref.revision!r}: check what follows the @")
    if isinstance(exc, EntryNotFoundError):
        return HubError(f"the hub lists a file of {ref} but does not have it: try again later")
    if status in (401, 403, 404):
        return HubError(_no_access(ref, status, has_token=bool(get_token())))
    if status == 429:
        return HubUnreachable(f"the hub asks for a pause: pull {ref} again in a few minutes")
    if status >= 500:
        return HubUnreachable(f"the hub is in trouble (status {status}): pull {ref} again later")
    return HubError(f"the hub refused {ref} (status {status}): check the name and HF_ENDPOINT")


def _no_access(ref: HubRef, status: int, *, has_token: bool) -> str:
    if not has_token:
        return f"there is no public repository {ref.repo}: check the name, or set HF_TOKEN if it is private"
    if status == 401:
        return f"the hub does not know the token it was given for {ref.repo}: check HF_TOKEN"
    return f"there is no repository {ref.repo} that HF_TOKEN may read: check the name and the token"


def _disk(exc: OSError) -> HubError:
    if exc.errno in _FULL:
        what = _FULL[exc.errno]
        return HubError(
            f"{what}: free some space or set HF_HOME to a directory on another disk, then run the "
            "same command again; it goes on where it stopped"
        )
    if exc.errno in _DENIED:
        return HubError(
            f"{exc.filename or 'the model directory'} may not be written: set HF_HOME to a directory that may"
        )
    name = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
    return HubError(f"the model directory could not be used ({name}): check HF_HOME and its disk")


def _host() -> str:
    from huggingface_hub import constants

    # Only the host: an address may hold a password before it.
    address = urlsplit(constants.ENDPOINT)
    port = f":{address.port}" if address.port else ""
    return f"{address.hostname}{port}"
