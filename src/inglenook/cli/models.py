"""``inglenook pull``, ``list`` and ``rm``: the models that are on this machine."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from inglenook.policy.reference import BuiltinRef, FileRef, HubRef, ModelRef, parse_reference
from inglenook.policy.weights import nearest
from inglenook.store import hub
from inglenook.store.builtin import builtin_models

_INTERRUPTED = 130  # what a shell shows for a program that Ctrl-C ended


@dataclass(frozen=True)
class Row:
    """One model of ``inglenook list``. ``name`` is what a model's ``path`` setting takes."""

    name: str
    kind: str
    size: int
    path: str
    modified: str


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the three; each leaves its function in ``run``, which takes the arguments and
    returns a status.
    """
    pull = commands.add_parser("pull", help="download a model from a hub")
    pull.add_argument("model", help="hf:OWNER/REPO[:FILE or TAG][@REVISION]")
    pull.add_argument(
        "--allow-pickle",
        action="store_true",
        help="also take pickled weights, which can run code when they are loaded",
    )
    pull.set_defaults(run=pull_command)
    show = commands.add_parser("list", help="show the models that are on this machine")
    show.add_argument("--json", action="store_true", help="as JSON, sizes in bytes")
    show.set_defaults(run=list_command)
    remove = commands.add_parser("rm", help="remove a model that was pulled")
    remove.add_argument("model", help="a name that `inglenook list` shows")
    remove.add_argument(
        "--unfinished",
        action="store_true",
        help="remove what interrupted pulls of the repository left, and no complete model",
    )
    remove.set_defaults(run=rm_command)


def pull_command(args: argparse.Namespace) -> int:
    """Make a model be here and print its path, alone on standard output."""
    try:
        ref = parse_reference(args.model)
    except ValueError as exc:
        return _fail(exc, 2)
    try:
        path = _pull(ref, allow_pickle=args.allow_pickle)
    except hub.HubError as exc:
        return _fail(exc, 1)
    except KeyboardInterrupt:
        return _fail("interrupted: the same command goes on where it stopped", _INTERRUPTED)
    print(path)
    return 0


def list_command(args: argparse.Namespace) -> int:
    """Print every model that is here, with the name to use for it."""
    rows = [*_builtin_rows(), *(_row(model) for model in hub.listed())]
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    table = [("NAME", "SIZE", "WHERE"), *((row.name, _human(row.size), row.path) for row in rows)]
    for line in _aligned(table):
        print(line)
    for left in hub.unfinished():
        mend = f"pull it again to finish, or drop it with `inglenook rm --unfinished {left.ref}`"
        print(f"a stopped pull of {left.ref} left {_human(left.size)}: {mend}", file=sys.stderr)
    return 0


def rm_command(args: argparse.Namespace) -> int:
    """Remove one pulled model and say what the disk has gained."""
    try:
        ref = parse_reference(args.model)
        if not isinstance(ref, HubRef):
            return _fail(_not_ours(ref), 2)
    except ValueError as exc:
        return _fail(exc, 2)
    try:
        freed = hub.remove_unfinished(ref) if args.unfinished else hub.remove(ref)
    except hub.HubError as exc:
        near = nearest(args.model, (str(model.ref) for model in hub.listed()))
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        return _fail(f"{exc}{hint}", 1)
    print(f"removed {freed.what}: {_human(freed.size)} freed")
    return 0


def _pull(ref: ModelRef, *, allow_pickle: bool) -> Path:
    if isinstance(ref, HubRef):
        bar = Bar(sys.stderr) if sys.stderr.isatty() else None
        try:
            return hub.pull(ref, progress=bar or hub.silent, allow_pickle=allow_pickle)
        finally:
            if bar:
                bar.close()
    # These need no pulling; a script may still hand over every path of its configuration.
    if isinstance(ref, BuiltinRef):
        return _builtin(ref)
    path = Path(ref.path).expanduser()
    if not path.exists():
        raise hub.HubError(f"there is no file {path}: only hf:OWNER/REPO[:FILE] can be pulled")
    return path


def _builtin(ref: BuiltinRef) -> Path:
    models = builtin_models()
    if ref.name not in models:
        raise hub.HubError(f"there is no {ref}: `inglenook list` shows the built-in models")
    return models[ref.name]


def _builtin_rows() -> Iterable[Row]:
    for name, path in builtin_models().items():
        stat = path.stat()
        when = datetime.fromtimestamp(stat.st_mtime, UTC)
        yield Row(str(BuiltinRef(name)), "builtin", stat.st_size, str(path), _moment(when))


def _row(model: hub.PulledModel) -> Row:
    return Row(str(model.ref), "hub", model.size, str(model.path), _moment(model.when))


def _not_ours(ref: BuiltinRef | FileRef) -> str:
    if isinstance(ref, BuiltinRef):
        return f"{ref} came with Inglenook and stays: rm takes the hf: names of `inglenook list`"
    return f"{ref} was not pulled by Inglenook: delete the file yourself, or name hf:OWNER/REPO"


def _fail(reason: object, status: int) -> int:
    print(f"inglenook: {reason}", file=sys.stderr)
    return status


def _aligned(rows: list[tuple[str, str, str]]) -> Iterable[str]:
    name, size = (max(len(row[column]) for row in rows) for column in (0, 1))
    return (f"{row[0]:{name}}  {row[1]:>{size}}  {row[2]}" for row in rows)


def _moment(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def _human(size: float) -> str:
    units = ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    digits = 0 if units[0] == "B" or size >= 100 else 1
    return f"{size:.{digits}f} {units[0]}"


class Bar:
    """One line on a terminal for the file that is coming: how much, how fast, how long still."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._step = ""
        # Of the step that is shown: where and when it began in this run, and when the line was last
        # drawn.
        self._first, self._since, self._drawn = 0, 0.0, 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if step != self._step:
            self.close()
            self._step, self._first, self._since, self._drawn = step, done, now, 0.0
        # Ten times a second is as much as a person sees.
        if now - self._drawn >= 0.1 or done >= total:
            self._drawn = now
            self._draw(done, total, now - self._since)

    def close(self) -> None:
        """Leave the last line standing; what follows begins a new one."""
        if self._step:
            print(file=self._out)
        self._step = ""

    def _draw(self, done: int, total: int, seconds: float) -> None:
        parts = [f"{done / max(total, 1):4.0%}", f"{_human(done)} of {_human(total)}"]
        speed = (done - self._first) / seconds if seconds > 0.5 else 0.0
        if speed:
            parts.append(f"{_human(speed)}/s")
        if speed and done < total:
            minutes, rest = divmod(round((total - done) / speed), 60)
            parts.append(f"{minutes}:{rest:02} left")
        facts = "  ".join(parts)
        room = max(10, shutil.get_terminal_size().columns - len(facts) - 3)
        name = self._step if len(self._step) <= room else f"…{self._step[1 - room :]}"
        print(f"\r\033[K{name}  {facts}", end="", file=self._out, flush=True)
