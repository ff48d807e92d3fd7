"""The end of a session: one transaction picks the outcome, whoever asks, and returns it ever after."""

from dataclasses import dataclass
from typing import Any

from conductor_ai.contracts.base import Json
from conductor_ai.contracts.models import ModelReply, Stop
from conductor_ai.contracts.session import FinishInput, FinishOutcome
from conductor_ai.contracts.status import CallState, Status, StopReason
from conductor_ai.contracts.tools import ToolError, ToolResult
from conductor_ai.errors import Fenced
from conductor_ai.stores.call_words import outcome_unknown
from conductor_ai.stores.deciding import settle
from conductor_ai.stores.transcript import StoredCall, stored_call
from conductor_ai.stores.writing import Journal, Writer
from conductor_ai.text import clean


@dataclass(frozen=True)
class End:
    """What whoever ends a session believes the outcome to be."""

    stop_reason: StopReason
    error_code: str | None = None
    error_message: str | None = None
    retryable: bool = False
    answered: int | None = None
    """Set: if the model has answered nothing since this call, the session ends with its answer."""


def status_of(reason: StopReason) -> Status:
    """`final_answer` completes, `cancelled` cancels, everything else fails."""
    match reason:
        case StopReason.FINAL_ANSWER:
            return Status.COMPLETED
        case StopReason.CANCELLED:
            return Status.CANCELLED
        case _:
            return Status.FAILED


def is_final(reply: ModelReply) -> bool:
    """Whether a reply is the answer that a run ends with."""
    return reply.stop in (Stop.END, Stop.TOOL_CALLS, Stop.MAX_TOKENS) and not reply.calls


async def end_with_answer(writer: Writer, call_no: int) -> FinishOutcome | None:
    """Write the end in the transaction that has stored the final answer of a run.

    None, and nothing is written, if `finish` has to look: a cancel was accepted, a message waits that leads on, or nobody knows
    yet what became of a call. Or the answer comes late: this call was given up, and the session has gone on to another one.
    """
    if writer.row["cancel_requested_at"] is not None or await writer.connection.fetchval(
        _STANDS_AGAINST, writer.session_id, call_no
    ):
        return None
    return await end(writer, End(StopReason.FINAL_ANSWER))


async def end(writer: Writer, wanted: End) -> FinishOutcome:
    """Write the end, or return the one that is stored. A cancel that was accepted wins over everything else."""
    if writer.ended:
        return stored_end(writer.row)
    if writer.row["cancel_requested_at"] is not None:
        wanted = End(StopReason.CANCELLED)
    connection = writer.connection
    if wanted.answered is not None and await _leave_unanswered(writer, wanted.answered):
        wanted = End(StopReason.FINAL_ANSWER)
    status = status_of(wanted.stop_reason)
    await _settle_calls(writer)
    if unread := await _unread(writer):
        writer.event("message.not_read", {"messages": unread})
    error: dict[str, Any] | None = None
    if status is Status.FAILED:
        error = {
            "code": wanted.error_code or "internal",
            "message": clean(wanted.error_message or ""),
            "retryable": wanted.retryable,
        }
    answer = await _final_answer(writer) if status is Status.COMPLETED else None
    row = await connection.fetchrow(
        "UPDATE conductor.sessions SET status = $2, stop_reason = $3, error = $4, final_answer = $5, retry = NULL, "
        "ended_at = clock_timestamp(), warnings = warnings || $6::jsonb, output = $7 WHERE id = $1 "
        "RETURNING status, stop_reason, steps, cost_usd, error",
        writer.session_id,
        status.value,
        wanted.stop_reason.value,
        error,
        None if answer is None else answer.text,
        ["The answer was cut at the model's output limit."] if answer is not None and answer.cut else [],
        None if answer is None else answer.output,
    )
    writer.event(
        "session.ended",
        {"status": status.value, "stop_reason": wanted.stop_reason.value, "error": error},
        dedupe="ended",
    )
    return stored_end(row)


def stored_end(row: Any) -> FinishOutcome:
    """The end that the row of an ended session holds."""
    error = row["error"] or {}
    return FinishOutcome(
        status=Status(row["status"]),
        stop_reason=StopReason(row["stop_reason"]),
        steps=row["steps"],
        cost_usd=row["cost_usd"],
        error_code=error.get("code"),
        error_message=error.get("message"),
    )


_STANDS_AGAINST = """
    SELECT EXISTS (SELECT FROM conductor.messages WHERE session_id = $1 AND (call_no IS NULL OR call_no > $2))
      OR EXISTS (SELECT FROM conductor.model_calls WHERE session_id = $1 AND call_no > $2 AND NOT superseded)
      OR EXISTS (SELECT FROM conductor.tool_calls WHERE session_id = $1
        AND (state = 'outcome_unknown' OR state = 'executing' AND (facts ->> 'writes')::boolean))
"""


async def _unread(writer: Writer, *, for_any_session: bool = False) -> list[str]:
    """The messages that nobody has read, oldest first. `for_any_session`: without those that are for an idle one alone."""
    rows = await writer.connection.fetch(
        "SELECT message_id FROM conductor.messages WHERE session_id = $1 AND call_no IS NULL AND NOT ($2 AND only_if_idle) "
        "ORDER BY part",
        writer.session_id,
        for_any_session,
    )
    return [row["message_id"] for row in rows]


async def _leave_unanswered(writer: Writer, answered: int) -> bool:
    """Make unread what was read after this call's answer. False, and nothing changes, if the model has answered since."""
    answered_since = await writer.connection.fetchval(
        "SELECT true FROM conductor.model_calls WHERE session_id = $1 AND call_no > $2 AND NOT superseded "
        "AND purpose = 'answer' LIMIT 1",
        writer.session_id,
        answered,
    )
    if not answered_since:
        await writer.connection.execute(
            "UPDATE conductor.messages SET call_no = NULL WHERE session_id = $1 AND call_no > $2",
            writer.session_id,
            answered,
        )
    return not answered_since


async def _settle_calls(writer: Writer) -> None:
    """Nothing stays open: by the session's id, not from anybody's memory."""
    connection, session_id = writer.connection, writer.session_id
    await connection.execute(
        "UPDATE conductor.approvals SET status = 'cancelled', closed_at = clock_timestamp() "
        "WHERE session_id = $1 AND status = 'pending'",
        session_id,
    )
    calls = await connection.fetch(
        "SELECT call_id, state, (facts ->> 'writes')::boolean AS writes FROM conductor.tool_calls WHERE session_id = $1 "
        "AND state IN ('ready', 'waiting', 'executing') ORDER BY call_no, idx",
        session_id,
    )
    message = "The session ended before this call had a result."
    abandoned = ToolResult(ok=False, content=message, error=ToolError(code="abandoned", message=message))
    for call in calls:
        if call["state"] == CallState.EXECUTING and call["writes"]:
            await settle(writer, call["call_id"], CallState.OUTCOME_UNKNOWN, outcome_unknown(), "state = 'executing'")
        else:
            # A call that only reads had no effect, however far it came.
            await settle(
                writer, call["call_id"], CallState.ABANDONED, abandoned, "state IN ('ready', 'waiting', 'executing')"
            )


@dataclass(frozen=True)
class _FinalAnswer:
    text: str
    cut: bool
    output: Json


async def _final_answer(writer: Writer) -> _FinalAnswer | None:
    answer = await writer.connection.fetchval(
        "SELECT answer FROM conductor.model_calls WHERE session_id = $1 AND NOT superseded AND purpose = 'answer' "
        "ORDER BY call_no DESC LIMIT 1",
        writer.session_id,
    )
    if answer is None:
        return None
    text = answer["final_answer"] if answer["final_answer"] is not None else answer["text"]
    return _FinalAnswer(str(text), answer["stop"] == Stop.MAX_TOKENS, answer.get("output"))


class Ending:
    """Reads and writes of the activity `finish` and of the reconciler."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def finish(self, request: FinishInput, run_id: str) -> tuple[FinishOutcome, bool]:
        """The end as it is stored, and whether a cancel was asked for that Temporal may not know of yet.

        A message that nobody has read puts an end off that it can lead on from. Under the lock that messages are stored
        under, so each is either seen here, or refused because the session has ended.

        Raises:
            Fenced: another run is the current one; it will write the end.
        """
        wanted = End(
            request.stop_reason, request.error_code, request.error_message, request.retryable, request.answered
        )
        if request.cancel_seen:
            wanted = End(StopReason.CANCELLED)

        async def change(writer: Writer) -> tuple[FinishOutcome, bool]:
            cancelled = request.cancel_seen or writer.row["cancel_requested_at"] is not None
            if request.reads_on and not cancelled and (unread := await _unread(writer, for_any_session=True)):
                status = Status(writer.row["status"])
                return FinishOutcome(status=status, stop_reason=wanted.stop_reason, unread=unread[-1]), False
            return await end(writer, wanted), writer.row["cancel_requested_at"] is not None

        try:
            return await self._journal.write(request.fence, run_id, change)
        except Fenced:
            # Asked afterwards: of two attempts at once, one waits for the other's lock and finds the end written.
            if (stored := await self._ended(request.fence.session_id)) is not None:
                return stored
            raise

    async def _ended(self, session_id: str) -> tuple[FinishOutcome, bool] | None:
        async with self._journal.database.connection() as connection:
            row = await connection.fetchrow("SELECT * FROM conductor.sessions WHERE id = $1", session_id)
        return (
            (stored_end(row), row["cancel_requested_at"] is not None) if row and row["ended_at"] is not None else None
        )

    async def force(self, session_id: str, wanted: End, *, expected_run: str | None) -> FinishOutcome | None:
        """End a session that Temporal ended, or never started, without us. None if its run changed meanwhile."""

        async def change(writer: Writer) -> FinishOutcome | None:
            if not writer.ended and writer.row["run_id"] != expected_run:
                return None
            return await end(writer, wanted)

        return await self._journal.write_unfenced(session_id, change)

    async def abandon(self, session_id: str, wanted: End) -> FinishOutcome | None:
        """End a session that was never started. None if it has started after all."""

        async def change(writer: Writer) -> FinishOutcome | None:
            if writer.row["start_state"] != "starting" or writer.row["run_id"] is not None:
                return None
            await writer.update("start_state = 'abandoned'")
            return await end(writer, wanted)

        return await self._journal.write_unfenced(session_id, change)

    async def unknown_calls(self, session_id: str) -> list[tuple[str, StoredCall]]:
        """Calls of an ended session whose outcome is not known: org id and call."""
        async with self._journal.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT t.*, s.org_id FROM conductor.tool_calls t JOIN conductor.sessions s ON s.id = t.session_id "
                "WHERE t.session_id = $1 AND t.state = 'outcome_unknown'",
                session_id,
            )
        return [(row["org_id"], stored_call(row)) for row in rows]
