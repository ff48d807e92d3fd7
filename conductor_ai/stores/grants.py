"""Grants: an approval that is remembered for the calls to come. Made with a decision, used where a person would be asked."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.decisions import Decision
from conductor_ai.contracts.grants import GrantView, Remember
from conductor_ai.digest import arguments_sha256
from conductor_ai.names import new_id
from conductor_ai.stores.postgres import Connection, Database
from conductor_ai.stores.writing import Writer
from conductor_ai.text import clean_json


@dataclass(frozen=True)
class Used:
    """A grant that covers a call; one use of it is taken."""

    grant_id: str
    granted_by: str


def match_sha(tool: str, arguments: JsonObject, free: Iterable[str]) -> str:
    """The digest of what must be the same: the tool, which arguments are free, and the others as they are."""
    kept = set(free)
    fixed = {name: value for name, value in arguments.items() if name not in kept}
    names = hashlib.sha256("\0".join(sorted(kept)).encode()).hexdigest()
    return arguments_sha256(f"{tool} {names}", fixed)


async def remember(writer: Writer, approval: Any, decision: Decision, wanted: Remember) -> None:
    """Store a grant together with the approval that it comes from."""
    tool, arguments = approval["tool"], approval["arguments"]
    if wanted.free and not set(wanted.free) < set(arguments):
        return  # the API refuses this: it would approve whatever comes
    grant_id = new_id("grant")
    await writer.connection.execute(
        "INSERT INTO conductor.grants (id, org_id, session_id, tool, match, free, match_sha, arguments, uses_left, expires_at, "
        "granted_by, approval_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        grant_id,
        writer.row["org_id"],
        writer.session_id if wanted.scope == "session" else None,
        tool,
        wanted.match,
        sorted(wanted.free),
        match_sha(tool, arguments, wanted.free),
        clean_json(arguments),
        wanted.uses,
        decision.at + timedelta(seconds=wanted.expires_in),
        decision.by,
        approval["id"],
    )
    writer.event(
        "grant.created",
        {"grant_id": grant_id, "approval_id": approval["id"], "tool": tool, "scope": wanted.scope, "by": decision.by},
    )


async def use(writer: Writer, tool: str, arguments: JsonObject) -> Used | None:
    """Take one use of a grant that covers this call; the one of the narrowest scope that expires first."""
    rows = await writer.connection.fetch(
        "SELECT id, free, match_sha FROM conductor.grants WHERE org_id = $1 AND tool = $2 AND revoked_at IS NULL "
        "AND expires_at > clock_timestamp() AND (uses_left IS NULL OR uses_left > 0) "
        "AND (session_id IS NULL OR session_id = $3) ORDER BY session_id NULLS LAST, expires_at",
        writer.row["org_id"],
        tool,
        writer.session_id,
    )
    for row in rows:
        if match_sha(tool, arguments, row["free"]) != row["match_sha"]:
            continue
        taken = await writer.connection.fetchval(
            "UPDATE conductor.grants SET uses_left = uses_left - 1 WHERE id = $1 AND revoked_at IS NULL "
            "AND expires_at > clock_timestamp() AND (uses_left IS NULL OR uses_left > 0) RETURNING granted_by",
            row["id"],
        )
        if taken is not None:
            return Used(row["id"], taken)
    return None


class Grants:
    """What the API reads and revokes. Scoped by org."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, org_id: str, grant_id: str) -> GrantView | None:
        """One grant; None if this org has no such grant."""
        async with self._database.connection() as connection:
            row = await _select(connection, "id = $2", org_id, grant_id)
        return _view(row[0]) if row else None

    async def list(
        self, org_id: str, *, live: bool, before: tuple[datetime, str] | None, limit: int
    ) -> list[GrantView]:
        """Grants of an org, newest first. `live`: only those that still can approve something."""
        async with self._database.connection() as connection:
            rows = await _select(
                connection,
                "(NOT $2 OR (revoked_at IS NULL AND expires_at > clock_timestamp() AND coalesce(uses_left, 1) > 0)) "
                "AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::text)) ORDER BY created_at DESC, id DESC LIMIT $5",
                org_id,
                live,
                before[0] if before else None,
                before[1] if before else None,
                limit,
            )
        return [_view(row) for row in rows]

    async def revoke(self, org_id: str, grant_id: str, by: str) -> GrantView | None:
        """Revoke a grant; one that is revoked stays as it was. None if this org has no such grant."""
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE conductor.grants SET revoked_at = clock_timestamp(), revoked_by = $3 "
                "WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL",
                org_id,
                grant_id,
                by,
            )
        return await self.find(org_id, grant_id)


async def _select(connection: Connection, where: str, *values: Any) -> list[Any]:
    return await connection.fetch(f"SELECT * FROM conductor.grants WHERE org_id = $1 AND {where}", *values)


def _view(row: Any) -> GrantView:
    return GrantView(
        id=row["id"],
        session_id=row["session_id"],
        scope="org" if row["session_id"] is None else "session",
        tool=row["tool"],
        match=row["match"],
        free=tuple(row["free"]),
        arguments=row["arguments"],
        uses_left=row["uses_left"],
        expires_at=row["expires_at"],
        granted_by=row["granted_by"],
        approval_id=row["approval_id"],
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
        revoked_by=row["revoked_by"],
    )
