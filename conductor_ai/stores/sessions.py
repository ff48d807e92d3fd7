"""The API's own writes: starting, cancelling, deciding; and what the reconciler asks."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.decisions import Decision
from conductor_ai.contracts.session import SessionInput
from conductor_ai.contracts.status import Status
from conductor_ai.errors import Code, InvalidRequest, LimitReached, NotFound
from conductor_ai.stores.deciding import apply_decision
from conductor_ai.stores.postgres import Connection, Database
from conductor_ai.stores.writing import Journal, Writer
from conductor_ai.text import clean, clean_json

IDEMPOTENCY_HOURS = 24


@dataclass(frozen=True)
class Message:
    """Something that the caller put at the beginning of the session."""

    role: str
    content: str


@dataclass(frozen=True)
class NewSession:
    """A session as a caller asked for it."""

    input: SessionInput
    messages: tuple[Message, ...]
    title: str | None = None
    system_prompt: str = ""
    metadata: JsonObject | None = None
    warnings: tuple[str, ...] = ()
    output_schema: JsonObject | None = None


@dataclass(frozen=True)
class IdempotencyKey:
    """A caller's key with the digest of the body that came with it."""

    route: str
    key: str
    body_sha: str


@dataclass(frozen=True)
class Started:
    """A session's row after the start: what the response is built from."""

    session_id: str
    input: SessionInput
    start_state: str
    created_at: datetime
    replayed: bool
    """True if an earlier request with the same key had made it."""


class CancelVerdict(StrEnum):
    """What a request to cancel meets."""

    ACCEPTED = "accepted"
    CANCELLED = "cancelled"
    ENDED = "ended"


@dataclass(frozen=True)
class OpenSession:
    """A session that has not ended, as the reconciler sees it."""

    session_id: str
    org_id: str
    run_id: str | None
    start_state: str
    keyed: bool
    cancel_requested: bool
    stored_input: JsonObject

    @property
    def input(self) -> SessionInput:
        """The workflow's input.

        Raises:
            ValueError: another version of this program wrote it.
        """
        return SessionInput.model_validate(self.stored_input)


_INSERTED = """
    WITH made AS (
      INSERT INTO conductor.sessions (id, org_id, keyed, input, model, title, system_prompt, tools, max_steps, metadata, warnings,
        deadline_at, output_schema, mode, max_cost_usd, max_total_tokens, version)
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 1) RETURNING *
    ), said AS (
      INSERT INTO conductor.messages (session_id, part, role, body)
      SELECT $1, item.number - 1, item.message ->> 0, item.message ->> 1
      FROM jsonb_array_elements($17::jsonb) WITH ORDINALITY AS item (message, number)
    ), told AS (
      INSERT INTO conductor.events (session_id, seq, type, dedupe, body) VALUES ($1, 1, 'session.created', 'created', $18)
    )
    SELECT * FROM made
"""


class Sessions:
    """The API's writes to sessions. Every one is scoped by org."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def _database(self) -> Database:
        return self._journal.database

    async def create(self, new: NewSession, key: IdempotencyKey | None, *, most_open: int = 0) -> Started:
        """Insert the session as `starting`, or adopt the one that the same key made.

        Args:
            most_open: sessions that the org may have open, with this one; 0: any number.

        Raises:
            LimitReached: it has as many.
            InvalidRequest: the key came with another body before (`idempotency_mismatch`).
        """
        source = new.input
        async with self._database.transaction() as connection:
            if key is not None:
                await connection.execute(
                    "DELETE FROM conductor.idempotency WHERE org_id = $1 AND route = $2 AND key = $3 "
                    "AND created_at < clock_timestamp() - make_interval(hours => $4)",
                    source.org_id,
                    key.route,
                    key.key,
                    IDEMPOTENCY_HOURS,
                )
                inserted = await connection.fetchval(
                    "INSERT INTO conductor.idempotency (org_id, route, key, body_sha, session_id) VALUES ($1, $2, $3, $4, $5) "
                    "ON CONFLICT DO NOTHING RETURNING true",
                    source.org_id,
                    key.route,
                    key.key,
                    key.body_sha,
                    source.session_id,
                )
                if not inserted:
                    stored = await connection.fetchrow(
                        "SELECT body_sha, session_id FROM conductor.idempotency WHERE org_id = $1 AND route = $2 AND key = $3",
                        source.org_id,
                        key.route,
                        key.key,
                    )
                    assert stored is not None
                    _require_same_body(stored["body_sha"], key)
                    row = await connection.fetchrow(
                        "SELECT * FROM conductor.sessions WHERE id = $1", stored["session_id"]
                    )
                    return _started(row, replayed=True)
            if most_open:
                await _require_room(connection, source.org_id, most_open)
            row = await connection.fetchrow(
                _INSERTED,
                source.session_id,
                source.org_id,
                key is not None,
                clean_json(source.model_dump(mode="json")),
                source.model,
                None if new.title is None else clean(new.title),
                clean(new.system_prompt),
                list(source.tools),
                source.max_steps,
                clean_json(new.metadata or {}),
                clean_json(list(new.warnings)),
                source.deadline_at,
                new.output_schema,
                source.mode,
                source.limits.max_cost_usd,
                source.limits.max_total_tokens,
                [[message.role, clean(message.content)] for message in new.messages],
                {"model": source.model, "tools": list(source.tools), "max_steps": source.max_steps},
            )
        return _started(row, replayed=False)

    async def adopted(self, org_id: str, key: IdempotencyKey) -> Started | None:
        """The session that this key made within the last 24 hours; None if there is none.

        Asked before a request is looked at closely: a session that runs is answered for, even if the same request
        could not be made today (a tool is gone, a model retired).

        Raises:
            InvalidRequest: the key came with another body before (`idempotency_mismatch`).
        """
        async with self._database.connection() as connection:
            stored = await connection.fetchrow(
                "SELECT i.body_sha, s.* FROM conductor.idempotency i JOIN conductor.sessions s ON s.id = i.session_id "
                "WHERE i.org_id = $1 AND i.route = $2 AND i.key = $3 "
                "AND i.created_at >= clock_timestamp() - make_interval(hours => $4)",
                org_id,
                key.route,
                key.key,
                IDEMPOTENCY_HOURS,
            )
        if stored is None:
            return None
        _require_same_body(stored["body_sha"], key)
        return _started(stored, replayed=True)

    async def mark_started(self, session_id: str) -> None:
        """Temporal has accepted the start."""
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE conductor.sessions SET start_state = 'started' WHERE id = $1 AND start_state = 'starting'",
                session_id,
            )

    async def request_cancel(self, org_id: str, session_id: str, reason: str | None) -> CancelVerdict:
        """Set the flag that decides: from here on the session can only end as cancelled.

        Raises:
            NotFound: this org has no such session.
        """

        async def change(writer: Writer) -> CancelVerdict:
            if writer.row["org_id"] != org_id:
                raise NotFound("There is no such session.")
            if writer.ended:
                done = Status(writer.row["status"])
                return CancelVerdict.CANCELLED if done is Status.CANCELLED else CancelVerdict.ENDED
            if writer.row["cancel_requested_at"] is None:
                await writer.update(
                    "cancel_requested_at = clock_timestamp(), cancel_reason = $2",
                    None if reason is None else clean(reason),
                )
                writer.event("session.cancel_requested", {"reason": reason}, dedupe="cancel")
            return CancelVerdict.ACCEPTED

        return await self._journal.write_unfenced(session_id, change)

    async def decided(self, session_id: str, decision: Decision, *, allow_unverified: bool = True) -> None:
        """Write the decision that the workflow accepted, so that the caller reads its own write."""

        async def change(writer: Writer) -> None:
            if not writer.ended:
                await apply_decision(writer, decision, allow_unverified=allow_unverified)

        await self._journal.write_unfenced(session_id, change)

    async def open_sessions(self, *, older_than_seconds: float, limit: int = 200) -> list[OpenSession]:
        """Sessions that have not ended and were not touched for a while, those that were not looked at for longest first."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                "SELECT id, org_id, run_id, start_state, keyed, cancel_requested_at, input FROM conductor.sessions "
                "WHERE ended_at IS NULL AND updated_at < clock_timestamp() - make_interval(secs => $1) "
                "ORDER BY reconciled_at NULLS FIRST, created_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED",
                older_than_seconds,
                limit,
            )
            await connection.execute(
                "UPDATE conductor.sessions SET reconciled_at = clock_timestamp() WHERE id = ANY($1)",
                [row["id"] for row in rows],
            )
        return [
            OpenSession(
                session_id=row["id"],
                org_id=row["org_id"],
                run_id=row["run_id"],
                start_state=row["start_state"],
                keyed=row["keyed"],
                cancel_requested=row["cancel_requested_at"] is not None,
                stored_input=row["input"],
            )
            for row in rows
        ]

    async def forget_keys(self) -> None:
        """Delete idempotency keys whose time is over."""
        async with self._database.connection() as connection:
            await connection.execute(
                "DELETE FROM conductor.idempotency WHERE created_at < clock_timestamp() - make_interval(hours => $1)",
                IDEMPOTENCY_HOURS,
            )

    async def with_unknown_calls(self, *, limit: int = 100) -> list[str]:
        """Ended sessions with calls whose outcome is not known yet, of the last day."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT DISTINCT t.session_id FROM conductor.tool_calls t JOIN conductor.sessions s ON s.id = t.session_id "
                "WHERE t.state = 'outcome_unknown' AND s.ended_at IS NOT NULL "
                "AND t.finished_at > clock_timestamp() - interval '1 day' LIMIT $1",
                limit,
            )
        return [row["session_id"] for row in rows]


async def _require_room(connection: Connection, org_id: str, most_open: int) -> None:
    # Starts of one org wait for each other here: what is counted next includes all that were let in before.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('starts of ' || $1, 0))", org_id)
    count = await connection.fetchval(
        "SELECT count(*) FROM conductor.sessions WHERE org_id = $1 AND ended_at IS NULL", org_id
    )
    if count >= most_open:
        raise LimitReached(
            f"This organisation has {most_open} open sessions, as many as it may (CONDUCTOR_SESSIONS_PER_ORG). Nothing was "
            "started; try again when one has ended."
        )


def _require_same_body(body_sha: str, key: IdempotencyKey) -> None:
    if body_sha != key.body_sha:
        raise InvalidRequest(
            "This Idempotency-Key was used with another body within the last 24 hours. Use a new key for a new "
            "request, or send the same body again.",
            code=Code.IDEMPOTENCY_MISMATCH,
        )


def _started(row: Any, *, replayed: bool) -> Started:
    return Started(
        session_id=row["id"],
        input=SessionInput.model_validate(row["input"]),
        start_state=row["start_state"],
        created_at=row["created_at"],
        replayed=replayed,
    )
