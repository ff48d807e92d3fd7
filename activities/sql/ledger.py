"""The ledger in the target database: what was executed, and what never will be.

One row for each call that writes, inserted first in the transaction of the write itself. The row commits with the
effect or not at all, so a retry finds the stored result, and a tombstone in its place makes a late attempt fail. It
belongs to the login; statements run under a role that cannot see it.
"""

from dataclasses import dataclass

from activities.sql.connection import Connection, mark_of
from activities.sql.findings import LEDGER_SCHEMA
from conductor_ai.contracts.tools import ToolResult

LOCK = 7_235_914_308
"""Advisory lock for creating the table: two workers may start at once."""
EXECUTED, TOMBSTONE = "executed", "tombstone"

_CREATE = f"""
CREATE SCHEMA IF NOT EXISTS {LEDGER_SCHEMA};
REVOKE ALL ON SCHEMA {LEDGER_SCHEMA} FROM PUBLIC;
CREATE TABLE IF NOT EXISTS {LEDGER_SCHEMA}.calls (
    call_id text PRIMARY KEY,
    arguments_sha256 text NOT NULL,
    state text NOT NULL CHECK (state IN ('{EXECUTED}', '{TOMBSTONE}')),
    result jsonb,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
REVOKE ALL ON {LEDGER_SCHEMA}.calls FROM PUBLIC;
"""
_OURS = f"""
SELECT c.relkind = 'r' AND pg_catalog.pg_has_role(session_user, c.relowner, 'MEMBER') FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass('{LEDGER_SCHEMA}.calls')
"""  # noqa: S608 - only our own constant
_INSERT = f"""
INSERT INTO {LEDGER_SCHEMA}.calls (call_id, arguments_sha256, state) VALUES ($1, $2, $3)
ON CONFLICT (call_id) DO NOTHING RETURNING call_id
"""  # noqa: S608 - only our own constants
_SELECT = f"""
SELECT arguments_sha256, state, CASE pg_catalog.jsonb_typeof(result) WHEN 'string' THEN result #>> '{{}}' ELSE result::text END
    AS result
FROM {LEDGER_SCHEMA}.calls WHERE call_id = $1
"""  # noqa: S608 - only our own constants
# As a text inside of the jsonb: jsonb itself would reorder the names of objects and write 1e300 in 301 digits.
_SETTLE = f"UPDATE {LEDGER_SCHEMA}.calls SET result = pg_catalog.to_jsonb($2::text) WHERE call_id = $1"  # noqa: S608


@dataclass(frozen=True)
class Entry:
    """What the ledger has of a call."""

    arguments_sha256: str
    state: str
    result: ToolResult | None


class NotOurs(Exception):
    """Somebody else made a table of the ledger's name: its owner, or a trigger of theirs, could do anything with it."""


async def exists(connection: Connection) -> bool:
    """True if the table is there.

    Raises:
        NotOurs: it does not belong to the login.
    """
    ours: bool | None = await connection.fetchval(_OURS)
    if ours is False:
        raise NotOurs
    return ours is not None


async def create(connection: Connection) -> None:
    """Create schema and table, as the login.

    Raises:
        asyncpg.InsufficientPrivilegeError: the login may not create a schema in this database.
        NotOurs: see `exists`.
    """
    if await exists(connection):
        return
    async with connection.transaction():
        await connection.execute(
            f"SET LOCAL application_name TO '{mark_of(connection)}'; SET LOCAL lock_timeout TO '10s'"
        )
        await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock($1)", LOCK)
        await connection.execute(_CREATE)


async def claim(connection: Connection, call_id: str, arguments_sha256: str, state: str = EXECUTED) -> Entry | None:
    """Insert the row of a call in the open transaction; None if that worked, else the row that was there before.

    Waits for a concurrent transaction that holds the same row uncommitted, up to the lock timeout.
    """
    if await connection.fetchval(_INSERT, call_id, arguments_sha256, state) is not None:
        return None
    row = await connection.fetchrow(_SELECT, call_id)
    assert row is not None  # rows are never deleted, and read committed sees what the insert ran into
    stored = row["result"]
    return Entry(
        row["arguments_sha256"], row["state"], ToolResult.model_validate_json(stored) if stored is not None else None
    )


async def settle(connection: Connection, call_id: str, result: ToolResult) -> None:
    """Store the result beside the effect, in the same transaction."""
    await connection.execute(_SETTLE, call_id, result.model_dump_json())
