"""A file that tells scripts on this machine at which port the server listens."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("inglenook.http")


@contextlib.contextmanager
def announced(file: str, port: int) -> Iterator[None]:
    """``file`` holds the port inside this block; an empty name means no file.

    What cannot be written is told to the log: nobody needs the file but who looks for it.
    """
    if not file:
        yield
        return
    place = Path(os.path.expanduser(file)).absolute()
    begun = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        try:
            # Who looks for it finds it whole or not at all.
            begun.write_text(str(port), encoding="ascii")
            begun.replace(place)
        except OSError as problem:
            log.warning("server.port_file: %s cannot be written (%s)", place, problem.strerror)
        yield
    finally:
        with contextlib.suppress(OSError):
            begun.unlink(missing_ok=True)
            # Another server may have written its own port there meanwhile.
            if place.read_text(encoding="ascii", errors="replace").strip() == str(port):
                place.unlink()
