"""Postgres from a wheel, as a child: 0.3 s for the first start, some 50 ms for later ones."""

import asyncio
import fcntl
import os
import secrets
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from conductor_ai.embedded.children import Child, Guard, log_tail, spawn, unprivileged
from conductor_ai.embedded.cluster import (
    ENVIRONMENT,
    Passwords,
    end_leftover,
    ensure_cluster,
    program_source,
    write_access_rules,
)
from conductor_ai.embedded.places import SYSTEM_DIR, home_for, noted, private_dir, program_for
from conductor_ai.embedded.ports import LOOPBACK, free_port, listens_in_session
from conductor_ai.errors import ConfigurationError

STORE = "conductor"
"""Login and database of Conductor's own store."""
SOCKET_PATH_BYTES = 100
"""The kernel takes 107 bytes for the path of a unix socket."""
SHORT_DIR = Path("/tmp")  # noqa: S108 - mkdtemp makes directories of 0700 with random names in it
SOCKET_PREFIX = "conductor-"
START_SECONDS = 60.0
"""Enough for crash recovery on a slow disk."""


class Durability(StrEnum):
    """What a crash of the machine may cost."""

    FULL = "full"
    """Nothing that was committed."""
    THROWAWAY = "throwaway"
    """Everything: for tests. Also removes what had to be kept outside of the data directory."""


class EmbeddedPostgres:
    """One server on a data directory of its own.

    TCP on a loopback port wants a password that lies in a 0600 file; the unix socket is in a 0700 directory. As root
    the server runs as `nobody`, because Postgres refuses root.
    """

    name = "postgres"

    def __init__(
        self,
        data_dir: Path,
        *,
        log: Path | None = None,
        durability: Durability = Durability.FULL,
        guard: Guard | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = 0
        """Loopback port; stays the same when the same object starts again."""
        self.socket_dir: Path | None = None
        self.child: Child | None = None
        self._log = log or self.data_dir / "postgres.log"
        self._durability = durability
        self._guard = guard
        self._account = unprivileged()
        self._passwords: Passwords | None = None
        self._lock: int | None = None
        self._home: Path | None = None

    @property
    def url(self) -> str:
        """Connection string of the store: database and superuser `conductor`."""
        return self.url_for(STORE)

    def url_for(self, database: str, user: str = STORE) -> str:
        """Connection string over TCP, password included. `user` is `conductor` or `shop_login`."""
        if self._passwords is None:
            raise ConfigurationError("The embedded Postgres has not been started.")
        password = self._passwords.conductor if user == STORE else self._passwords.shop_login
        return f"postgresql://{user}:{password}@{LOOPBACK}:{self.port}/{database}?sslmode=disable"

    @property
    def passwords(self) -> Passwords:
        """The passwords of both logins."""
        if self._passwords is None:
            raise ConfigurationError("The embedded Postgres has not been started.")
        return self._passwords

    async def start(self) -> None:
        """Starts the server and returns once it answers.

        Raises:
            ConfigurationError: it does not start, or another process uses this data directory.
        """
        self._take_lock()
        system_dir = SYSTEM_DIR
        if self._durability is Durability.THROWAWAY:
            system_dir = Path(tempfile.gettempdir())
        home = self._home = home_for(self.data_dir, self._account, system_dir=system_dir)
        program = program_for(*program_source(), self._account)
        cluster = await ensure_cluster(home, program, self._account, self._log, guard=self._guard)
        await end_leftover(cluster)
        access = write_access_rules(home, self._account)
        self._make_socket_dir(home)
        for attempt in range(1, 6):
            self.port = self.port or free_port()
            self.child = await spawn(
                self._command(program, cluster, access), name=self.name, environ=ENVIRONMENT, log=self._log,
                guard=self._guard, death=signal.SIGQUIT, account=self._account, cwd=Path("/"),
            )  # fmt: skip
            if await self._ready(cluster):
                break
            await asyncio.sleep(0.1 * attempt)  # What a killed server leaves in shared memory may take a moment to go.
            if attempt > 2:
                self.port = 0  # Or another process has taken the port.
        else:
            raise ConfigurationError(f"Postgres does not start. {self._log} says:\n{log_tail(self._log)}")
        await self._ensure_logins(home / "passwords.json")

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """Ends the server (clients are disconnected), and gives the data directory free."""
        if self.child is not None:
            await self.child.stop(signal.SIGINT, grace=20, hurry=hurry)
            if self._guard is not None:
                self._guard.forget(self.child.pid)
            self.child = None
        if self.socket_dir is not None and self._home is not None and self.socket_dir.parent != self._home:
            shutil.rmtree(self.socket_dir, ignore_errors=True)
        if self._durability is Durability.THROWAWAY and self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            (self.data_dir / "home-elsewhere").unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def connect(self, database: str = STORE) -> "asyncpg.Connection[asyncpg.Record]":
        """A superuser's connection over the unix socket, for setting things up."""
        return await asyncpg.connect(
            host=str(self.socket_dir), port=self.port, user=STORE, database=database, ssl=False, timeout=10
        )

    async def create_database(self, name: str | None = None) -> str:
        """Makes an empty database, owned by `conductor`, and returns its URL. Without a name it gets a random one."""
        database = name or f"scratch_{secrets.token_hex(6)}"
        connection = await self.connect("postgres")
        try:
            await connection.execute(f'CREATE DATABASE "{database}" TEMPLATE template0')
            await connection.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
        finally:
            await connection.close()
        return self.url_for(database)

    async def drop_database(self, name: str) -> None:
        """Removes a database and disconnects whoever uses it."""
        connection = await self.connect("postgres")
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        finally:
            await connection.close()

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        private_dir(self.data_dir)
        lock = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigurationError(
                f"Another process runs a Postgres on {self.data_dir}. Stop it, or use another directory."
            ) from None
        self._lock = lock

    def _make_socket_dir(self, home: Path) -> None:
        if self.socket_dir is not None:
            return
        note = self.data_dir / "socket-elsewhere"
        if note.exists():  # Left by a start that was killed.
            shutil.rmtree(noted(note, SHORT_DIR, SOCKET_PREFIX), ignore_errors=True)
            note.unlink()
        self.socket_dir = home / "run"
        if len(os.fsencode(self.socket_dir / ".s.PGSQL.65535")) > SOCKET_PATH_BYTES:
            self.socket_dir = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir=SHORT_DIR))
            note.write_text(str(self.socket_dir), encoding="utf-8")
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            os.chown(self.socket_dir, self._account.uid, self._account.gid)

    def _command(self, program: Path, cluster: Path, access: Path) -> tuple[str, ...]:
        settings = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
            "hba_file": str(access),
            "max_connections": "200",
            "shared_buffers": "32MB",
            "max_wal_size": "256MB",
            "io_method": "sync",  # Saves three processes; reads come from the page cache here.
            "jit": "off",
            "log_line_prefix": "%m [%p] %u@%d ",
            # A random password of 192 bits gains nothing from stretching, and each connection would pay for it.
            "scram_iterations": "1",
        }
        if self._durability is Durability.THROWAWAY:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return (str(program / "bin" / "postgres"), "-D", str(cluster), "-p", str(self.port), *options)

    async def _ready(self, cluster: Path) -> bool:
        """Waits until the child itself says that it is ready; False when it has ended instead."""
        assert self.child is not None
        until = time.monotonic() + START_SECONDS
        while self.child.alive and time.monotonic() < until:
            with suppress(OSError):
                lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
                says_ready = len(lines) >= 8 and lines[7].strip() == "ready" and lines[0] == str(self.child.pid)
                if says_ready and listens_in_session(self.port, self.child.pid):
                    return True
            await asyncio.sleep(0.005)
        if self.child.alive:
            await self.child.stop(signal.SIGQUIT, grace=2)
        return False

    async def _ensure_logins(self, file: Path) -> None:
        known = Passwords.read(file)
        if known is not None:
            self._passwords = known
            return
        fresh = Passwords.random()
        connection = await self.connect("postgres")
        try:
            await connection.execute(f"ALTER ROLE conductor PASSWORD '{fresh.conductor}'")
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'shop_login'"):
                await connection.execute("CREATE ROLE shop_login LOGIN CONNECTION LIMIT 50")
            await connection.execute(f"ALTER ROLE shop_login PASSWORD '{fresh.shop_login}'")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", STORE):
                await connection.execute(f"CREATE DATABASE {STORE}")
                await connection.execute(f"REVOKE ALL ON DATABASE {STORE} FROM PUBLIC")
        finally:
            await connection.close()
        self._passwords = fresh
        fresh.write(file)  # Last: its being there says that all of the above is done.
