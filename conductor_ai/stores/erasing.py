"""Deleting a session: everything that anybody said in it goes, and a line in the audit stays."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

from conductor_ai.errors import Unavailable
from conductor_ai.names import new_id
from conductor_ai.stores.postgres import Connection, Database

_REFERENCES = """
    SELECT c.conrelid::regclass::text AS child, a.attname AS child_column, f.attname AS column
    FROM pg_constraint c
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = c.confkey[1]
    WHERE c.contype = 'f' AND c.confrelid = $1::text::regclass
"""
"""What hangs on a table, as the schema itself says: a table that is added later cannot be forgotten here."""


class EraseVerdict(StrEnum):
    """What a request to delete meets."""

    ERASED = "erased"
    GONE = "gone"
    """It was deleted before."""
    OPEN = "open"
    """It has not ended."""
    UNKNOWN = "unknown"
    """This organisation never had it."""


class Erasing:
    """Deletes ended sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ended_before(self, days: float, *, limit: int) -> list[tuple[str, str]]:
        """Organisation and id of sessions that ended so many days ago or earlier, from among the oldest, in any order.

        Several processes that ask at once mostly get others first.
        """
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT org_id, id FROM (SELECT org_id, id FROM conductor.sessions "
                "WHERE ended_at <= clock_timestamp() - make_interval(secs => $1) ORDER BY ended_at LIMIT $2) oldest ORDER BY random()",
                days * 86_400,
                limit,
            )
        return [(row["org_id"], row["id"]) for row in rows]

    async def erase(
        self, org_id: str, session_id: str, *, by: str, copies: Callable[[], Awaitable[bool]]
    ) -> EraseVerdict:
        """Delete a session that has ended, in one transaction with its tombstone.

        Args:
            copies: erases what Redis has of it, and returns whether that was possible. Asked before the commit: what is
                told to be deleted is nowhere any more.

        Raises:
            Unavailable: Postgres or Redis is away. Nothing was deleted.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                "SELECT status, stop_reason, model, steps, input_tokens, output_tokens, cost_usd::text, created_at, ended_at "
                "FROM conductor.sessions WHERE org_id = $1 AND id = $2 FOR UPDATE",
                org_id,
                session_id,
            )
            if row is None:
                return EraseVerdict.GONE if await _tombstone(connection, org_id, session_id) else EraseVerdict.UNKNOWN
            if row["ended_at"] is None:
                return EraseVerdict.OPEN
            await connection.execute(
                "INSERT INTO conductor.audit (id, org_id, action, subject, by, details) "
                "VALUES ($1, $2, 'session.deleted', $3, $4, $5)",
                new_id("aud"),
                org_id,
                session_id,
                by,
                {name: _plain(value) for name, value in row.items()},
            )
            await _forget_answers(connection, org_id, session_id)
            await _release_grants(connection, session_id)
            await _erase(connection, "conductor.sessions", "id = $1", session_id)
            if not await copies():
                raise Unavailable(
                    "Redis does not answer, and may have a copy of the session. Nothing was deleted; try again in a moment."
                )
        return EraseVerdict.ERASED


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


async def _tombstone(connection: Connection, org_id: str, session_id: str) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT true FROM conductor.audit WHERE org_id = $1 AND subject = $2 AND action = 'session.deleted'",
            org_id,
            session_id,
        )
    )


async def _forget_answers(connection: Connection, org_id: str, session_id: str) -> None:
    """Answers that are kept for repeated requests show parts of the session, too. Those of a batch name it only in the answer."""
    await connection.execute(
        "DELETE FROM conductor.idempotency i WHERE org_id = $1 AND (session_id = $2 OR EXISTS (SELECT FROM unnest($2::text || "
        "array(SELECT id FROM conductor.approvals WHERE session_id = $2)) AS known (id) WHERE position(known.id in i.route) > 0 "
        "OR (i.route !~ '_[0-9a-f]{32}' AND position(convert_to(known.id, 'UTF8') in i.body) > 0)))",
        org_id,
        session_id,
    )


async def _release_grants(connection: Connection, session_id: str) -> None:
    """Grants for the whole organisation are no part of the session. They keep what they fix, and nothing else of the call."""
    await connection.execute(
        "UPDATE conductor.grants SET approval_id = NULL, arguments = arguments - free WHERE session_id IS NULL "
        "AND approval_id IN (SELECT id FROM conductor.approvals WHERE session_id = $1)",
        session_id,
    )


async def _erase(connection: Connection, table: str, condition: str, session_id: str) -> None:
    """Delete rows, and first what hangs on them. Names come from the catalogue alone."""
    for reference in await connection.fetch(_REFERENCES, table):
        held = f"{reference['child_column']} IN (SELECT {reference['column']} FROM {table} WHERE {condition})"
        await _erase(connection, reference["child"], held, session_id)
    await connection.execute(f"DELETE FROM {table} WHERE {condition}", session_id)
