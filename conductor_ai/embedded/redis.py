"""Redis as a child: a real server when there is one on PATH, fakeredis otherwise. Nothing is kept on disk."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from conductor_ai.embedded.children import Account, Child, Guard, log_tail, python_environment, spawn, unprivileged
from conductor_ai.embedded.places import reachable
from conductor_ai.embedded.ports import LOOPBACK, free_port, listener, listens_in_session
from conductor_ai.errors import ConfigurationError

SERVERS = ("redis-server", "valkey-server")
START_SECONDS = 15.0


class Kind(StrEnum):
    """What stands behind the address."""

    SERVER = "server"
    """redis-server or valkey-server."""
    FAKE = "fake"
    """fakeredis: slower, and alone in its process, but everything that Conductor uses works."""


def find_server(environ: Mapping[str, str]) -> Path | None:
    """A Redis server on the caller's PATH."""
    for name in SERVERS:
        found = shutil.which(name, path=environ.get("PATH", os.defpath))
        if found is not None:
            return Path(found).absolute()  # Not resolved: one binary serves many names and looks at its own.
    return None


class EmbeddedRedis:
    """One server on a loopback port, behind a random password."""

    name = "redis"

    def __init__(self, *, server: Path | None, log: Path, guard: Guard | None = None) -> None:
        self.port = 0
        self.child: Child | None = None
        self.kind = Kind.SERVER if server is not None else Kind.FAKE
        self._server = server
        self._log = log
        self._guard = guard
        self._password = secrets.token_hex(24)
        self._socket: socket.socket | None = None

    @property
    def url(self) -> str:
        """Connection string, password included."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    async def start(self) -> None:
        """Starts the server and returns once it answers to the password; the same object keeps its port.

        Raises:
            ConfigurationError: it does not start.
        """
        for attempt in range(1, 6):
            self.child = await (self._spawn_server(self._server) if self._server else self._spawn_fake())
            if await self._ready(self.child):
                return
            await asyncio.sleep(0.1 * attempt)
            if self._server and attempt > 2:
                self.port = 0
        raise ConfigurationError(f"Redis does not start. {self._log} says:\n{log_tail(self._log)}")

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """Ends the server."""
        if self.child is not None:
            await self.child.stop(signal.SIGTERM, grace=3, hurry=hurry)
            if self._guard is not None:
                self._guard.forget(self.child.pid)
            self.child = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _spawn_server(self, server: Path) -> Child:
        self.port = self.port or free_port()
        # On standard input, because arguments can be read by everybody. Losing Redis costs latency, never an answer:
        # so nothing goes to disk, and when memory is full the coldest keys go.
        config = (
            f"port {self.port}\nbind {LOOPBACK}\nprotected-mode yes\nrequirepass {self._password}\n"
            'save ""\nappendonly no\nmaxmemory 256mb\nmaxmemory-policy allkeys-lru\ndaemonize no\nloglevel notice\n'
        )
        account: Account | None = unprivileged()
        if account is not None and not reachable(server, account):
            account = None
        return await spawn(
            (str(server), "-"), name=self.name, environ={"PATH": "/usr/bin:/bin"}, log=self._log, guard=self._guard,
            account=account, stdin=config.encode(), cwd=Path("/"),
        )  # fmt: skip

    async def _spawn_fake(self) -> Child:
        if find_spec("fakeredis") is None:
            raise ConfigurationError(
                "There is no Redis here: neither a program redis-server nor the package fakeredis. Install one of them "
                "(the extra `local` brings the package), or set REDIS_URL to a server of your own."
            )
        if self._socket is None:
            self._socket = listener()
            self.port = self._socket.getsockname()[1]
        descriptor = self._socket.fileno()
        return await spawn(
            (sys.executable, "-m", "conductor_ai.embedded.fake_redis", str(descriptor)), name=self.name,
            environ=python_environment(), log=self._log, guard=self._guard, stdin=self._password.encode(),
            pass_fds=(descriptor,), cwd=Path("/"),
        )  # fmt: skip

    async def _ready(self, child: Child) -> bool:
        until = time.monotonic() + START_SECONDS
        while child.alive and time.monotonic() < until:
            if listens_in_session(self.port, child.pid) and await self._answers():
                return True
            await asyncio.sleep(0.01)
        await child.stop(signal.SIGKILL, grace=1)
        return False

    async def _answers(self) -> bool:
        """Whether AUTH and PING succeed: written by hand, so that the supervisor need not import the client."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
                try:
                    password = self._password
                    writer.write(f"*2\r\n$4\r\nAUTH\r\n${len(password)}\r\n{password}\r\n*1\r\n$4\r\nPING\r\n".encode())
                    return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
                finally:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()
        return False
