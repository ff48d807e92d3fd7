"""API keys: random, kept as a hash, one org and one role each."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from conductor_ai.names import new_id
from conductor_ai.stores.postgres import Database


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

    async def create(self, org_id: str, name: str, role: Role) -> tuple[Key, str]:
        """Make a key. Returns it with its secret, which is not stored."""
        secret = f"ck_{secrets.token_urlsafe(32)}"
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "INSERT INTO conductor.api_keys (id, org_id, name, role, sha256) VALUES ($1, $2, $3, $4, $5) RETURNING *",
                new_id("key"),
                org_id,
                name,
                role.value,
                hashed(secret),
            )
        assert row is not None
        return Key(row["id"], row["org_id"], row["name"], Role(row["role"]), row["created_at"]), secret

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
