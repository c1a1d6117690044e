"""What a dialect is: the environment variables of one earlier system, put into our own settings.

One file per dialect beside this one: its table of variables and what each becomes. How its answers look is
in ``http.dialects``, under the same name. Without a dialect no variable that is read here has any effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

_TRUE = ("1", "true", "t", "yes", "y", "on")
_FALSE = ("0", "false", "f", "no", "n", "off")


class VariableError(ValueError):
    """A variable has a value that its system would not take. The message names it and says what to write."""


class Variables:
    """Typed reads of environment variables. A variable that is set to nothing counts as not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def in_any_case(self) -> Variables:
        """The same variables, asked for by their names in capitals, however they were written."""
        return Variables({name.upper(): value for name, value in self._environ.items()})

    def given(self, name: str) -> bool:
        """Whether it is there at all, be it empty."""
        return name in self._environ

    def text(self, name: str, default: str = "") -> str:
        return self._environ.get(name, "").strip() or default

    def whole(self, name: str, default: int, least: int | None = None, most: int | None = None) -> int:
        """A whole number within ``least..most``. Raises ``VariableError``."""
        said = self.text(name)
        if not said:
            return default
        try:
            value = int(said)
        except ValueError:
            raise VariableError(f"{name} must be a whole number") from None
        _bound(name, value, least, most)
        return value

    def number(
        self, name: str, default: float, least: float | None = None, most: float | None = None
    ) -> float:
        """A finite number within ``least..most``. Raises ``VariableError``."""
        said = self.text(name)
        if not said:
            return default
        try:
            value = float(said)
        except ValueError:
            raise VariableError(f"{name} must be a number") from None
        if not math.isfinite(value):
            raise VariableError(f"{name} must be a number")
        _bound(name, value, least, most)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """``true`` or ``false``, and what else means them. Raises ``VariableError``."""
        said = self.text(name).lower()
        if not said:
            return default
        if said not in _TRUE + _FALSE:
            raise VariableError(f"{name} must be true or false")
        return said in _TRUE

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of ``allowed``, in any case. Raises ``VariableError``."""
        said = self.text(name, default).lower()
        if said not in allowed:
            raise VariableError(f"{name} must be one of {', '.join(allowed)}")
        return said

    def address(self, name: str, default: str) -> str:
        """A server's: ``http://HOST`` or ``https://HOST`` with what follows. Raises ``VariableError``."""
        said = self.text(name, default).rstrip("/")
        if not is_address(said):
            raise VariableError(f"{name} must be an address like {default}")
        return said

    def listed(self, name: str) -> tuple[str, ...]:
        """``a, b,c`` as its parts; empty ones are left out."""
        return tuple(part.strip() for part in self.text(name).split(",") if part.strip())

    def beginning(self, prefix: str) -> dict[str, str]:
        """All variables whose name begins with ``prefix``, by the rest of their name."""
        return {
            name.removeprefix(prefix): value
            for name, value in self._environ.items()
            if name.startswith(prefix) and name != prefix
        }


def is_address(said: str) -> bool:
    """Whether it is a server's, over HTTP or HTTPS."""
    try:
        parts = urlsplit(said)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _bound(name: str, value: float, least: float | None, most: float | None) -> None:
    if least is not None and value < least:
        raise VariableError(f"{name} must be at least {least:g}")
    if most is not None and value > most:
        raise VariableError(f"{name} must be at most {most:g}")


@dataclass(frozen=True)
class Dialect:
    """One earlier system, as far as settings go."""

    name: str
    settings: Callable[[Variables], Json]
    """Its variables as our settings: what the tables of a TOML file would be. Raises ``VariableError``."""
    reads_dotenv: bool = False
    """It read a ``.env`` in its working directory; the process's own environment stands above it."""
