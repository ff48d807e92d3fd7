"""The connection to Conductor's own Postgres."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import asyncpg

from conductor_ai.errors import Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
    Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
else:
    Connection = Any
    Pool = Any

POOLER_PORT = 6543
"""Supabase's transaction pooler: prepared statements do not survive a transaction there."""

CONNECT_SECONDS = 3
STATEMENT_SECONDS = 4
"""A read or write of ours that takes longer means that Postgres is as good as away: nobody waits over 5 s."""

_AWAY = (
    OSError,
    TimeoutError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # it shuts down, starts, or has cancelled the statement
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,  # what poolers answer when they are full
    asyncpg.ReadOnlySQLTransactionError,  # in the middle of a failover, or out of disk
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,  # a migration ran meanwhile: the next attempt prepares the statement anew
    asyncpg.OutdatedSchemaCacheError,
    asyncpg.InterfaceError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

_INTERRUPTED = (TimeoutError, asyncio.CancelledError)
"""Too slow, or not wanted any more. The connection is cut then: to give it back in order, a server that may answer no
more would have to acknowledge first that the statement is cancelled, and then to roll back."""


def unavailable(error: BaseException) -> Unavailable:
    """The error as a caller sees it: no address, no credential, no text of the driver."""
    return Unavailable(
        f"The database cannot be reached right now ({type(error).__name__}). Nothing was changed; try again in a moment."
    )


async def _prepare(connection: Any) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=lambda value: json.dumps(value, ensure_ascii=False), decoder=json.loads
        )


async def _nothing_to_reset(_connection: Any) -> None:
    """Nothing depends on the state of a session, so a connection goes back without a round trip of its own."""


class Database:
    """A pool that is opened when first used and survives the server's absence.

    Args:
        url: connection string.
        size: most connections at the same time.
        pooler: whether a pooler (PgBouncer, Supavisor) stands between, which may give each transaction another backend;
            None: found out at the first connection.
    """

    def __init__(self, url: str, *, size: int = 10, pooler: bool | None = None) -> None:
        self._url = url
        self._size = size
        self._pooler = pooler
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    async def _open(self) -> Pool:
        async with asyncio.timeout(CONNECT_SECONDS), self._opening:  # nobody waits for others' vain attempts
            if self._pool is None:
                pooled = await self._pooled()
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._size,
                    timeout=CONNECT_SECONDS,
                    command_timeout=STATEMENT_SECONDS,
                    init=_prepare,
                    reset=_nothing_to_reset,
                    statement_cache_size=0 if pooled else 200,
                    max_inactive_connection_lifetime=300,
                )
            return self._pool

    async def _pooled(self) -> bool:
        """Whether prepared statements may be gone after a transaction.

        A pooler makes up the process id that a client is told at the start (it serves to cancel), so a backend that
        gives another one is behind a pooler, whatever the port.
        """
        if self._pooler is not None:
            return self._pooler
        if urlsplit(self._url).port == POOLER_PORT:
            return True
        probe = await asyncpg.connect(
            self._url, timeout=CONNECT_SECONDS, command_timeout=STATEMENT_SECONDS, statement_cache_size=0
        )
        try:
            backend: int = await probe.fetchval("SELECT pg_backend_pid()")
            return backend != probe.get_server_pid()
        finally:
            probe.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One connection, given back afterwards.

        Raises:
            Unavailable: Postgres is away, or too slow to count as there.
        """
        try:
            pool = self._pool or await self._open()
            async with pool.acquire(timeout=CONNECT_SECONDS) as connection:
                try:
                    yield connection
                except _INTERRUPTED:
                    connection.terminate()
                    raise
        except _AWAY as error:
            raise unavailable(error) from error

    @asynccontextmanager
    async def transaction(self, *, snapshot: bool = False) -> AsyncIterator[Connection]:
        """One transaction (READ COMMITTED), committed at the end of the block.

        `snapshot`: a read-only one instead, that sees one moment (REPEATABLE READ).

        Raises:
            Unavailable: Postgres is away. If that happens during the commit, the outcome is not known: every
                caller's write is safe to repeat.
        """
        async with self.connection() as connection:
            isolation: Literal["repeatable_read"] | None = "repeatable_read" if snapshot else None
            transaction = connection.transaction(isolation=isolation, readonly=snapshot)
            await transaction.start()
            try:
                yield connection
            except _INTERRUPTED:
                raise  # the connection is cut, which rolls back
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()

    async def close(self) -> None:
        """Close the pool; connections in use are cut after 5 s."""
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), 5)
            except TimeoutError:
                self._pool.terminate()
            self._pool = None
