"""What was answered under an Idempotency-Key, and who is about to answer.

The row is written before the request is carried out and leased to the attempt that does so. An attempt that dies loses
its lease; the next one carries the request out again, under the same token, and is the one that keeps the answer.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from conductor_ai.errors import Code, Conflict, InvalidRequest
from conductor_ai.stores.postgres import Connection, Database
from conductor_ai.stores.sessions import IDEMPOTENCY_HOURS

LEASE_SECONDS = 10.0
"""How long an attempt that says nothing keeps others waiting. Longer than any answer may take; longer waits renew it."""

_LET_GO = "leased_until = clock_timestamp()"
_SESSION = re.compile(rb"sess_[0-9a-f]{32}")

_MISMATCH = (
    "This Idempotency-Key was used with another body within the last 24 hours. Use a new key for a new request, or send "
    "the same body again."
)


@dataclass(frozen=True)
class KeyedRequest:
    """What a key is unique in."""

    org_id: str
    route: str
    """Method and path, with the values of its parameters."""
    key: str
    body_sha: str


@dataclass(frozen=True)
class Answer:
    """An answer as it was given."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    about: frozenset[str] = frozenset()
    """Sessions that it may tell of without naming them."""


@dataclass(frozen=True)
class Claimed:
    """The right to carry the request out."""

    token: str
    """Names the request: the same in every attempt at it."""
    holder: str
    """Names this attempt."""
    first: bool
    """False if an earlier attempt may have done some of it."""


@dataclass(frozen=True)
class Lease:
    """A request, and the right to carry it out."""

    request: KeyedRequest
    claimed: Claimed

    async def hold(self, connection: Connection) -> None:
        """Keep other attempts from taking over until the end of this transaction.

        Raises:
            Conflict: another one has (`idempotency_in_flight`).
        """
        held = await connection.fetchval(
            "SELECT true FROM conductor.idempotency WHERE org_id = $1 AND route = $2 AND key = $3 AND holder = $4 "
            "AND status IS NULL FOR UPDATE",
            self.request.org_id,
            self.request.route,
            self.request.key,
            self.claimed.holder,
        )
        if not held:
            raise Conflict(
                "The same request, sent again, is being carried out in the place of this one.",
                code=Code.IDEMPOTENCY_IN_FLIGHT,
            )


@dataclass(frozen=True)
class InFlight:
    """Somebody else carries it out right now."""

    seconds: float
    """At most, until their lease is over."""


class Answers:
    """The answers of all orgs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, request: KeyedRequest) -> Claimed | Answer | InFlight:
        """The stored answer; or the right to make it; or the news that somebody is at it.

        Raises:
            InvalidRequest: the key came with another body before (`idempotency_mismatch`).
            Unavailable: Postgres is away.
        """
        token, holder = secrets.token_hex(16), secrets.token_hex(16)
        async with self._database.connection() as connection:
            mine = await connection.fetchrow(
                "INSERT INTO conductor.idempotency AS i (org_id, route, key, body_sha, token, holder, leased_until) "
                "VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7)) "
                "ON CONFLICT (org_id, route, key) DO UPDATE SET body_sha = excluded.body_sha, holder = excluded.holder, "
                "leased_until = excluded.leased_until, session_id = NULL, status = NULL, headers = NULL, body = NULL, "
                "token = CASE WHEN i.created_at < clock_timestamp() - make_interval(hours => $8) THEN excluded.token "
                "ELSE i.token END, "
                "created_at = CASE WHEN i.created_at < clock_timestamp() - make_interval(hours => $8) "
                "THEN clock_timestamp() ELSE i.created_at END "
                "WHERE i.created_at < clock_timestamp() - make_interval(hours => $8) "
                "OR (i.status IS NULL AND i.leased_until <= clock_timestamp() AND i.body_sha = excluded.body_sha) "
                "RETURNING token",
                request.org_id, request.route, request.key, request.body_sha, token, holder, LEASE_SECONDS, IDEMPOTENCY_HOURS,
            )  # fmt: skip
            if mine is not None:
                return Claimed(mine["token"], holder, first=mine["token"] == token)
            row = await connection.fetchrow(
                "SELECT body_sha, status, headers, body, "
                "extract(epoch FROM leased_until - clock_timestamp())::float8 AS seconds "
                "FROM conductor.idempotency WHERE org_id = $1 AND route = $2 AND key = $3",
                request.org_id,
                request.route,
                request.key,
            )
        if row is None:  # given up just now
            return InFlight(0.0)
        if row["body_sha"] != request.body_sha:
            raise InvalidRequest(_MISMATCH, code=Code.IDEMPOTENCY_MISMATCH)
        if row["status"] is None:
            return InFlight(max(0.0, row["seconds"] or 0.0))
        return Answer(row["status"], row["headers"], row["body"])

    async def renew(self, request: KeyedRequest, claimed: Claimed) -> None:
        """Say that the attempt goes on."""
        await self._execute(
            "leased_until = clock_timestamp() + make_interval(secs => $5)", request, claimed, LEASE_SECONDS
        )

    async def keep(self, request: KeyedRequest, claimed: Claimed, answer: Answer) -> None:
        """Store the answer, unless another attempt has taken over meanwhile, or it tells of a session that was deleted since it
        was made: then the same request may be tried again at once."""
        told = [*answer.about.union(text.decode() for text in _SESSION.findall(answer.body))]
        async with self._database.transaction() as connection:
            # A deletion that is under way is waited for, and one that begins now waits: it takes the answer along.
            await connection.execute(
                "SELECT FROM conductor.sessions WHERE org_id = $1 AND id = ANY($2) ORDER BY id FOR KEY SHARE",
                request.org_id,
                told,
            )
            deleted = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM conductor.audit WHERE org_id = $1 AND subject = ANY($2) "
                "AND action = 'session.deleted')",
                request.org_id,
                told,
            )
            if deleted:
                await self._change(connection, _LET_GO, request, claimed)
                return
            await self._change(
                connection,
                "status = $5, headers = $6, body = $7",
                request,
                claimed,
                answer.status,
                dict(answer.headers),
                answer.body,
            )

    async def give_up(self, request: KeyedRequest, claimed: Claimed) -> None:
        """End the lease: the same request may be tried again at once, and goes on under the same token."""
        await self._execute(_LET_GO, request, claimed)

    async def forget(self, request: KeyedRequest, claimed: Claimed) -> None:
        """The request was refused and changed nothing: its key is free again."""
        async with self._database.connection() as connection:
            await connection.execute(
                "DELETE FROM conductor.idempotency WHERE org_id = $1 AND route = $2 AND key = $3 AND holder = $4 "
                "AND status IS NULL",
                request.org_id,
                request.route,
                request.key,
                claimed.holder,
            )

    async def _execute(self, change: str, request: KeyedRequest, claimed: Claimed, *values: object) -> None:
        async with self._database.connection() as connection:
            await self._change(connection, change, request, claimed, *values)

    @staticmethod
    async def _change(
        connection: Connection, change: str, request: KeyedRequest, claimed: Claimed, *values: object
    ) -> None:
        await connection.execute(
            f"UPDATE conductor.idempotency SET {change} "
            "WHERE org_id = $1 AND route = $2 AND key = $3 AND holder = $4 AND status IS NULL",
            request.org_id,
            request.route,
            request.key,
            claimed.holder,
            *values,
        )
