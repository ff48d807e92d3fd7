"""The database that sql_query works on: what may be asked of it, in four verbs."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from activities.sql import ledger, preview
from activities.sql.classify import classify
from activities.sql.connection import AnswerTooLarge, Connection, Connections
from activities.sql.effects import Effects
from activities.sql.execute import Order, Progress, execute, stored
from activities.sql.failures import FAILURES, UNKNOWN, failed, failure, refusal
from activities.sql.findings import LEDGER_SCHEMA
from activities.sql.limits import READ_COMMITTED, Limits
from activities.tools.base import NOT_EXECUTED, Call, NotExecuted
from conductor_ai.contracts.tools import Consequence, ToolResult
from conductor_ai.errors import ConfigurationError, ToolUnavailable

T = TypeVar("T")

EXTRA_SECONDS = 15.0
"""Beyond the statement's own limit: connecting, analysing, the ledger, the commit. After it the server is not trusted."""


class SqlTarget:
    """A target database with its limits.

    Args:
        url: connection string of a login of its own; never the store's. It appears in no message.
        role: role that statements run under (SET LOCAL ROLE). Needed with a ledger: it must not see that.
        ledger: whether the database may hold the ledger that makes a write happen once.
        timeout_seconds: limit for one statement.
        search_path: schemas in which unqualified names are found.
        pool_size: most connections of this process.
        row_tolerance: rows by which a write may exceed what was approved.

    Raises:
        ConfigurationError: a ledger without a role, or in the search path.
    """

    def __init__(
        self,
        url: str,
        role: str | None,
        ledger: bool,
        timeout_seconds: float,
        *,
        search_path: Sequence[str] = ("public",),
        pool_size: int = 4,
        row_tolerance: int = 0,
    ) -> None:
        if ledger and role is None:
            raise ConfigurationError(
                "sql_query keeps a ledger, but no role is set, so the model's statements could change it. Set "
                "CONDUCTOR_SQL_ROLE to a role that the login is a member of, or CONDUCTOR_SQL_LEDGER=false."
            )
        if not search_path or any(name == LEDGER_SCHEMA or name.startswith("pg_") for name in search_path):
            raise ConfigurationError(
                "The search path of sql_query must name schemas of your own: none of pg_* (pg_catalog comes first in any "
                f"case), nor {LEDGER_SCHEMA}. Correct CONDUCTOR_SQL_SEARCH_PATH."
            )
        self.limits = Limits(timeout_seconds, role, tuple(search_path))
        self.keeps_ledger = ledger
        self.connections = Connections(url, pool_size)
        self._row_tolerance = row_tolerance

    async def preview(self, query: str, params: Sequence[Any]) -> Consequence:
        """What a person is shown; nothing is changed.

        Raises:
            ToolUnavailable: the database cannot be reached.
        """
        verdict = classify(query)
        if not verdict.allowed:
            return preview.refusal_of(verdict)

        async def work(connection: Connection) -> Consequence:
            return await preview.preview(connection, verdict, params, self.limits)

        try:
            return await self._bounded(self.connections.use(work), 2 * preview.TRIAL_SECONDS)
        except AnswerTooLarge as error:
            return preview.unavailable(verdict, failed(error, self.limits.timeout_seconds).content)

    async def run(
        self, query: str, params: Sequence[Any], max_rows: int, call: Call, approved: Effects | None = None
    ) -> ToolResult:
        """Gate again, then execute once.

        Args:
            query: the statement.
            params: JSON values for $1, $2 ...
            max_rows: rows that come back.
            call: its id is the key in the ledger.
            approved: what the person saw that a write changes; more than that is rolled back.

        Raises:
            ToolUnavailable: the database is away; for a write without a ledger only if it certainly did not happen.
        """
        verdict = classify(query)
        if not verdict.allowed:
            return refusal(verdict)
        order = Order(verdict, params, max_rows, call.call_id, call.arguments_sha256, approved, self._row_tolerance)

        progress = Progress()

        async def work(connection: Connection) -> ToolResult:
            return await execute(connection, order, self.limits, progress, keep_ledger=self.keeps_ledger)

        try:
            return await self._bounded(self.connections.use(work), self.limits.timeout_seconds)
        except AnswerTooLarge as error:
            # Only an error message can be that long, and after an error there is no commit.
            return failed(error, self.limits.timeout_seconds)
        except ToolUnavailable:
            if progress.committing and not self.keeps_ledger:
                return failure("outcome_unknown", UNKNOWN)
            raise

    async def outcome(self, call: Call) -> ToolResult | NotExecuted | None:
        """What became of a call: its stored result, or a tombstone is set so that it never runs; None if unknown.

        Waits for an attempt that is still running, up to the statement's limit.
        """
        if not self.keeps_ledger:
            return None

        async def work(connection: Connection) -> ToolResult | NotExecuted:
            await ledger.create(connection)
            async with connection.transaction(isolation=READ_COMMITTED):
                await self.limits.enter(connection, lock_seconds=self.limits.timeout_seconds)
                found = await ledger.claim(connection, call.call_id, call.arguments_sha256, ledger.TOMBSTONE)
            if found is None or found.state == ledger.TOMBSTONE:
                return NOT_EXECUTED
            return stored(found, found.arguments_sha256)

        try:
            return await self._bounded(self.connections.use(work), self.limits.timeout_seconds)
        except (ToolUnavailable, AnswerTooLarge, ledger.NotOurs, *FAILURES):
            return None

    async def _bounded(self, work: Awaitable[T], seconds: float) -> T:
        """Give up on a server that does not even answer its own time-outs; the query is cancelled on the way."""
        try:
            async with asyncio.timeout(seconds + EXTRA_SECONDS):
                return await work
        except TimeoutError:
            raise ToolUnavailable(
                "The database of sql_query did not answer in time. The call is tried again."
            ) from None

    async def close(self) -> None:
        """Give back the connections."""
        await self.connections.close()
