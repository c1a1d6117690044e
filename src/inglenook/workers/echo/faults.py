"""The ways this program fails on demand. Nothing here happens unless a flag asked for it."""

import math
import os
import signal
import sys
from typing import NoReturn

from inglenook.workers.echo.connection import JSON_TYPE, STREAM_TYPE, encode
from inglenook.workers.echo.flags import Settings
from inglenook.workers.echo.outlet import Outlet

CHILD_LIFE_SECONDS = 600
LOAD_ERRORS = """\
E llama_model_load: error loading model: llama_model_loader: failed to load model from echo.gguf
E llama_model_load_from_file_impl: failed to load model
E common_init_: failed to load model 'echo.gguf'
E srv    load_model: failed to load model, 'echo.gguf'
E srv          init: exiting due to model loading error
"""
ERROR = {"error": {"code": 500, "message": "Compute error.", "type": "server_error"}}
PAGE = b"<!doctype html><title>Bad gateway</title><h1>The engine is not here</h1>\n"

# These spoil the head of an answer, so they come before its first byte whatever the flags say.
_HEAD_KINDS = ("html", "truncated", "gzip")


class Spoiled(Exception):
    """Garbage has ended this answer; nothing more may be sent."""


def start_badly(settings: Settings) -> None:
    """Do what the flags ask for before the program listens. Called before the event loop exists."""
    for number in range(settings.log_flood):
        sys.stderr.write(f"I flood line {number}\n")
    sys.stderr.flush()
    if settings.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if settings.fork_child:
        _fork_deaf_child()


def _fork_deaf_child() -> None:
    child = os.fork()
    if child:
        sys.stderr.write(f"I forked child {child}\n")
        sys.stderr.flush()
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Even a test that forgets the child must not leave it for ever: SIGALRM ends it.
    signal.alarm(CHILD_LIFE_SECONDS)
    while True:
        signal.pause()


class Faults:
    """What befalls one request. `strike` is called before whatever is sent next."""

    def __init__(self, settings: Settings, outlet: Outlet) -> None:
        self._settings = settings
        self._outlet = outlet
        self._stopped = False  # Hanging, freezing and garbage that ends nothing happen once in a request.

    @property
    def swallows_done(self) -> bool:
        """Return whether the stream must end without its last event."""
        return self._settings.garbage == "nodone"

    async def strike(self, sent: int, upcoming: bytes) -> None:
        """Fail if it is time: ``sent`` tokens are out, ``upcoming`` would be next. Raises `Spoiled`."""
        settings = self._settings
        if sent == settings.crash_after_tokens:
            await self._last_words(upcoming)
            os.kill(os.getpid(), signal.SIGKILL)
        if sent == settings.exit_after_tokens:
            await self._last_words(upcoming)
            os._exit(3)
        if self._stopped:
            return
        if sent == settings.freeze_after_tokens:
            self._stopped = True
            os.kill(os.getpid(), signal.SIGSTOP)
        if sent == settings.hang_after_tokens:
            self._stopped = True
            await self._outlet.quiet(math.inf)
        if self._outlet.streams and sent == self._garbage_after():
            self._stopped = True
            await self._spoil_stream(upcoming)

    async def send_whole(self, value: object) -> None:
        """Send a whole answer, spoiled if a flag says so."""
        reply, body = self._outlet.reply, encode(value)
        match self._settings.garbage:
            case "html" | "truncated" | "gzip":
                await self._spoil_head(body, JSON_TYPE)
            case "halfevent":
                half = len(body) // 2
                reply.keep_alive = False
                await reply.whole(200, body[:half], missing=len(body) - half)
            case "badchunk":
                reply.keep_alive = False
                await reply.head_and(200, f"{JSON_TYPE}Transfer-Encoding: chunked\r\n", b"zz\r\n" + body)
            case "notjson":
                await reply.whole(200, b"{not json")
            case "error-event":
                await reply.json(500, ERROR)
            case _:
                await reply.whole(200, body)

    def huge_text(self) -> str:
        """Return the text of a huge answer, or none."""
        return "x" * self._settings.huge_bytes if self._settings.garbage == "huge" else ""

    def _garbage_after(self) -> int:
        kind, after = self._settings.garbage, self._settings.garbage_after_tokens
        if kind is None or (kind == "nodone" and after < 0):
            return -1
        if kind in _HEAD_KINDS:
            return 0
        return after if after >= 0 else 1

    async def _last_words(self, upcoming: bytes) -> None:
        # What was sent before is with the system already: `send` waits for that.
        if self._outlet.streams and self._settings.cut_event_bytes:
            size = b"%x\r\n" % len(upcoming)
            await self._outlet.reply.raw(size + upcoming[: self._settings.cut_event_bytes])

    async def _spoil_stream(self, upcoming: bytes) -> None:
        reply = self._outlet.reply
        match self._settings.garbage:
            case "notjson":
                await reply.send(reply.event(b"{not json"))
            case "huge":
                choice = {"index": 0, "delta": {"content": self.huge_text()}, "finish_reason": None}
                await reply.send(reply.event(encode({"choices": [choice]})))
            case "badchunk":
                await self._end_with(b"zz\r\n" + upcoming)
            case "halfevent":
                await self._end_with(b"%x\r\n" % len(upcoming) + upcoming[: len(upcoming) // 2])
            case "nodone":
                await reply.end_stream()
                raise Spoiled
            case "error-event":
                await reply.send(reply.event(encode(ERROR)))
                await reply.end_stream()
                raise Spoiled
            case _:
                await self._spoil_head(upcoming, STREAM_TYPE)
                raise Spoiled

    async def _end_with(self, data: bytes) -> NoReturn:
        self._outlet.reply.keep_alive = False
        await self._outlet.reply.raw(data)
        raise Spoiled

    async def _spoil_head(self, body: bytes, kind: str) -> None:
        reply = self._outlet.reply
        match self._settings.garbage:
            case "html":
                await reply.whole(200, PAGE, headers="Content-Type: text/html\r\n")
            case "gzip":
                await reply.whole(200, body, headers=f"{kind}Content-Encoding: gzip\r\n")
            case _:
                reply.keep_alive = False
                await reply.whole(200, body, headers=kind, missing=64)


def spoils_head(settings: Settings) -> bool:
    """Return whether garbage needs the head of an answer, so that nothing may be sent early."""
    return settings.garbage in _HEAD_KINDS
