"""A chat with a person: the loop of questions and answers, and what each slash command does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from inglenook.cli.answer import receive
from inglenook.cli.conversation import Conversation, Mistake, loaded
from inglenook.cli.interrupts import Interrupts
from inglenook.cli.line_editor import Complete
from inglenook.cli.remote import Failure, Server
from inglenook.cli.slash import completions, help_text, read_command
from inglenook.cli.terminal import Terminal

LEAVE_HINT = "Ctrl-D or /bye to leave"


class Talk:
    """One chat. Nothing that fails ends it: only the person does."""

    def __init__(
        self, server: Server, model: str, conversation: Conversation, terminal: Terminal, *, stats: bool
    ) -> None:
        self.server, self.model = server, model
        self.conversation, self.terminal = conversation, terminal
        self.stats = stats
        self.over = False
        self._models: list[str] = []
        """For completion; asked once, when the chat begins."""
        self._does: dict[str, Callable[[str], None]] = {
            "help": lambda _: terminal.plain(help_text()),
            "clear": self._clear,
            "system": self._system,
            "model": self._model,
            "set": self._set,
            "retry": lambda _: self._answer_again(),
            "save": self._save,
            "load": self._load,
            "multi": lambda _: self._ask(terminal.message(quoted=True)),
            "stats": self._stats,
            "bye": self._bye,
        }

    def run(self) -> None:
        """Until the person leaves."""
        self._models = self.server.models()
        self.terminal.note(f"{self.model} at {self.server.url}. /help shows the commands; {LEAVE_HINT}.")
        with Interrupts() as interrupts:
            while not self.over:
                try:
                    with interrupts.may_come():
                        self._step()
                except KeyboardInterrupt:
                    self.terminal.broken_line()
                    self.terminal.note(LEAVE_HINT)

    @property
    def complete(self) -> Complete:
        """Completion of what is typed at the prompt."""
        return lambda line: completions(line, self._models)

    def _step(self) -> None:
        try:
            self._take(self.terminal.message())
        except EOFError:
            self.terminal.broken_line()
            self.over = True
        except (Mistake, Failure) as problem:
            self.terminal.error(str(problem))

    def _take(self, text: str) -> None:
        command = read_command(text)
        if command is None:
            self._ask(text)
        else:
            name, argument = command
            self._does[name](argument)

    def _ask(self, text: str) -> None:
        if text.strip():
            self.conversation.ask(text)
            self._answer()

    def _answer_again(self) -> None:
        self.conversation.again()
        self._answer()

    def _answer(self) -> None:
        answer = receive(self.server, self.model, self.conversation, self.terminal)
        asked = self.conversation.rounds[-1]
        asked.answer, asked.ending = answer.text, answer.ending
        self.terminal.end_line()
        if answer.failure is not None:
            self.terminal.error(str(answer.failure))
            if self.stats:
                self.terminal.log(answer.failure.log)
            kept = "what came so far is kept" if answer.text else "the conversation is kept"
            self.terminal.note(f"{kept}; /retry asks again")
        elif answer.ending == "stopped":
            self.terminal.note("stopped; what came so far is kept" if answer.text else "stopped")
        elif answer.finish == "length":
            self.terminal.note("the answer reached its limit of tokens")
        if self.stats and answer.ending == "complete":
            self.terminal.note(answer.cost)

    # What the commands do. Each takes the words after the command.

    def _clear(self, _: str) -> None:
        self.conversation.clear()
        self.terminal.note("a new conversation")

    def _system(self, text: str) -> None:
        if text:
            self.conversation.system = "" if text == "-" else text
        system = self.conversation.system
        self.terminal.note(f"system message: {system}" if system else "no system message")

    def _model(self, name: str) -> None:
        if name:
            self.model = self.server.model(name)
            self.terminal.note(f"going on with {self.model}")
            return
        self._models = self.server.models()
        for each in self._models:
            self.terminal.plain(f"{'*' if each == self.model else ' '} {each}")

    def _set(self, words: str) -> None:
        name, _, value = words.partition(" ")
        if name:
            self.conversation.set(name, value.strip())
        settings = self.conversation.settings
        said = ", ".join(f"{name} {value}" for name, value in settings.items())
        self.terminal.note(said or "the model's own settings")

    def _stats(self, _: str) -> None:
        self.stats = not self.stats
        self.terminal.note(f"tokens and speed: {'shown' if self.stats else 'not shown'}")

    def _bye(self, _: str) -> None:
        self.over = True

    def _save(self, name: str) -> None:
        path = _named(name, "save")
        data = self.conversation.saved(self.model)
        try:
            if path.exists():
                loaded(path.read_bytes())  # another chat may be written over; nothing else may
            _write(path, data)
        except Mistake:
            raise Mistake(f"{path} is there and is no saved conversation: name another file") from None
        except OSError as problem:
            raise Mistake(f"{path} cannot be written ({problem.strerror})") from None
        self.terminal.note(f"saved to {path}")

    def _load(self, name: str) -> None:
        path = _named(name, "load")
        try:
            found = loaded(path.read_bytes())
        except OSError as problem:
            raise Mistake(f"{path} cannot be read ({problem.strerror})") from None
        except Mistake as mistake:
            raise Mistake(f"{path} {mistake}") from None
        self.conversation = found
        count = len(found.rounds)
        self.terminal.note(f"loaded {path}: {count} question{'' if count == 1 else 's'}")


def _named(name: str, command: str) -> Path:
    if not name:
        raise Mistake(f"/{command} needs the name of a file")
    return Path(name).expanduser()


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and for the person alone."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
