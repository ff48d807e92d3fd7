"""What only the session's row knows of why it stands where it stands."""

from dataclasses import dataclass
from datetime import datetime

from conductor_ai.stores.postgres import Database


@dataclass(frozen=True)
class Standing:
    """Whether the start and a cancel have gone through."""

    start_state: str
    cancel_requested_at: datetime | None


async def standing(database: Database, org_id: str, session_id: str) -> Standing | None:
    """What the row says; None if this org has no such session.

    Raises:
        Unavailable: Postgres is away.
    """
    async with database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT start_state, cancel_requested_at FROM conductor.sessions WHERE org_id = $1 AND id = $2",
            org_id,
            session_id,
        )
    return None if row is None else Standing(row["start_state"], row["cancel_requested_at"])
