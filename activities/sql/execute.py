"""Runs an approved statement: reads in a READ ONLY transaction, writes together with their row in the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from activities.sql import catalog, effects, ledger, statement
from activities.sql.connection import LOST, Connection
from activities.sql.effects import Effects
from activities.sql.failures import FAILURES, failed, failure, refusal
from activities.sql.limits import READ_COMMITTED, Limits
from activities.sql.rows import Rows
from activities.sql.verdict import Verdict, refused
from conductor_ai.contracts.tools import SqlClass, ToolResult
from conductor_ai.errors import ToolUnavailable


@dataclass(frozen=True)
class Order:
    """One approved statement."""

    verdict: Verdict
    params: Sequence[Any]
    max_rows: int
    call_id: str
    arguments_sha256: str
    approved: Effects | None = None
    """What the person saw that it would change; None if that was not known."""
    tolerance: int = 0
    """Rows by which a write may exceed that."""


class Progress:
    """How far an attempt came: what tells a lost call from an unknown one."""

    def __init__(self) -> None:
        self.committing = False
        """True from the moment that a write may have been committed."""


class _Stop(Exception):
    """Ends the transaction without effect, with a result for the model."""

    def __init__(self, result: ToolResult) -> None:
        super().__init__()
        self.result = result


async def execute(
    connection: Connection, order: Order, limits: Limits, progress: Progress, *, keep_ledger: bool
) -> ToolResult:
    """Run it to its end.

    Args:
        progress: is told when the commit begins, for a caller who loses the connection.

    Raises:
        ToolUnavailable: an earlier attempt of the same call has not ended yet.
    """
    write = order.verdict.sql_class is SqlClass.WRITE
    try:
        if write and keep_ledger and (missing := await _ledger_missing(connection)) is not None:
            return missing
        async with connection.transaction(isolation=READ_COMMITTED, readonly=not write):
            await limits.enter(connection)
            if write and keep_ledger:
                return await _write_once(connection, order, limits)
            rows = await _run(connection, order, limits)
            progress.committing = write
        return rows.result()
    except _Stop as stop:
        return stop.result
    except LOST:
        raise
    except FAILURES as error:
        return failed(error, limits.timeout_seconds)


async def _ledger_missing(connection: Connection) -> ToolResult | None:
    try:
        await ledger.create(connection)
    except asyncpg.InsufficientPrivilegeError:
        return failure(
            "not_configured",
            "The login of sql_query may not create or use its ledger (schema conductor_ledger), so no write was run. "
            "Grant it CREATE on the database once, or set CONDUCTOR_SQL_LEDGER=false.",
        )
    except ledger.NotOurs:
        return failure(
            "not_configured",
            "The table conductor_ledger.calls belongs to somebody else than the login of sql_query, so no write was run: "
            "its owner could forge what is in it. Make the login its owner; `conductor doctor` says more.",
        )
    return None


async def _write_once(connection: Connection, order: Order, limits: Limits) -> ToolResult:
    await connection.execute(f"SET LOCAL lock_timeout TO {int(limits.timeout_seconds * 1000)}")
    try:
        found = await ledger.claim(connection, order.call_id, order.arguments_sha256)
    except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
        raise ToolUnavailable(
            "An earlier attempt of this call is still running in the database. It is asked again later."
        ) from None
    if found is not None:
        raise _Stop(stored(found, order.arguments_sha256))
    await limits.enter(connection)
    rows = await _run(connection, order, limits)
    await limits.become_login(connection)
    result = rows.result()
    await ledger.settle(connection, order.call_id, result)
    return result


def stored(entry: ledger.Entry, arguments_sha256: str) -> ToolResult:
    """What a call that is in the ledger already answers."""
    if entry.state == ledger.TOMBSTONE or entry.result is None:
        return failure("not_executed", "This call was given up before it ran and was not executed. Make a new call.")
    if entry.arguments_sha256 != arguments_sha256:
        return failure("not_executed", "This call id was executed with other arguments. Nothing was run now.")
    return entry.result


async def _run(connection: Connection, order: Order, limits: Limits) -> Rows:
    await limits.become_role(connection)
    hidden = await catalog.look_up(connection, order.verdict, limits.search_path)
    if hidden is not None:
        raise _Stop(refusal(refused(*hidden)))
    prepared = await statement.prepare(connection, order.verdict, order.params)
    if order.verdict.sql_class is not SqlClass.WRITE:
        return await statement.run(connection, prepared, order.max_rows, limits.timeout_seconds)
    before = await effects.count(connection)
    rows = await statement.run(connection, prepared, order.max_rows, limits.timeout_seconds)
    # What was put off until the commit happens now: it is counted, and it has the role's rights. (Before version 18
    # the server ran triggers at the commit with the rights of whoever committed: the login, who owns the ledger.)
    await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    if order.approved is not None:
        await _hold_against(connection, before, order.approved, order.tolerance)
    return rows


async def _hold_against(connection: Connection, before: Effects, approved: Effects, tolerance: int) -> None:
    """Stop if more has happened than was approved, or if that cannot be told any more."""
    if not await effects.are_counted(connection):
        raise _ask_again(
            "The server no longer counts changed rows (track_counts is off), so the effect cannot be compared with "
            f"what was approved ({approved}). It was rolled back."
        )
    changed = (await effects.count(connection)).since(before)
    if changed.exceeds(approved, tolerance):
        raise _ask_again(
            f"The statement would now change {changed.rows} rows ({changed}), but {approved.rows} ({approved}) were shown "
            "when it was approved. It was rolled back."
        )


def _ask_again(why: str) -> _Stop:
    return _Stop(failure("rows_changed", why).model_copy(update={"ask_again": True}))
