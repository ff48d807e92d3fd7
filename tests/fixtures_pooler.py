"""PgBouncer in transaction mode before the tests' Postgres: each transaction may get another backend."""

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from conductor_ai.embedded.children import spawn, unprivileged
from conductor_ai.embedded.ports import LOOPBACK, free_port
from conductor_ai.embedded.postgres import EmbeddedPostgres
from tests.fixtures_servers import wait_until

CONFIG = """
[databases]
* = host={socket_dir} port={port} auth_user=conductor
[pgbouncer]
listen_addr = {address}
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
server_round_robin = 1
max_client_conn = 200
default_pool_size = 20
autodb_idle_timeout = 5
server_idle_timeout = 10
log_connections = 0
log_disconnections = 0
"""


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer that trusts everybody on its loopback port."""

    port: int
    pid: int

    def url(self, user: str, database: str) -> str:
        """Connection string of a user and database of the server behind it."""
        return f"postgresql://{user}@{LOOPBACK}:{self.port}/{database}?sslmode=disable"


def program() -> str | None:
    """Where PgBouncer is installed; Debian puts it where only root's PATH looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@asynccontextmanager
async def pgbouncer_before(server: EmbeddedPostgres) -> AsyncIterator[Pooler]:
    """Start a PgBouncer as the account that Postgres runs under; it is ended by its pid."""
    binary = program()
    if binary is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    account, listen = unprivileged(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="pooler", dir="/tmp"))
    try:
        (folder / "users").write_text('"conductor" ""\n')
        (folder / "ini").write_text(
            CONFIG.format(
                socket_dir=server.socket_dir, port=server.port, address=LOOPBACK, listen=listen, users=folder / "users"
            )
        )
        if account is not None:
            for path in (folder, folder / "users", folder / "ini"):
                os.chown(path, account.uid, account.gid)
        log = folder / "log"
        child = await spawn(
            (binary, str(folder / "ini")), name="pgbouncer", environ={}, log=log, account=account, cwd=Path("/")
        )
        pooler = Pooler(listen, child.pid)

        async def answers() -> bool:
            assert child.alive, log.read_text()
            try:
                connection = await asyncpg.connect(pooler.url("conductor", "postgres"), statement_cache_size=0)
            except OSError:
                return False
            await connection.close()
            return True

        try:
            await wait_until(answers, "PgBouncer answers")
            yield pooler
        finally:
            await child.stop(signal.SIGINT, grace=5)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def sql_pooler(postgres_server: EmbeddedPostgres) -> AsyncIterator[Pooler]:
    """One PgBouncer for all tests of this process."""
    async with pgbouncer_before(postgres_server) as pooler:
        yield pooler
