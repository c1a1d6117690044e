"""One supervised engine process. Only ``Process.run`` changes its state."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TypeVar

from inglenook.engines.base import Launch
from inglenook.errors import (
    EngineError,
    EngineLost,
    EngineStartFailed,
    InglenookError,
    ShuttingDown,
)
from inglenook.policy.restart import Restarts
from inglenook.runtime.channel import Address, Channel

T = TypeVar("T")
log = logging.getLogger("inglenook.process")

KEPT_LINES = 200
MAX_LINE = 4096
PROBE_SECONDS = 0.02
"""First pause between two looks at a starting engine; it grows to ``SLOWEST_PROBE``."""
SLOWEST_PROBE = 0.25
LOG_SECONDS = 1.0
NOTICE_SECONDS = 1.0


class State(enum.Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    FAILED = "failed"


@dataclass(frozen=True)
class Plan:
    """How to start, prove and explain one engine; all that a process knows of its model."""

    name: str
    launch: Callable[[str], Awaitable[Launch]]
    """From the socket's path to the command. Raises ``InglenookError`` when the model is not here."""
    prove: Callable[[Channel], Awaitable[bool]]
    """True once a first token came out, False while it may still. Raises ``EngineError``: never will."""
    explain: Callable[[Sequence[str], int | None], str]
    scrub: Callable[[str], str]
    """Takes paths out of a log line."""
    directory: str
    start_seconds: float
    stop_seconds: float


class Process:
    """Bring one engine to the state its callers ask for, and keep it there.

    ``ready`` and ``unload`` post a wish; ``run`` alone acts. Nobody decides on ``state``: by the time they
    acted it could be false. A crash of a ready engine is noticed at once and it is started again with
    back-off; after repeated failures it is given up, until a request asks again after a while.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.state = State.STOPPED
        self.starts = 0
        """Processes begun since the server's start."""
        self.failures = 0
        """Those of them that did not come up, or ended by themselves."""
        self.load_seconds = 0.0
        """How long the last one took to its first token; 0: none got there."""
        self.log: deque[str] = deque(maxlen=KEPT_LINES)
        """The engine's last lines. Once it serves they may quote prompts, so only a start's are shown."""
        self._start_log: tuple[str, ...] = ()
        self._why = ""
        """Why the last start failed, in words for a client."""
        self.channel: Channel | None = None
        """Set while the engine is ready. Written by ``run`` only, like ``pid``."""
        self.pid: int | None = None
        self._began = 0.0
        self._child: asyncio.subprocess.Process | None = None
        self._wanted = False
        self._closing = False
        self._wish = asyncio.Event()
        self._ended = asyncio.Event()
        self._waiters: set[asyncio.Future[Channel]] = set()
        self._at_rest = True
        """No child, and none about to be. Written by ``run`` only."""
        self._unloads: set[asyncio.Future[bool]] = set()
        self._restarts = Restarts()

    # What others may ask.

    def ready(self) -> asyncio.Future[Channel]:
        """Ask for a ready engine. The future gives its channel, or an ``Unavailable`` error.

        Cancelling the future withdraws the wish to wait, not the load: others may wait for it too.
        """
        future: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
        if self._closing:
            future.set_exception(ShuttingDown("The server is shutting down."))
        elif self.channel is not None:
            future.set_result(self.channel)
        elif (closed := self._restarts.closed_for(_now())) > 0:
            future.set_exception(self._given_up(closed))
        else:
            self._waiters.add(future)
            future.add_done_callback(self._waiters.discard)
            self._want(True)
        return future

    def closed_for(self) -> float:
        """Seconds in which it is not started, because it failed too often; 0: it may be asked."""
        return self._restarts.closed_for(_now())

    async def after_loss(self, channel: Channel) -> None:
        """Wait until the end of the process behind a broken ``channel`` is known, not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NOTICE_SECONDS):
                while self.channel is channel:
                    await self._ended.wait()

    def unload(self) -> asyncio.Future[bool]:
        """End the engine, and let it be until somebody asks again. A wish that comes first stands.

        The future tells whether it has ended: ``False`` when somebody wanted it before that, and has it.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._waiters:
            future.set_result(False)
            return future
        self._unloads.add(future)
        future.add_done_callback(self._unloads.discard)
        self._want(False)
        if self._at_rest:
            future.set_result(True)
        return future

    def _want(self, wanted: bool) -> None:
        if wanted:
            self._unloaded(False)
        self._wanted = wanted
        self._wish.set()

    # The one owner of the state.

    async def run(self) -> None:
        """Grant wishes until cancelled; then end the engine and whatever it began."""
        try:
            while True:
                await self._until_wanted(True)
                self._at_rest = False
                await self._serve()
                self._at_rest = True
                if self.state is not State.FAILED:
                    self.state = State.STOPPED
                self._unloaded(True)
        finally:
            self._closing = True
            self._tell(ShuttingDown("The server is shutting down."))
            await self._end()
            self._unloaded(True)

    async def _until_wanted(self, wanted: bool) -> None:
        while self._wanted is not wanted:
            self._wish.clear()
            await self._wish.wait()

    async def _serve(self) -> None:
        """Start, watch and restart, until nobody wants the engine or it is given up."""
        served = False
        while self._wanted:
            self.log.clear()
            self._began = began = _now()
            outcome = await self._live()
            if outcome is None:
                return
            served = served or self._restarts.is_ready
            self._report(outcome, _now() - began)
            delay = self._restarts.failed(_now())
            if delay is None:
                self._give_up()
            elif served:
                self.state = State.RESTARTING
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._until_wanted(False)
            else:
                # The first start failed: those who wait are told now, the next request tries anew.
                self._wanted = False
                self._tell(outcome)

    async def _live(self) -> InglenookError | None:
        """One process from its start to its end: ``None`` when it was no longer wanted."""
        plan = self._plan
        self.state = State.STARTING
        self.starts += 1
        socket = os.path.join(plan.directory, f"{self.starts}.sock")
        try:
            child = await self._spawn(await plan.launch(socket))
        except InglenookError as problem:
            return problem
        channel = Channel(Address(host="localhost", socket=socket))
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._read_log(child))
            exited = tasks.create_task(child.wait())
            try:
                proved = await self._first(tasks, exited, self._until_proved(channel))
                if proved:
                    self._settle(channel)
                    await self._first(tasks, exited, self._until_wanted(False))
                ended_itself = exited.done()
            finally:
                self.channel = None
                self._ended.set()
                channel.close()
                await self._end()
                await self._finish_log(reader)
        if proved:
            how = _how(child.returncode)
            return EngineLost(f"The engine ended by itself ({how}).") if ended_itself else None
        code = child.returncode if ended_itself else None
        self._start_log = tuple(self.log)
        return EngineStartFailed(plan.explain(self._start_log, code), log=self._start_log)

    async def _first(
        self, tasks: asyncio.TaskGroup, exited: asyncio.Task[int], hope: Coroutine[None, None, T]
    ) -> T | None:
        """Wait for ``hope`` or the child's end, whichever is first: its answer, or ``None``."""
        hoping = tasks.create_task(hope)
        await asyncio.wait((hoping, exited), return_when=asyncio.FIRST_COMPLETED)
        if hoping.done():
            return hoping.result()
        hoping.cancel()
        return None

    async def _spawn(self, launch: Launch) -> asyncio.subprocess.Process:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(launch.unset)}
        ours = {
            "INGLENOOK_PARENT_PID": str(os.getpid()),
            # Else `-m` would import from the working directory before anything else.
            "PYTHONSAFEPATH": "1",
        }
        environment = inherited | dict(launch.env) | ours
        try:
            # A session of its own, so that a signal to the group reaches grandchildren too.
            self._child = await asyncio.create_subprocess_exec(
                *launch.argv,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                limit=MAX_LINE,
            )
        except OSError as problem:
            raise EngineStartFailed(
                "The engine's program cannot be run. Look at `engine_binary` in the settings."
            ) from problem
        self.pid = self._child.pid
        return self._child

    async def _until_proved(self, channel: Channel) -> bool:
        """True once a first token came out; False when that cannot be, or takes too long."""
        pause = PROBE_SECONDS
        with contextlib.suppress(TimeoutError, EngineError):
            async with asyncio.timeout(self._plan.start_seconds):
                while not await self._plan.prove(channel):
                    await asyncio.sleep(pause)
                    pause = min(SLOWEST_PROBE, pause * 1.3)
                return True
        return False

    async def _read_log(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdout is not None
        while True:
            try:
                line = await child.stdout.readline()
            except ValueError:  # longer than MAX_LINE: what was read of it is gone
                continue
            if not line:
                return
            self.log.append(self._plan.scrub(line.decode(errors="replace").rstrip()))

    async def _finish_log(self, reader: asyncio.Task[None]) -> None:
        # The child is gone, so its pipe is at its end, unless a stranger holds it open.
        await asyncio.wait((reader,), timeout=LOG_SECONDS)
        reader.cancel()

    async def _end(self) -> None:
        """SIGTERM, deadline, SIGKILL, to the whole group. Leaves nothing behind."""
        child, self._child, self.pid = self._child, None, None
        if child is not None:
            if child.returncode is None:
                self.state = State.STOPPING
                _signal_group(child.pid, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._plan.stop_seconds):
                        await child.wait()
            # Also after a clean end: a grandchild may have stayed in the group.
            _signal_group(child.pid, signal.SIGKILL)
            await child.wait()
        self.state = State.STOPPED

    # Telling those who wait, and the log.

    def _settle(self, channel: Channel) -> None:
        self.channel = channel
        self._ended.clear()
        self.state = State.READY
        self.load_seconds = _now() - self._began
        self._restarts.ready(_now())
        log.info("%s is ready", self._plan.name)
        for waiter in list(self._waiters):
            if not waiter.done():
                waiter.set_result(channel)

    def _tell(self, error: InglenookError) -> None:
        for waiter in list(self._waiters):
            if not waiter.done():
                waiter.set_exception(error)

    def _unloaded(self, ended: bool) -> None:
        for unload in list(self._unloads):
            if not unload.done():
                unload.set_result(ended)

    def _report(self, outcome: InglenookError, lived: float) -> None:
        self.failures += 1
        self._why = str(outcome) if isinstance(outcome, EngineStartFailed) else ""
        why = outcome.__cause__
        cause = f" ({self._plan.scrub(str(why))})" if why is not None else ""
        log.error("%s failed after %.1f s: %s%s", self._plan.name, lived, outcome, cause)
        if isinstance(outcome, EngineStartFailed) and outcome.log:
            log.error("its last lines:\n  %s", "\n  ".join(outcome.log))

    def _give_up(self) -> None:
        closed = self._restarts.closed_for(_now())
        self._wanted = False
        self.state = State.FAILED
        log.error("%s failed too often and is given up for %.0f s", self._plan.name, closed)
        self._tell(self._given_up(closed))

    def _given_up(self, closed: float) -> EngineStartFailed:
        why = f" The last time: {self._why}" if self._why else ""
        return EngineStartFailed(
            f"This model's engine failed too often and was given up for now.{why}",
            log=self._start_log,
            retry_after=round(closed + 0.5),
        )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _signal_group(pid: int, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, which)


def _how(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
