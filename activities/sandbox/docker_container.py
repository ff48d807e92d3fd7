"""One container, from its making to its removal."""

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import docker
import docker.errors

from activities.sandbox.base import SandboxJob, SandboxOutcome
from activities.sandbox.docker_engine import Engine
from activities.sandbox.docker_stream import Attached
from activities.sandbox.program import transfer
from conductor_ai.errors import ToolUnavailable

KILL_SECONDS = 2
"""How long output may still arrive after a kill."""

REMOVE_SECONDS = 5
"""How long a removal that somebody else began may take."""

KILLED = 137
"""Exit code of a container that SIGKILL ended; also of a program that says so."""


class Removal(StrEnum):
    """Who removed a container."""

    BY_US = "by_us"
    BY_OTHERS = "by_others"
    """It was gone already, or somebody else was removing it."""
    NEVER_MADE = "never_made"


class Container:
    """One container, from its making to its removal. It has one job at most."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._id = name
        """What the engine calls it; until it has told, the name does as well."""
        self._making: asyncio.Future[None] | None = None
        self._attached: Attached | None = None
        self.names = [name]
        """What it was called and is called now, the last: the engine may know it by any of them."""

    @property
    def alive(self) -> bool:
        """True while it waits for its code or runs it, as far as its stream tells."""
        return self._attached is not None and not self._attached.over

    def when_over(self, told: Callable[[], None]) -> None:
        """Call `told` once it is no longer alive."""
        assert self._attached is not None
        self._attached.when_over(told)

    async def start(self, arguments: Callable[[docker.APIClient], dict[str, Any]]) -> None:
        """Make it, attach to its streams and start it: it then waits for its code.

        What is half made cannot be removed: if the caller is cancelled meanwhile, the making goes on, and `remove`
        waits for it.
        """
        self._making = asyncio.ensure_future(self._make(arguments))
        await asyncio.shield(self._making)
        await self._engine.call(lambda client: client.start(self._id))

    async def take_name(self, name: str) -> None:
        """Change its name, by which others know what it does."""
        self.names.append(name)
        await self._engine.call(lambda client: client.rename(self._id, name))

    async def run(self, job: SandboxJob) -> SandboxOutcome:
        """Hand over the code, and tell what became of it."""
        assert self._attached is not None
        started = time.monotonic()
        sending = asyncio.ensure_future(self._attached.send(transfer(job)))
        try:
            killed = not await self._attached.ends_within(job.timeout_seconds)
        finally:
            sending.cancel()
            await asyncio.wait([sending])
        duration = time.monotonic() - started
        if killed:
            await self._kill()
        state = await self._state()
        stdout, stdout_truncated = self._attached.output.stdout.text()
        stderr, stderr_truncated = self._attached.output.stderr.text()
        code = int(state["ExitCode"])
        oom_killed = bool(state["OOMKilled"])
        # Its own clock came first: this worker must have been held up.
        stopped = code == KILLED and not oom_killed and duration >= job.timeout_seconds
        return SandboxOutcome(
            stdout=stdout,
            stderr=stderr,
            stdout_truncated=stdout_truncated,
            stderr_truncated=stderr_truncated,
            exit_code=None if killed or stopped else code,
            timed_out=killed or stopped,
            oom_killed=oom_killed,
            duration_ms=round(duration * 1000),
        )

    async def remove(self) -> Removal:
        """Remove it, running or not.

        Raises:
            ToolUnavailable: the engine did not manage; the reaper will.
        """
        if self._making is None:
            return Removal.NEVER_MADE
        await asyncio.wait([self._making])
        if self._attached is not None:
            await self._attached.close()
        return await remove(self._engine, self._id)

    async def _make(self, arguments: Callable[[docker.APIClient], dict[str, Any]]) -> None:
        made = await self._engine.call(lambda client: client.create_container(name=self.names[0], **arguments(client)))
        self._id = made["Id"]
        self._attached = Attached(await self._engine.attach(self._id))

    async def _kill(self) -> None:
        assert self._attached is not None
        self._attached.hurry()
        try:
            await self._engine.call(lambda client: client.kill(self._id))
        except docker.errors.APIError as error:
            if error.status_code != 409:  # 409: it ended by itself in this moment
                raise
        if not await self._attached.ends_within(KILL_SECONDS):
            await self._attached.close()

    async def _state(self) -> dict[str, Any]:
        """Docker's state of the container once it is over."""

        def ask(client: Any) -> dict[str, Any]:
            client.wait(self._id)
            state: dict[str, Any] = client.inspect_container(self._id)["State"]
            return state

        return await self._engine.call(ask)


async def remove(engine: Engine, name: str) -> Removal:
    """Remove a container by force and return when it is gone.

    Raises:
        ToolUnavailable: the engine did not manage; the reaper will.
    """
    deadline = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            await engine.call(lambda client: client.remove_container(name, force=True, v=True))
        except docker.errors.NotFound:
            return Removal.BY_OTHERS
        except docker.errors.APIError as error:
            # 409: somebody else is removing it at this moment.
            if error.status_code != 409 or time.monotonic() > deadline:
                raise ToolUnavailable(refused("to remove a container", error)) from error
            await asyncio.sleep(0.05)
        else:
            return Removal.BY_US


def refused(what: str, error: docker.errors.APIError) -> str:
    """The sentence for a call that the engine answered with an error. Its text is not repeated: it is from outside."""
    return f"The Docker engine refused {what} (status {error.status_code}). Its own log says why."
