"""``.env`` files: ``NAME=value`` lines, as shells and python-dotenv read them. Pure."""

from __future__ import annotations

import re

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$')
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?$")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse(text: str) -> dict[str, str]:
    """The variables of a ``.env`` file. A ``#`` after blank space begins a comment unless it is quoted.

    Lines that are no assignment are skipped, as the systems did that we take over from.
    """
    found: dict[str, str] = {}
    for line in text.removeprefix("\ufeff").splitlines():
        if match := _LINE.match(line):
            found[match[1]] = _value(match[2])
    return found


def _value(said: str) -> str:
    if match := _DOUBLE.match(said):
        return re.sub(r"\\(.)", lambda escaped: _ESCAPES.get(escaped[1], escaped[1]), match[1])
    if match := _SINGLE.match(said):
        return match[1]
    return re.split(r"(?:^|\s)#", said, maxsplit=1)[0].strip()
