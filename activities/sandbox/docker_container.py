"""One container, from its making to its removal."""

import asyncio
import time
from enum import StrEnum
from typing import Any

import docker.errors

from activities.sandbox.base import SandboxJob, SandboxOutcome
from activities.sandbox.docker_config import create_arguments
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
    """One container, from its making to its removal."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._made = False
        self._attached: Attached | None = None

    async def create(self, job: SandboxJob, image: str, runtime: str | None, its_labels: dict[str, str]) -> None:
        """Make it and attach to its streams; it does not run yet."""
        self._made = True  # also if the engine answers too late: it may exist
        await self._engine.call(
            lambda client: client.create_container(
                name=self._name, **create_arguments(client, job, image, runtime, its_labels)
            )
        )
        self._attached = Attached(await self._engine.attach(self._name))

    async def run(self, job: SandboxJob) -> SandboxOutcome:
        """Start it, hand over the code, and tell what became of it."""
        assert self._attached is not None
        await self._engine.call(lambda client: client.start(self._name))
        started = time.monotonic()
        sending = asyncio.ensure_future(self._attached.send(transfer(job.source)))
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
        """Remove it, running or not."""
        if self._attached is not None:
            await self._attached.close()
        return await remove(self._engine, self._name) if self._made else Removal.NEVER_MADE

    async def _kill(self) -> None:
        assert self._attached is not None
        self._attached.hurry()
        try:
            await self._engine.call(lambda client: client.kill(self._name))
        except docker.errors.APIError as error:
            if error.status_code != 409:  # 409: it ended by itself in this moment
                raise
        if not await self._attached.ends_within(KILL_SECONDS):
            await self._attached.close()

    async def _state(self) -> dict[str, Any]:
        """Docker's state of the container once it is over."""

        def ask(client: Any) -> dict[str, Any]:
            client.wait(self._name)
            state: dict[str, Any] = client.inspect_container(self._name)["State"]
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
