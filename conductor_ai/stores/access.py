"""API keys: random, kept as a hash, one org and one role each."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from conductor_ai.names import new_id
from conductor_ai.stores.idempotency import Lease
from conductor_ai.stores.postgres import Connection, Database


class Role(StrEnum):
    """What the holder of a key may do: all read; operators start and cancel, approvers decide, admins do everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


@dataclass(frozen=True)
class Key:
    """A key as it is listed: the secret itself is shown once, when it is made."""

    id: str
    org_id: str
    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None = None


def hashed(secret: str) -> str:
    """How a key is kept. The secret has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys:
    """The API keys of all orgs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, org_id: str, name: str, role: Role, lease: Lease | None = None) -> tuple[Key, str]:
        """Make a key. Returns it with its secret, which is not stored.

        An earlier attempt at the same leased request may have made the key and lost the answer: nobody knows that secret, so
        this one takes its place. If the key was revoked meanwhile, another one is made.

        Raises:
            Conflict: another attempt has taken over the lease.
        """
        secret = f"ck_{secrets.token_urlsafe(32)}"
        row = None
        async with self._database.transaction() as connection:
            if lease is not None:
                await lease.hold(connection)
                row = await self._insert(connection, f"key_{lease.claimed.token}", org_id, name, role, secret)
            if row is None:
                row = await self._insert(connection, new_id("key"), org_id, name, role, secret)
        assert row is not None
        return Key(row["id"], row["org_id"], row["name"], Role(row["role"]), row["created_at"]), secret

    @staticmethod
    async def _insert(connection: Connection, key_id: str, org_id: str, name: str, role: Role, secret: str) -> Any:
        return await connection.fetchrow(
            "INSERT INTO conductor.api_keys AS k (id, org_id, name, role, sha256) VALUES ($1, $2, $3, $4, $5) "
            "ON CONFLICT (id) DO UPDATE SET sha256 = excluded.sha256 WHERE k.revoked_at IS NULL RETURNING *",
            key_id,
            org_id,
            name,
            role.value,
            hashed(secret),
        )

    async def list(self, org_id: str, *, before: tuple[datetime, str] | None = None, limit: int = 50) -> list[Key]:
        """Keys of an org, the newest first, revoked ones too."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT id, org_id, name, role, created_at, revoked_at FROM conductor.api_keys WHERE org_id = $1 "
                "AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::text)) ORDER BY created_at DESC, id DESC LIMIT $4",
                org_id,
                before[0] if before else None,
                before[1] if before else None,
                limit,
            )
        return [
            Key(row["id"], row["org_id"], row["name"], Role(row["role"]), row["created_at"], row["revoked_at"])
            for row in rows
        ]

    async def revoke(self, org_id: str, key_id: str) -> bool:
        """Revoke a key of this org for good. False if it has no such key; a key that is revoked stays as it is."""
        async with self._database.connection() as connection:
            found = await connection.fetchval(
                "UPDATE conductor.api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) "
                "WHERE org_id = $1 AND id = $2 RETURNING true",
                org_id,
                key_id,
            )
        return bool(found)

    async def find(self, secret: str) -> Key | None:
        """The key with this secret, unless it is revoked."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT * FROM conductor.api_keys WHERE sha256 = $1 AND revoked_at IS NULL", hashed(secret)
            )
        return Key(row["id"], row["org_id"], row["name"], Role(row["role"]), row["created_at"]) if row else None


class Owned(StrEnum):
    """What belongs to one org."""

    SESSION = "session"
    APPROVAL = "approval"
    GRANT = "grant"
    KEY = "key"


_TABLES = {
    Owned.SESSION: "conductor.sessions",
    Owned.APPROVAL: "conductor.approvals",
    Owned.GRANT: "conductor.grants",
    Owned.KEY: "conductor.api_keys",
}


class Ownership:
    """Whose something is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def owns(self, org_id: str, kind: Owned, found_id: str) -> bool:
        """Whether the org has, or had and deleted, the thing with this id."""
        async with self._database.connection() as connection:
            return bool(
                await connection.fetchval(
                    f"SELECT EXISTS (SELECT FROM {_TABLES[kind]} WHERE org_id = $1 AND id = $2) "
                    "OR EXISTS (SELECT FROM conductor.audit WHERE org_id = $1 AND subject = $2)",
                    org_id,
                    found_id,
                )
            )
