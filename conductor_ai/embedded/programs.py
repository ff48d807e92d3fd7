"""Worker and API as children, started by the caller's commands."""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from conductor_ai.embedded.children import Child, Guard, spawn


class Part(Protocol):
    """One child of the stack. Starting it again keeps its address."""

    name: str
    child: Child | None

    async def start(self) -> None:
        """Starts it and returns when it is ready."""
        ...

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """Ends it, at once when `hurry` is set."""
        ...


class Program:
    """A command that needs no address of its own to be started."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        log: Path,
        guard: Guard,
        grace: float,
    ) -> None:
        self.name = name
        self.child: Child | None = None
        self._command = tuple(command)
        self._environ = environ
        self._log = log
        self._guard = guard
        self._grace = grace

    async def start(self) -> None:
        """Starts the command; whether it is ready is for the caller to see."""
        self.child = await spawn(self._command, name=self.name, environ=self._environ, log=self._log, guard=self._guard)

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """Asks it to end by SIGTERM and gives it its grace."""
        if self.child is not None:
            await self.child.stop(signal.SIGTERM, grace=self._grace, hurry=hurry)
            self._guard.forget(self.child.pid)
            self.child = None
