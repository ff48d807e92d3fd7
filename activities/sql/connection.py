"""Connections to the target: limited in what they take in, emptied on return, and never left with a running query."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import asyncpg

from conductor_ai.errors import ToolUnavailable

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

MAX_BYTES_OF_A_CALL = 24 * 1024 * 1024
"""More than the largest batch of rows; only an error message (which the server never cuts) can be longer."""
CONNECT_SECONDS = 10.0
CANCEL_SECONDS = 5.0

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    asyncpg.ClientConfigurationError,
    OSError,
    TimeoutError,
)
"""The database is away or does not let us in: no fault of the statement."""


_TERMINATE = """
SELECT pg_catalog.pg_terminate_backend(pid, 3000) FROM pg_catalog.pg_stat_activity
WHERE application_name = $1 AND usename = session_user
"""


class AnswerTooLarge(Exception):
    """The server sent more than a call may take in, so the connection was cut."""


class _Limited(asyncio.Protocol):
    """Passes everything on to asyncpg's protocol, and hangs up once a call has taken in too much."""

    def __init__(self, protocol: Any, transport: Any) -> None:
        self._protocol = protocol
        self._transport = transport
        self.left = MAX_BYTES_OF_A_CALL
        self.tripped = False

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            self.tripped = True
            self._transport.abort()
        else:
            self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        answer: bool | None = self._protocol.eof_received()
        return answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class LimitedConnection(asyncpg.Connection):
    """asyncpg's connection behind a byte limit."""

    __slots__ = ("_limited", "mark", "pooled")

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        self._limited = _Limited(protocol, transport)
        transport.set_protocol(self._limited)
        self.mark = ""
        """What the server knows the present work by: see `mark_of`."""
        self.pooled = False
        """True if a pooler stands between us and the server, and may give each transaction another backend."""

    def begin(self, mark: str) -> None:
        """New work: count its bytes afresh, under a name of its own."""
        self._limited.left = MAX_BYTES_OF_A_CALL
        self.mark = mark

    def was_cut(self) -> bool:
        """True if the limit ended this connection."""
        return self._limited.tripped


def _raw(connection: Any) -> LimitedConnection:
    """The connection behind the pool's proxy, which does not hand out what our class added."""
    if type(connection) is LimitedConnection:
        return connection
    found: LimitedConnection = connection._con  # noqa: SLF001 - the pool has no public way to it
    return found


def mark_of(connection: Connection) -> str:
    """The application_name that every transaction of the present work sets, so that its backend can be found.

    A process id will not do: behind a pooler the one that asyncpg knows is the pooler's invention, and the backend
    belongs to somebody else as soon as the transaction has ended.
    """
    return _raw(connection).mark


async def _look(connection: Connection) -> None:
    """A new connection: is it the server's own, or a pooler's, which makes up process ids?"""
    raw = _raw(connection)
    raw.pooled = await connection.fetchval("SELECT pg_catalog.pg_backend_pid()") != connection.get_server_pid()


async def _discard(connection: Connection) -> None:
    # In a pooler's transaction mode this would empty some backend that others use; the pooler looks after its own.
    if not _raw(connection).pooled:
        await connection.execute("DISCARD ALL")


class Connections:
    """A small pool, opened at first use.

    Args:
        url: connection string; never part of any message.
        size: most connections at the same time.
    """

    def __init__(self, url: str, size: int = 4) -> None:
        self._url = url
        self._size = size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def use(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` with a connection.

        On cancellation the query is ended on the server before the cancellation goes on: the work is cancelled, which
        makes asyncpg send a cancel request and roll back; if that does not end in time, the backend is terminated.

        Raises:
            ToolUnavailable: the database cannot be reached, or was lost on the way.
            AnswerTooLarge: the server sent more than a call may take in.
        """
        mark = f"conductor sql_query {secrets.token_hex(8)}"
        task = asyncio.ensure_future(self._work(work, mark))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            if not await _settled(task, CANCEL_SECONDS):
                ending = asyncio.ensure_future(self._terminate(mark))
                await _settled(ending, CANCEL_SECONDS)
            raise
        return task.result()

    async def _work(self, work: Callable[[Connection], Awaitable[T]], mark: str) -> T:
        raw: LimitedConnection | None = None
        results: list[T] = []
        try:
            pool = await self._opened()
            async with pool.acquire(timeout=CONNECT_SECONDS) as connection:
                raw = _raw(connection)
                raw.begin(mark)
                results.append(await work(connection))
        except (*LOST, asyncpg.PostgresError) as error:
            if results:
                return results[0]  # lost on the way back to the pool: what was done is done and known
            if raw is not None and not isinstance(error, LOST):
                raise  # of the work; before it there is only the connection that may fail
            if raw is not None and raw.was_cut():
                raise AnswerTooLarge from None
            raise ToolUnavailable(
                f"The database of sql_query cannot be used right now ({type(error).__name__}). The call is tried again; "
                "see CONDUCTOR_SQL_URL if that goes on."
            ) from None
        return results[0]

    async def _opened(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._size,
                    statement_cache_size=0,
                    connection_class=LimitedConnection,
                    init=_look,
                    reset=_discard,
                    timeout=CONNECT_SECONDS,
                    max_inactive_connection_lifetime=60,
                )
            return self._pool

    async def _terminate(self, mark: str) -> None:
        """The last resort, over a connection of its own: end our backend and wait until it is gone."""
        with suppress(*LOST, asyncpg.PostgresError):
            connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS, statement_cache_size=0)
            try:
                await connection.execute(_TERMINATE, mark)
            finally:
                await connection.close()

    async def close(self) -> None:
        """Close every connection; one that is still busy is cut."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), CANCEL_SECONDS)
            except TimeoutError:
                pool.terminate()


async def _settled(task: "asyncio.Future[Any]", seconds: float) -> bool:
    """Wait for a task that is being ended, through further cancellations of ourselves; True if it did end."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not task.done() and loop.time() < deadline:
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=max(0.0, deadline - loop.time()))
    if task.done() and not task.cancelled():
        task.exception()  # taken note of: the cancellation is what counts now
    return task.done()
