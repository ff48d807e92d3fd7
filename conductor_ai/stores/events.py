"""Reading the one sequence of events that each session has. They are written with the change itself, in `writing.py`."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from conductor_ai.contracts.events import EventView
from conductor_ai.names import event_id
from conductor_ai.stores.postgres import Database


@dataclass(frozen=True)
class EventPage:
    """Some events in a row, and the session of the same moment."""

    events: tuple[EventView, ...]
    version: int
    """Number of the session's last event."""
    ended: bool
    answered: int
    """Number of the newest model call that has an answer."""
    has_more: bool


class Events:
    """Reads for the API. All of them are scoped by org."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, org_id: str, session_id: str, *, after: int, limit: int) -> EventPage | None:
        """The events after a number, at most `limit`; None if this org has no such session."""
        async with self._database.connection() as connection:
            # One statement, hence of one moment: what is not in it has a higher number than what is.
            rows = await connection.fetch(
                "SELECT s.version, s.ended_at IS NOT NULL AS ended, s.last_call_no, e.seq, e.type, e.body, e.at "
                "FROM conductor.sessions s LEFT JOIN LATERAL (SELECT seq, type, body, at FROM conductor.events "
                "WHERE session_id = s.id AND seq > $3 ORDER BY seq LIMIT $4) e ON true "
                "WHERE s.org_id = $1 AND s.id = $2 ORDER BY e.seq",
                org_id,
                session_id,
                after,
                limit + 1,
            )
        if not rows:
            return None
        found = [_event(session_id, row) for row in rows[:limit] if row["seq"] is not None]
        first = rows[0]
        return EventPage(tuple(found), first["version"], first["ended"], first["last_call_no"], len(rows) > limit)

    async def versions(self, sessions: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The versions of many sessions, each named by org and id; those that do not exist are missing."""
        if not sessions:
            return {}
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT s.org_id, s.id, s.version FROM unnest($1::text[], $2::text[]) AS w (org_id, id) "
                "JOIN conductor.sessions s ON s.org_id = w.org_id AND s.id = w.id",
                [org_id for org_id, _ in sessions],
                [session_id for _, session_id in sessions],
            )
        return {(row["org_id"], row["id"]): row["version"] for row in rows}


def _event(session_id: str, row: Any) -> EventView:
    return EventView(
        id=event_id(session_id, row["seq"]),
        session_id=session_id,
        seq=row["seq"],
        type=row["type"],
        at=row["at"],
        data=row["body"],
    )
