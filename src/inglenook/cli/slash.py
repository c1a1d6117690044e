"""What a person types in a chat: commands that begin with a slash, and messages of several lines. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from inglenook.cli.conversation import SETTINGS, Mistake

COMMANDS: dict[str, tuple[str, str]] = {
    "help": ("", "show this"),
    "clear": ("", "begin a new conversation; system message and settings stay"),
    "system": ("[TEXT]", "tell the model how to answer; /system - takes it back"),
    "model": ("[NAME]", "show the models, or go on with another"),
    "set": ("[NAME] [VALUE]", f"{', '.join(SETTINGS)}; without a value, the default"),
    "retry": ("", "ask the last question again"),
    "save": ("FILE", "write the conversation to a file"),
    "load": ("FILE", "go on with a saved conversation"),
    "multi": ("", 'write several lines; a line that ends in """ is the last'),
    "stats": ("", "show tokens and speed after each answer, and why a model failed, or no longer"),
    "bye": ("", "leave (Ctrl-D does it too)"),
}
"""Name: its argument, and what it does. The help, the completion and the near match are made from it."""

ALIASES = {"?": "help", "h": "help", "new": "clear", "exit": "bye", "quit": "bye", "q": "bye"}

QUOTES = '"""'


def read_command(line: str) -> tuple[str, str] | None:
    """The command that ``line`` is, as name and argument; ``None`` for a message to the model.

    Raises ``Mistake`` for a command that there is not.
    """
    if not line.startswith("/"):
        return None
    word, argument = (*line[1:].split(maxsplit=1), "", "")[:2]
    name = ALIASES.get(word.lower(), word.lower())
    if name not in COMMANDS:
        raise Mistake(_unknown(word))
    return name, argument.strip()


def _unknown(word: str) -> str:
    near = difflib.get_close_matches(word.lower(), [*COMMANDS, *ALIASES], n=1)
    hint = f"did you mean /{near[0]}?" if near else "/help shows what there is"
    # A path or "/s" of a chat: most who type it know no way to send it.
    return f"there is no command /{word[:40]}: {hint} (a space before it sends it to the model)"


def help_text() -> str:
    """All commands, aligned."""
    usage = {name: f"/{name} {argument}".rstrip() for name, (argument, _) in COMMANDS.items()}
    width = max(map(len, usage.values()))
    lines = [f"  {usage[name]:{width}}  {does}" for name, (_, does) in COMMANDS.items()]
    keys = [
        ("Ctrl-C", "stop the answer, or clear the line"),
        (f"\\ or {QUOTES}", f"at a line's end, or around several: the message goes on ({QUOTES} ends it)"),
    ]
    lines += [f"  {key:{width}}  {does}" for key, does in keys]
    return "\n".join(lines)


def completions(line: str, models: Sequence[str]) -> list[str]:
    """The words that the last word of ``line`` may become; none where a message is written."""
    words = line.split(" ")
    if not line.startswith("/"):
        return []
    if len(words) == 1:
        return [f"/{name} " for name in COMMANDS if f"/{name}".startswith(line)]
    known = {"/model": list(models), "/set": list(SETTINGS)}.get(words[0], [])
    return [f"{word} " for word in known if len(words) == 2 and word.startswith(words[1])]


class Draft:
    """A message while it is typed, line by line."""

    def __init__(self, *, quoted: bool = False) -> None:
        """``quoted``: the quotes that open it were given already."""
        self._quoted = quoted
        self._lines: list[str] = []

    def add(self, line: str) -> bool:
        """Take one more line; whether the message is complete with it."""
        if not self._lines and not self._quoted and line.startswith(QUOTES):
            self._quoted, line = True, line.removeprefix(QUOTES)
        if self._quoted:
            self._lines.append(line.removesuffix(QUOTES))
            return line.endswith(QUOTES)
        goes_on = _trailing_backslashes(line) % 2 == 1
        self._lines.append(line[:-1] if goes_on else line)
        return not goes_on

    @property
    def text(self) -> str:
        """The message so far, without empty lines around it."""
        return "\n".join(self._lines).strip("\n")


def _trailing_backslashes(line: str) -> int:
    # Two are a backslash that was meant, as at the end of a path.
    return len(line) - len(line.rstrip("\\"))
