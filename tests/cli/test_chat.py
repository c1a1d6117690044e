"""``inglenook run`` as a person has it, on a real terminal, and as a script has it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.conftest import StartServer
from tests.parts.server import Server, children

SECONDS = 30
PROGRAM = (sys.executable, "-m", "inglenook")
ENDLESS = """
[[models]]
id = "endless"
path = "builtin:echo"
parallel = 1
args = ["--chain", "--tokens", "3000", "--token-seconds", "0.1"]
"""
CHAIN = """
[[models]]
id = "chain"
path = "builtin:echo"
args = ["--chain", "--tokens", "6"]
"""
VECTORS = """
[[models]]
id = "vectors"
path = "builtin:deterministic"
"""


class Person:
    """Someone at a terminal with a chat. All waiting is for what appears there."""

    def __init__(self, pty: pexpect.spawn[str], home: Path) -> None:
        self.pty, self.home = pty, home
        assert pty.pid is not None
        self.pid = pty.pid

    def sees(self, text: str) -> str:
        """Wait for ``text``; what appeared before it, since the last time."""
        self.pty.expect_exact(text)
        return str(self.pty.before)

    def sees_like(self, pattern: str) -> re.Match[str]:
        self.pty.expect(pattern)
        match = self.pty.match
        assert isinstance(match, re.Match)
        return match

    def has_the_prompt(self) -> str:
        """Wait until the program waits for the person; what appeared before."""
        return self.sees("> ")

    def types(self, line: str) -> None:
        """Type at the prompt, and wait for the echo, so that what is seen next is the program's."""
        self.pty.send(line)
        self.sees(line)
        self.pty.send("\r")

    def says(self, line: str) -> str:
        """Type a line that is answered at once; what was shown until the next prompt."""
        self.types(line)
        return self.has_the_prompt()

    def leaves(self) -> int:
        """Ctrl-D at the prompt; the program's exit status."""
        self.pty.sendeof()
        return self.ends()

    def ends(self) -> int:
        self.pty.expect(pexpect.EOF)
        self.pty.close()
        assert self.pty.exitstatus is not None, "a signal ended it"
        return self.pty.exitstatus


SitDown = Callable[..., Person]


@pytest.fixture
def sit_down(tmp_path: Path) -> Iterator[SitDown]:
    """Start chats on terminals; those that are still there at the end are killed."""
    with contextlib.ExitStack() as ending:

        def start(*words: str, **environ: str) -> Person:
            own = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "TERM": "xterm"}
            pty: pexpect.spawn[str] = pexpect.spawn(
                PROGRAM[0],
                [*PROGRAM[1:], "run", *words],
                env=os.environ | own | environ,
                cwd=str(tmp_path),
                encoding="utf-8",
                timeout=SECONDS,
                dimensions=(50, 200),
            )
            ending.callback(pty.close, force=True)
            return Person(pty, tmp_path)

        yield start


def run(*words: str, given: bytes | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """``inglenook run`` without a terminal."""
    done = subprocess.run(
        [*PROGRAM, "run", *words],
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        timeout=SECONDS,
        env=os.environ | environ,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def answers(file: Path) -> list[str]:
    """The answers of a saved conversation."""
    saved: dict[str, Any] = json.loads(file.read_text())
    return [message["content"] for message in saved["messages"] if message["role"] == "assistant"]


def descendants(pid: int) -> list[int]:
    """A process's children and theirs, from /proc."""
    found = children(pid)
    return [*found, *(below for child in found for below in descendants(child))]


@contextlib.contextmanager
def watching(pids: list[int]) -> Iterator[Callable[[], None]]:
    """A function that waits until every one of ``pids`` has ended."""
    with contextlib.ExitStack() as closing:
        watches = [os.pidfd_open(pid) for pid in pids]
        for watch in watches:
            closing.callback(os.close, watch)

        def wait() -> None:
            for pid, watch in zip(pids, watches, strict=True):
                assert select.select([watch], [], [], SECONDS)[0], f"{pid} is still there"

        yield wait


# A chat.


def test_an_answer_streams_and_ctrl_c_stops_it_and_not_the_program(
    serve: StartServer, sit_down: SitDown
) -> None:
    """Words appear while the answer goes on; after Ctrl-C its only slot is free for the next question."""
    person = sit_down("--url", serve(ENDLESS).url)
    for question in ("first", "second"):
        person.has_the_prompt()
        person.types(question)
        person.sees_like(r"( \S+){3}")
        person.pty.sendintr()
        person.sees("stopped; what came so far is kept")
    assert "saved" in person.says("/save chat.json")
    saved = json.loads((person.home / "chat.json").read_text())["messages"]
    assert [(each["role"], each.get("ending")) for each in saved] == [
        ("user", None),
        ("assistant", "stopped"),
    ] * 2
    assert person.leaves() == 0


def test_the_second_question_is_asked_with_the_first(serve: StartServer, sit_down: SitDown) -> None:
    """The chain engine's words depend on everything before them, and /clear takes that away."""
    person = sit_down("--url", serve(CHAIN).url)
    person.has_the_prompt()
    for line in ("hi", "hi", "/save two.json", "/clear", "hi", "/save one.json"):
        person.says(line)
    first, second = answers(person.home / "two.json")
    assert first != second
    assert answers(person.home / "one.json") == [first]


def test_a_real_model_answers(starter: Server, sit_down: SitDown) -> None:
    """The model that comes with the package, on a terminal."""
    person = sit_down("--url", starter.url, "starter", "--set", "temperature=0")
    person.has_the_prompt()
    assert "Paris" in person.says("What is the capital of France?")


def test_help_and_a_slip_of_the_finger(starter: Server, sit_down: SitDown) -> None:
    """A command that there is not is never sent to the model."""
    person = sit_down("--url", starter.url, "team/echo")
    person.has_the_prompt()
    assert "/retry" in person.says("/help")
    assert "did you mean /help?" in person.says("/hlep")
    assert "there is nothing to ask again yet" in person.says("/retry")


def test_ctrl_c_at_the_prompt_clears_the_line(starter: Server, sit_down: SitDown) -> None:
    """What was typed is gone, and the way out is named."""
    person = sit_down("--url", starter.url, "team/echo")
    person.has_the_prompt()
    person.pty.send("half a line")
    person.sees("half a line")
    person.pty.sendintr()
    person.sees("Ctrl-D or /bye to leave")
    person.has_the_prompt()
    assert "half" not in person.says("whole")
    person.types("/bye")
    assert person.ends() == 0


def test_settings_system_and_stats_reach_the_request(starter: Server, sit_down: SitDown) -> None:
    """max_tokens cuts the echo, the system message makes the prompt longer, /stats tells both."""
    person = sit_down("--url", starter.url, "team/echo")
    person.has_the_prompt()
    person.says("/stats")
    before = person.says("one two three four")
    person.says("/clear")
    assert "system message: Be brief" in person.says("/system Be brief, and kind, and clear.")
    assert "max_tokens 2" in person.says("/set max_tokens 2")
    cut = person.says("one two three four")
    assert "one two three four" in before
    assert "three" not in cut
    assert "reached its limit of tokens" in cut
    tokens = [int(re.findall(r"(\d+) prompt \+", text)[0]) for text in (before, cut)]
    assert tokens[0] < tokens[1]
    assert "no system message" in person.says("/system -")
    assert "the model's own settings" in person.says("/set max_tokens")


def test_models_are_listed_and_switched(starter: Server, sit_down: SitDown) -> None:
    """By id or alias; one that there is not leaves the chat as it was."""
    person = sit_down("--url", starter.url, "team/echo")
    person.has_the_prompt()
    assert "* team/echo" in person.says("/model")
    assert "did you mean 'starter'?" in person.says("/model startre")
    assert "going on with starter" in person.says("/model gpt-4o-mini")


def test_a_saved_conversation_is_gone_on_with(starter: Server, sit_down: SitDown) -> None:
    """In another chat, and /retry asks its last question again; other files are never written over."""
    person = sit_down("--url", starter.url, "team/echo")
    person.has_the_prompt()
    person.says("amber")
    person.says("/save kept.json")
    kept = person.home / "kept.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (person.home / "letter.txt").write_text("Dear Anna")
    assert "no saved conversation: name another file" in person.says("/save letter.txt")
    assert "cannot be read (No such file or directory)" in person.says("/load nowhere.json")
    assert "letter.txt is no saved conversation" in person.says("/load letter.txt")
    assert "/load needs the name of a file" in person.says("/load")
    person.leaves()
    again = sit_down("--url", starter.url, "team/echo")
    again.has_the_prompt()
    assert "loaded kept.json: 1 question" in again.says("/load kept.json")
    assert "amber" in again.says("/retry")
    again.says("/save kept.json")
    assert answers(kept) == ["amber"]


def test_messages_of_several_lines_are_one(starter: Server, sit_down: SitDown) -> None:
    """A backslash, three quotes and /multi all give one message."""
    person = sit_down("--url", starter.url, "team/echo")
    for lines in (["a1\\", "a2"], ['"""b1', 'b2"""'], ["/multi", "c1", 'c2"""']):
        person.has_the_prompt()
        for line in lines[:-1]:
            person.types(line)
            person.sees("… ")
        person.types(lines[-1])
    person.has_the_prompt()
    person.says("/save lines.json")
    assert answers(person.home / "lines.json") == ["a1\na2", "b1\nb2", "c1\nc2"]


def test_pasted_lines_are_one_message(starter: Server, sit_down: SitDown) -> None:
    """A terminal marks what is pasted; its line feeds do not send."""
    person = sit_down("--url", starter.url, "team/echo")
    person.has_the_prompt()
    person.pty.send("\x1b[200~one\ntwo\x1b[201~")
    person.sees("two")
    person.pty.send("\r")
    person.has_the_prompt()
    person.says("/save pasted.json")
    assert answers(person.home / "pasted.json") == ["one\ntwo"]


def test_lines_are_remembered_for_their_owner_alone(starter: Server, sit_down: SitDown) -> None:
    """Arrow up in the next chat brings the last line of this one; Tab completes commands."""
    person = sit_down("--url", starter.url, "team/echo")
    person.has_the_prompt()
    person.says("remember me")
    person.leaves()
    history = person.home / "state" / "inglenook" / "chat_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    again = sit_down("--url", starter.url, "team/echo")
    again.has_the_prompt()
    again.pty.send("\x1b[A")
    again.sees("remember me")
    again.pty.send("\r")
    again.has_the_prompt()
    again.pty.send("/hel\t\r")
    again.sees("begin a new conversation")


def test_loading_is_told_and_the_telling_erased(serve: StartServer, sit_down: SitDown) -> None:
    """On a terminal, and gone when the answer comes."""
    settings = CHAIN.replace('"6"', '"6", "--load-seconds", "4"')
    person = sit_down("--url", serve(settings).url)
    person.has_the_prompt()
    person.types("hi")
    person.sees("loading the model...")
    assert re.search(r"\r\x1b\[K(\x1b\[0m)? \w+", person.has_the_prompt())


def test_a_server_that_is_lost_leaves_the_conversation(serve: StartServer, sit_down: SitDown) -> None:
    """In the middle of an answer and before one: a sentence, and the prompt again."""
    server = serve(ENDLESS)
    person = sit_down("--url", server.url)
    person.has_the_prompt()
    person.types("hi")
    person.sees_like(r"( \S+){3}")
    server.signal(signal.SIGKILL)
    server.wait()
    person.sees("ended in the middle of the answer")
    person.sees("what came so far is kept; /retry asks again")
    person.has_the_prompt()
    assert "No server answers at" in person.says("still there?")
    person.says("/save lost.json")
    assert len(answers(person.home / "lost.json")) == 1
    assert person.leaves() == 0


def test_the_words_of_a_refusal_are_the_servers(starter: Server, sit_down: SitDown) -> None:
    """OpenAI's envelope is shown as its sentence."""
    person = sit_down("--url", starter.url, "starter")
    person.has_the_prompt()
    said = person.says("word " * 3000)
    assert re.search(r"maximum context length is \d+ tokens", said)


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_plain_terminal_gets_no_colours(
    starter: Server, sit_down: SitDown, environ: dict[str, str]
) -> None:
    """NO_COLOR and a dumb terminal are respected."""
    person = sit_down("--url", starter.url, "team/echo", **environ)
    shown = person.has_the_prompt() + person.says("/nothing")
    assert not re.search(r"\x1b\[\d+m", shown)


def test_a_model_cannot_drive_the_terminal(starter: Server, sit_down: SitDown) -> None:
    """Control characters in an answer are not passed to a terminal."""
    person = sit_down("--url", starter.url, "team/echo", "say \x1b]0;title\x07 now")
    shown = person.pty.read()
    assert "say ]0;title now" in shown
    assert "\x1b]0;" not in shown


# A script.


def test_a_prompt_is_answered_on_standard_output_alone(starter: Server) -> None:
    """One answer, one line feed, nothing else; flags may stand anywhere."""
    for words in (
        ["team/echo", "hello there", "--url", starter.url],
        ["--url", starter.url, "team/echo", "hello", "there"],
        ["team/echo", "--url", starter.url, "hello there"],
    ):
        done = run(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello there\n", "")


def test_standard_input_is_the_prompt(starter: Server) -> None:
    """From a pipe without words it is the prompt, with a - it follows them, else it is left alone."""
    piped = run("team/echo", "--url", starter.url, given=b"hello\n")
    joined = run("team/echo", "Sum up:", "-", "--url", starter.url, given=b"one\ntwo\n")
    ignored = run("team/echo", "hello", INGLENOOK_URL=starter.url, given=b"other")
    assert [piped.stdout, joined.stdout, ignored.stdout] == ["hello\n", "Sum up:\n\none\ntwo\n", "hello\n"]
    empty = run("team/echo", "--url", starter.url, given=b"")
    assert (empty.returncode, empty.stderr.count("\n")) == (2, 1)


def test_bytes_that_are_no_text_do_not_fail(starter: Server) -> None:
    """They are marked, and the rest is answered."""
    assert run("team/echo", "--url", starter.url, given=b"a \xff b").stdout == "a � b\n"


def test_a_wrong_model_is_one_sentence(starter: Server) -> None:
    """With what was probably meant, on standard error, exit status 1."""
    done = run("startre", "hi", "--url", starter.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "inglenook: The model 'startre' does not exist; did you mean 'starter'?\n"


def test_a_named_server_that_is_not_there_is_one_sentence() -> None:
    """None is started in its place."""
    done = run("any", "hi", INGLENOOK_URL="http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "inglenook: No server answers at http://127.0.0.1:1 (Connection refused).\n"


def test_the_first_model_that_chats_is_taken(serve: StartServer) -> None:
    """And not one that only embeds; where there is none, one sentence says so."""
    server = serve(VECTORS + CHAIN)
    done = run("--url", server.url, given=b"hello")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    lone = serve(VECTORS)
    done = run("--url", lone.url, given=b"hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"inglenook: The server at {lone.url} has no model that chats.\n"


def test_an_answer_at_its_limit_says_so(starter: Server) -> None:
    """Beside the answer, so that nothing looks complete that is not."""
    done = run("team/echo", "one two three", "--set", "max_tokens=1", "--url", starter.url)
    assert (done.returncode, done.stdout) == (0, "one\n")
    assert "limit of tokens" in done.stderr


@pytest.mark.parametrize("words", [["--set", "seed"], ["--set", "seed=x"], ["--url", "ftp://x"]])
def test_a_wrong_call_is_exit_status_2(words: list[str]) -> None:
    """One sentence, before anything is asked."""
    done = run("any", "hi", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_ctrl_c_ends_a_script_with_130(serve: StartServer) -> None:
    """What came so far stays on standard output."""
    command = [*PROGRAM, "run", "--url", serve(ENDLESS).url, "endless", "hi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(4)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SECONDS)[1] == b""
    assert process.returncode == 130


# A server of its own.


def test_without_a_server_one_is_started_and_ends_with_the_chat(sit_down: SitDown) -> None:
    """And so do its engines; Ctrl-C is not for it."""
    person = sit_down("builtin:echo")
    person.sees("Starting a server for this chat...")
    person.has_the_prompt()
    person.pty.sendintr()
    person.sees("Ctrl-D or /bye to leave")
    person.has_the_prompt()
    assert "hello" in person.says("hello")
    with watching(descendants(person.pid)) as gone:
        assert person.leaves() == 0
        gone()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_chat_that_is_killed_takes_its_server_along(sit_down: SitDown, how: signal.Signals) -> None:
    """However it is killed, nothing is left behind."""
    if how is signal.SIGHUP and signal.getsignal(how) is signal.SIG_IGN:
        pytest.skip("these tests were started by nohup, whose children do not hear SIGHUP")
    person = sit_down("builtin:echo")
    person.has_the_prompt()
    person.says("hello")
    started = descendants(person.pid)
    assert len(started) >= 2
    with watching(started) as gone:
        os.kill(person.pid, how)
        gone()


def test_a_script_needs_no_server_either(tmp_path: Path) -> None:
    """A file is served under its own name; a reference to what is not there is the server's sentence."""
    (tmp_path / "odd.gguf").write_bytes(b"no model")
    assert run("builtin:echo", "hello").stdout == "hello\n"
    for model, says in (("builtin:none", "there is no built-in model"), (str(tmp_path / "odd.gguf"), "GGUF")):
        done = run(model, "hello")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert says in done.stderr
