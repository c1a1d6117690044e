"""The flags of the program: one table that gives the parser, the help text and the settings."""

import argparse
import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

PLACE = "where it listens"
SPEECH = "what it says"
MANNER = "how it behaves (kept when the faults are over)"
FAULT = "faults (off once --fault-file has counted --fault-times starts)"

GarbageKind = Literal[
    "html",
    "truncated",
    "gzip",
    "badchunk",
    "halfevent",
    "nodone",
    "notjson",
    "error-event",
    "huge",
]
GARBAGE_WORDS = (
    "spoil answers. html: a 200 page; truncated: Content-Length too long; gzip: says gzip and is "
    "not; badchunk: a chunk size that is no number; halfevent: close inside an event; nodone: end "
    "without [DONE]; notjson: an event that is no JSON; error-event: an error event ends the "
    "stream; huge: an event of --huge-bytes"
)


@dataclass(frozen=True)
class Flag:
    """What the help says of one flag."""

    section: str
    words: str
    metavar: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the command line says. A fault with a negative K never comes."""

    socket: Annotated[str | None, Flag(PLACE, "unix socket to listen on", "PATH")] = None
    port: Annotated[int | None, Flag(PLACE, "port of 127.0.0.1 to listen on, 0 for a free one", "N")] = None

    model: Annotated[str, Flag(SPEECH, "name in answers", "NAME")] = "echo"
    chain: Annotated[
        bool, Flag(SPEECH, "say words that each depend on all tokens before, not what was asked")
    ] = False
    tokens: Annotated[int, Flag(SPEECH, "length of an answer with --chain", "N")] = 256
    split_characters: Annotated[
        bool,
        Flag(SPEECH, "a token for each byte of characters beyond ASCII; streams show the last id"),
    ] = False
    dimension: Annotated[int, Flag(SPEECH, "length of embedding vectors", "N")] = 32

    slots: Annotated[int, Flag(MANNER, "answers generated at a time; further requests wait in line", "N")] = 4
    context: Annotated[int, Flag(MANNER, "tokens that a prompt and its answer may have together", "N")] = 4096
    load_seconds: Annotated[float, Flag(MANNER, "answer 503 'Loading model' so long", "S")] = 0.0
    first_token_seconds: Annotated[float, Flag(MANNER, "time to read a prompt", "S")] = 0.0
    token_seconds: Annotated[float, Flag(MANNER, "time between two tokens", "S")] = 0.0
    progress_seconds: Annotated[
        float,
        Flag(MANNER, "time between prompt_progress events, if return_progress asks for them", "S"),
    ] = 1.0
    ping_seconds: Annotated[
        float, Flag(MANNER, "silence after which a begun stream gets a ': ping' comment", "S")
    ] = 30.0
    early_headers: Annotated[
        bool,
        Flag(MANNER, "begin a stream, and its pings, before its first token, unlike llama-server"),
    ] = False
    close_idle_seconds: Annotated[
        float, Flag(MANNER, "close a connection that is idle so long, 0 for never", "S")
    ] = 5.0
    bytes_per_write: Annotated[int, Flag(MANNER, "send N bytes at a time, 0 for all", "N")] = 0
    crlf: Annotated[bool, Flag(MANNER, "end the lines of streams with CR LF")] = False

    fault_file: Annotated[str | None, Flag(FAULT, "file that counts the starts", "PATH")] = None
    fault_times: Annotated[int, Flag(FAULT, "how many starts are faulty", "N")] = 1
    fail_load: Annotated[bool, Flag(FAULT, "print why and exit with 1 after loading")] = False
    hang_load: Annotated[bool, Flag(FAULT, "never finish loading")] = False
    log_flood: Annotated[int, Flag(FAULT, "write N lines to stderr before listening", "N")] = 0
    deaf: Annotated[bool, Flag(FAULT, "ignore SIGTERM")] = False
    fork_child: Annotated[
        bool, Flag(FAULT, "leave a child that ignores SIGTERM; it ends after 10 minutes")
    ] = False
    crash_after_tokens: Annotated[
        int, Flag(FAULT, "SIGKILL itself when a request has got K tokens and is to get more", "K")
    ] = -1
    exit_after_tokens: Annotated[int, Flag(FAULT, "the same, but exit with 3", "K")] = -1
    cut_event_bytes: Annotated[
        int, Flag(FAULT, "before these two, still send the first B bytes of the next event", "B")
    ] = 0
    hang_after_tokens: Annotated[
        int, Flag(FAULT, "no more tokens, but HTTP lives, pings flow, the slot stays taken", "K")
    ] = -1
    freeze_after_tokens: Annotated[int, Flag(FAULT, "SIGSTOP itself; SIGCONT lets it go on", "K")] = -1
    garbage: Annotated[GarbageKind | None, Flag(FAULT, GARBAGE_WORDS)] = None
    garbage_after_tokens: Annotated[
        int, Flag(FAULT, "tokens before garbage in a stream (default 1; nodone: all of them)", "K")
    ] = -1
    huge_bytes: Annotated[int, Flag(FAULT, "size of a huge event", "N")] = 16 << 20


def read_settings(argv: Sequence[str]) -> Settings:
    """Parse ``argv``, count this start, and drop the faults when there were enough faulty starts.

    Exits with 2 when the call is wrong.
    """
    parser = _parser()
    settings = Settings(**vars(parser.parse_args(argv)))
    if settings.socket is None and settings.port is None:
        parser.error("one of --socket and --port is needed")
    for name in ("slots", "context", "dimension", "progress_seconds"):
        if getattr(settings, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be more than 0")
    if settings.fault_file is None or count_start(settings.fault_file) <= settings.fault_times:
        return settings
    return without_faults(settings)


def without_faults(settings: Settings) -> Settings:
    """Return ``settings`` with every flag of the fault section at its default."""
    flags = _flags()
    healthy: dict[str, Any] = {
        each.name: each.default for each in fields(Settings) if flags[each.name][1].section == FAULT
    }
    return replace(settings, **healthy)


def count_start(path: str) -> int:
    """Add one to the number in the file ``path``, which need not exist, and return the sum.

    Safe between processes that start together.
    """
    with os.fdopen(os.open(Path(path), os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        count = int(file.read() or 0) + 1
        file.seek(0)
        file.write(str(count))
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inglenook.workers.echo",
        description="An engine without a model: speaks llama-server's API and fails on demand.",
    )
    sections = {title: parser.add_argument_group(title) for title in (PLACE, SPEECH, MANNER, FAULT)}
    flags = _flags()
    for each in fields(Settings):
        kind, flag = flags[each.name]
        name = "--" + each.name.replace("_", "-")
        sections[flag.section].add_argument(name, **_argument(kind, flag, each.default))
    return parser


def _flags() -> dict[str, tuple[Any, Flag]]:
    """Return the type and the words of each flag, by the name of its field."""
    hints = get_type_hints(Settings, include_extras=True)
    return {name: (get_args(hint)[0], get_args(hint)[1]) for name, hint in hints.items()}


def _argument(kind: Any, flag: Flag, default: object) -> dict[str, Any]:
    """Return the arguments of `add_argument` for one flag."""
    if kind is bool:
        return {"action": "store_true", "help": flag.words}
    given = default is not None and default != -1
    words = f"{flag.words} (default {default})" if given else flag.words
    argument: dict[str, Any] = {"default": default, "help": words, "metavar": flag.metavar}
    if not isinstance(kind, type):
        kind = get_args(kind)[0]  # The other member of the union is None.
    if get_origin(kind) is Literal:
        return argument | {"choices": get_args(kind)}
    return argument | {"type": kind}
