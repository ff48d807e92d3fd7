"""The API's writes about a session that runs: messages to it. Scoped by org."""

from dataclasses import dataclass

from conductor_ai.contracts.session import SessionInput
from conductor_ai.errors import Code, Conflict, NotFound
from conductor_ai.stores.idempotency import Lease
from conductor_ai.stores.writing import Journal, Writer
from conductor_ai.text import clean

MESSAGES_MAX = 10_000
"""Messages of one session."""


@dataclass(frozen=True)
class Posted:
    """A message in the store."""

    message_id: str
    session_id: str
    start: SessionInput | None
    """To start the workflow with, if Temporal may not have accepted it yet."""
    lease: Lease | None = None
    """The right to say what becomes of it: who sends it again under its key may have taken that over."""


class Controls:
    """Writes of the route for messages."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def post(
        self,
        org_id: str,
        session_id: str,
        text: str,
        by: str,
        message_id: str,
        *,
        only_if_idle: bool = False,
        lease: Lease | None = None,
    ) -> Posted:
        """Store a message that nobody has read. The same one again is stored already.

        With `only_if_idle` it is read only if the workflow names it, and not along with another one.

        Raises:
            NotFound: this org has no such session.
            Conflict: it has ended, is being cancelled, or has as many messages as it may; or another attempt has taken over the
                lease.
        """

        async def change(writer: Writer) -> SessionInput | None:
            await _of(writer, org_id)
            if lease is not None:
                await lease.hold(writer.connection)
            if writer.ended or writer.row["cancel_requested_at"] is not None:
                raise Conflict("The session has ended, or is being cancelled; it reads no more messages.")
            if not await _known(writer, message_id):
                await store(writer)
            if writer.row["start_state"] != "starting":
                return None
            stored = await writer.connection.fetchval("SELECT input FROM conductor.sessions WHERE id = $1", session_id)
            return SessionInput.model_validate(stored)

        async def store(writer: Writer) -> None:
            part = await writer.connection.fetchval(
                "SELECT coalesce(max(part), -1) + 1 FROM conductor.messages WHERE session_id = $1", session_id
            )
            if part >= MESSAGES_MAX:
                raise Conflict(
                    f"The session has {MESSAGES_MAX} messages, which is the most. Start another one.",
                    code=Code.TOO_MANY_MESSAGES,
                )
            await writer.connection.execute(
                "INSERT INTO conductor.messages (session_id, part, role, body, message_id, call_no, by, only_if_idle) "
                "VALUES ($1, $2, 'user', $3, $4, NULL, $5, $6)",
                session_id,
                part,
                clean(text),
                message_id,
                by,
                only_if_idle,
            )
            writer.event("message.received", {"message_id": message_id, "by": by})

        start = await self._journal.write_unfenced(session_id, change)
        return Posted(message_id, session_id, start, lease)

    async def withdraw(self, posted: Posted) -> bool:
        """Take a message back that the session is not known to have taken. False: the model has read it meanwhile.

        Raises:
            Conflict: another attempt has taken over the lease, and may have been told that the message is taken.
        """

        async def change(writer: Writer) -> bool:
            if posted.lease is not None:
                await posted.lease.hold(writer.connection)
            gone = await writer.connection.fetchval(
                "DELETE FROM conductor.messages WHERE session_id = $1 AND message_id = $2 AND call_no IS NULL RETURNING true",
                posted.session_id,
                posted.message_id,
            )
            if gone:
                if await _waits_for_another(writer):
                    await writer.update("awaiting_input = true")
                writer.event("message.refused", {"message_id": posted.message_id})
            return not await _known(writer, posted.message_id)

        return await self._journal.write_unfenced(posted.session_id, change)


async def _waits_for_another(writer: Writer) -> bool:
    """Whether the turn has ended and nothing is left to read. The session did not say so while this message was there."""
    last = await writer.connection.fetchval(
        "SELECT type FROM conductor.events e WHERE session_id = $1 AND type IN ('session.input_awaited', 'message.read', "
        "'session.claimed') AND NOT EXISTS (SELECT FROM conductor.messages m WHERE m.session_id = e.session_id "
        "AND m.call_no IS NULL AND NOT m.only_if_idle) ORDER BY seq DESC LIMIT 1",
        writer.session_id,
    )
    return bool(last == "session.input_awaited")


async def _known(writer: Writer, message_id: str) -> bool:
    return bool(
        await writer.connection.fetchval(
            "SELECT true FROM conductor.messages WHERE session_id = $1 AND message_id = $2",
            writer.session_id,
            message_id,
        )
    )


async def _of(writer: Writer, org_id: str) -> None:
    if writer.row["org_id"] != org_id:
        raise NotFound("There is no such session.")
