"""Runs one program as a child: source in, both streams out within limits, killed on time-out and on cancel."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from activities.sandbox.base import SandboxOutcome
from activities.sandbox.output import Captured
from activities.sandbox.tasks import finish
from conductor_ai.errors import ToolUnavailable

PAUSE_SECONDS = 0.01
"""Rest after each chunk that is thrown away: a flood then costs little, and the program waits for its pipe."""

END_SECONDS = 0.5
"""Limit for the pipes to close after SIGKILL; what still holds them then is out of reach and not waited for."""

STDIN, STDOUT, STDERR = range(3)


@dataclass(frozen=True)
class Spawn:
    """What to start and as whom."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: str = "/"
    uid: int | None = None
    """User and group to start as; None: the worker's own."""
    pass_fds: Sequence[int] = ()


Kill = Callable[[int], None]
"""Ends everything that the child with this pid started."""


async def run_process(spawn: Spawn, stdin: bytes, timeout_seconds: float, kill: Kill) -> SandboxOutcome:
    """Run to the end.

    Raises:
        ToolUnavailable: the program could not be started.
        asyncio.CancelledError: after the program was killed and waited for.
    """
    child = _Child(spawn, kill)
    started = time.monotonic()
    try:
        await child.start(stdin)
        timed_out = not await child.exits_within(timeout_seconds)
        duration = time.monotonic() - started
    finally:
        await finish(child.end())
    return child.outcome(timed_out, duration)


class _Child(asyncio.SubprocessProtocol):
    """One child. Not asyncio's own `Process`: its `wait` does not return while a grandchild holds a pipe."""

    def __init__(self, spawn: Spawn, kill: Kill) -> None:
        self._spawn = spawn
        self._kill = kill
        self._captured = {STDOUT: Captured(), STDERR: Captured()}
        self._exited = asyncio.Event()
        self._closed = asyncio.Event()
        self._ending = False
        self._starting: asyncio.Future[Any] | None = None
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        captured = self._captured[fd]
        captured.feed(data)
        if captured.full and not self._ending:
            pipe = self._pipe(fd)
            pipe.pause_reading()
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, _resume, pipe)

    def process_exited(self) -> None:
        self._exited.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._closed.set()

    async def start(self, stdin: bytes) -> None:
        """Start the child and hand it its input."""
        options: dict[str, Any] = {}
        if self._spawn.uid is not None:
            options = {"user": self._spawn.uid, "group": self._spawn.uid, "extra_groups": []}
        self._starting = asyncio.ensure_future(
            asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                *self._spawn.argv,
                env=dict(self._spawn.environment),
                cwd=self._spawn.directory,
                start_new_session=True,
                pass_fds=tuple(self._spawn.pass_fds),
                **options,
            )
        )
        try:
            await asyncio.shield(self._starting)
        except (OSError, ValueError) as error:
            raise ToolUnavailable(
                f"The sandbox program {self._spawn.argv[0]} could not be started ({type(error).__name__}). Check that "
                "it is installed and that the worker may run it."
            ) from error
        assert self._transport is not None
        pipe = self._transport.get_pipe_transport(STDIN)
        assert isinstance(pipe, asyncio.WriteTransport)
        pipe.write(stdin)
        pipe.close()  # after everything is written

    async def exits_within(self, seconds: float) -> bool:
        """True if the child ended by itself in this time."""
        try:
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        except TimeoutError:
            return False
        return True

    async def end(self) -> None:
        """Kill whatever is left, read what it had written, and close the pipes."""
        if self._starting is None:
            return
        # It may exist although the start was cancelled.
        await asyncio.wait([self._starting])
        if self._starting.exception() is not None:
            return
        assert self._transport is not None
        self._ending = True
        self._kill(self._transport.get_pid())
        await self._exited.wait()
        for fd in self._captured:
            _resume(self._pipe(fd))
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._closed.wait()
        self._transport.close()
        await self._closed.wait()

    def outcome(self, timed_out: bool, duration: float) -> SandboxOutcome:
        """What became of it."""
        assert self._transport is not None
        code = self._transport.get_returncode()
        assert code is not None
        stdout, stdout_truncated = self._captured[STDOUT].text()
        stderr, stderr_truncated = self._captured[STDERR].text()
        return SandboxOutcome(
            stdout=stdout,
            stderr=stderr,
            stdout_truncated=stdout_truncated,
            stderr_truncated=stderr_truncated,
            exit_code=None if timed_out else code if code >= 0 else 128 - code,
            timed_out=timed_out,
            oom_killed=False,
            duration_ms=round(duration * 1000),
        )

    def _pipe(self, fd: int) -> asyncio.ReadTransport:
        assert self._transport is not None
        return cast("asyncio.ReadTransport", self._transport.get_pipe_transport(fd))


def _resume(pipe: asyncio.ReadTransport) -> None:
    if not pipe.is_closing():
        pipe.resume_reading()


def kill_group(pid: int) -> None:
    """SIGKILL to the child's process group: itself and what it started that has not left the group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing is left of it
