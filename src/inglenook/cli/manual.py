"""The manual page, made from the commands themselves: ``python -m inglenook.cli.manual > docs/inglenook.1``.

Contract: man(7) of groff, in the macros that mandoc has too.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator

from inglenook import __version__
from inglenook.cli.main import parser

DESCRIPTION = """\
Inglenook is one server for the language models of a person or a team: chat, completions, embeddings and
reranking behind the OpenAI API, over engines that it starts, watches and stops itself, and in front of other
servers that speak the same API. Any OpenAI client works with it. `inglenook serve` starts it, with built-in
models when nothing else is said; `inglenook run` is a chat in the terminal."""
SETTINGS = """\
A flag stands above the environment, the environment above the file, the file above the defaults. Every
setting of the file can be given in the environment as `INGLENOOK_SECTION__NAME`. `inglenook config explain`
prints them all."""
ENVIRONMENT = {
    "INGLENOOK_SECTION__NAME": "A setting, such as `INGLENOOK_SERVER__PORT=9000`.",
    "INGLENOOK_MODELS, INGLENOOK_UPSTREAMS": "A whole list of settings, as TOML.",
    "INGLENOOK_URL": "The server that commands call when no `--url` names one.",
    "INGLENOOK_API_KEY": "The key that they send.",
    "HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE": "What they mean to the tools of the hub.",
}
EXIT = {
    "0": "Done.",
    "1": "It failed. One sentence on standard error says what to do.",
    "2": "The call, or a setting, was wrong.",
    "130": "Ctrl-C ended it.",
}
EXAMPLES = {
    "inglenook serve": "Serve the built-in models at http://127.0.0.1:8000; /docs has all calls.",
    "inglenook run": "Chat with it, or with a model of its own where no server runs.",
    "inglenook serve --config team.toml --port 9000": "Serve what a file says.",
    "inglenook embed --dimensions 64 < lines.txt": "A vector for each line.",
    "inglenook bench chat --model starter --stream": "How fast it answers.",
}


def manual(top: argparse.ArgumentParser, version: str) -> str:
    """The page as troff. The same commands give the same page, whatever Python and terminal."""
    about = (top.description or "").rstrip(".")
    lines = [
        rf'.TH {top.prog.upper()} 1 "" "Inglenook {version}" "User Commands"',
        ".SH NAME",
        rf"{top.prog} \- {_text(about[:1].lower() + about[1:])}",
        ".SH SYNOPSIS",
        rf"\fB{top.prog}\fR \fICOMMAND\fR [\fIOPTION\fR ...] [\fIARGUMENT\fR ...]",
        ".br",
        rf"\fB{top.prog} \-\-version\fR",
        ".SH DESCRIPTION",
        _text(DESCRIPTION),
        ".PP",
        _text(SETTINGS),
        ".SH COMMANDS",
        r"Every command takes \fB\-h\fR, \fB\-\-help\fR.",
    ]
    for command, says in _commands(top):
        lines += _section(command, says)
    lines += [".SH ENVIRONMENT", *_items(ENVIRONMENT.items())]
    lines += [".SH EXIT STATUS", *_items(EXIT.items())]
    lines += [".SH EXAMPLES", *_items(EXAMPLES.items())]
    return "\n".join(lines) + "\n"


def _commands(top: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Every command that does something, with what its group says of it, in the order of the help."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            says = {each.dest: each.help or "" for each in action._get_subactions()}
            for name, command in action.choices.items():
                inner = list(_commands(command))
                yield from inner or [(command, says.get(name, ""))]


def _section(command: argparse.ArgumentParser, says: str) -> list[str]:
    actions = [action for action in command._actions if action.help != argparse.SUPPRESS]
    places = [action for action in actions if not action.option_strings]
    options = [action for action in actions if action.option_strings and action.dest != "help"]
    usage = [rf"\fB{_plain(command.prog)}\fR", *(_place(action) for action in places)]
    about = command.description or says
    about = about[:1].upper() + about[1:].rstrip(".") + "."
    shown = [(rf"\fI{_plain(_value(action))}\fR", action) for action in places]
    shown += [(_option(action), action) for action in options]
    lines = [f".SS {_quoted(' '.join(usage))}", _text(about)]
    for title, action in shown:
        lines += [".TP", title, _text(_help(action, command.prog))]
    return lines


def _place(action: argparse.Action) -> str:
    """A positional argument as a synopsis has it."""
    name = rf"\fI{_plain(_value(action))}\fR"
    many = action.nargs in ("*", "+")
    if action.nargs in ("*", "?") or not action.required:
        return f"[{name} ...]" if many else f"[{name}]"
    return f"{name} [{name} ...]" if many else name


def _option(action: argparse.Action) -> str:
    names = ", ".join(rf"\fB{_plain(name)}\fR" for name in action.option_strings)
    return names if action.nargs == 0 else rf"{names} \fI{_plain(_value(action))}\fR"


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper().replace("_", "-") if action.option_strings else action.dest


def _help(action: argparse.Action, prog: str) -> str:
    return (action.help or "") % {**vars(action), "prog": prog}


def _items(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, says in items:
        yield from (".TP", rf"\fB{_plain(name)}\fR", _text(says))


def _text(text: str) -> str:
    """Running text: what stands between backticks is bold, and no line is taken for a request."""
    bold = re.sub(r"`([^`]+)`", "\x01\\1\x02", " ".join(text.split()))
    return _plain(bold).replace("\x01", r"\fB").replace("\x02", r"\fR")


def _plain(text: str) -> str:
    r"""``text`` as itself: a backslash begins an escape, `-` alone would be a hyphen, `.` a request."""
    made = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    made = "".join(each if each.isascii() else rf"\[u{ord(each):04X}]" for each in made)
    return rf"\&{made}" if made.startswith(".") else made


def _quoted(text: str) -> str:
    """One argument of a request."""
    return '"' + text.replace('"', r"\(dq") + '"'


if __name__ == "__main__":
    print(manual(parser(), __version__), end="")
