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

    async def find(self, secret: str) -> Key | None:
        """The key with this secret, unless it is revoked."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT * FROM conductor.api_keys WHERE sha256 = $1 AND revoked_at IS NULL", hashed(secret)
            )
        return Key(row["id"], row["org_id"], row["name"], Role(row["role"]), row["created_at"]) if row else None
