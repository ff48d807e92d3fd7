"""The journal of model calls: look first, write what was paid, return what is stored."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from conductor_ai.compaction import usable
from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.models import ModelReply, Stop, Usage
from conductor_ai.contracts.session import FellBack, Fence, FinishOutcome, ModelInput, Tally
from conductor_ai.contracts.status import CallState, Status
from conductor_ai.errors import Fenced
from conductor_ai.stores.attempts import PAID, SPENT, Attempt, paid, say_paid, values_of
from conductor_ai.stores.ending import end_with_answer, is_final, stored_end
from conductor_ai.stores.postgres import Connection
from conductor_ai.stores.prefixes import Prefixes
from conductor_ai.stores.transcript import (
    Conversation,
    Prefix,
    Reading,
    StoredCall,
    conversation,
    counts_as_step,
    stored_call,
)
from conductor_ai.stores.writing import Journal, Writer
from conductor_ai.text import clean_json

BESIDE_THE_ANSWER = 0
"""The attempt of a claim that was made together with the answer. Every attempt of `run_tool` is a later one, so it takes
such a call over from an activity that was cut off, and the late one's result no longer counts."""


@dataclass(frozen=True)
class Answer:
    """One answered model call with the calls that it made."""

    reply: ModelReply
    calls: tuple[StoredCall, ...]
    cost_usd: Decimal
    usage: Usage
    org_id: str
    spent_usd: Decimal
    """By the session, this call included."""
    claimed: frozenset[str] = frozenset()
    """Calls that were claimed for the caller in the same transaction, and are its to run now."""
    ended: FinishOutcome | None = None
    """The end of the session, if it is completed: usually with this answer."""


@dataclass(frozen=True)
class Read:
    """What became of messages that a call was to read."""

    unanswered: bool
    """Whether no answer had read one of them yet."""
    gone: tuple[str, ...]
    """Those that had been taken back."""


class ModelJournal:
    """Reads and writes of the activity `call_model`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._prefixes = Prefixes()

    async def read_messages(self, fence: Fence, run_id: str, call_no: int, messages: tuple[str, ...]) -> Read:
        """Make these messages, and older ones that nobody has read, part of the conversation from this call on. Safe to repeat.

        Raises:
            Fenced: this run may not write any more.
        """

        async def change(writer: Writer) -> Read:
            rows = await writer.connection.fetch(
                "UPDATE conductor.messages SET call_no = $2, only_if_idle = false WHERE session_id = $1 AND call_no IS NULL "
                "AND (message_id = ANY($3) OR NOT only_if_idle) AND part <= (SELECT max(part) FROM conductor.messages "
                "WHERE session_id = $1 AND message_id = ANY($3)) RETURNING message_id",
                writer.session_id,
                call_no,
                list(messages),
            )
            if rows:
                await writer.update("awaiting_input = false")
                writer.event("message.read", {"call_no": call_no, "messages": sorted(r["message_id"] for r in rows)})
            known = await writer.connection.fetch(
                "SELECT message_id, NOT EXISTS (SELECT FROM conductor.model_calls c WHERE c.session_id = m.session_id "
                "AND c.call_no >= m.call_no AND c.call_no < $3 AND NOT c.superseded AND c.purpose = 'answer') "
                "AS open FROM conductor.messages m WHERE session_id = $1 AND message_id = ANY($2)",
                writer.session_id,
                list(messages),
                call_no,
            )
            there = {row["message_id"] for row in known}
            return Read(
                unanswered=any(row["open"] for row in known),
                gone=tuple(message for message in messages if message not in there),
            )

        return await self._journal.write(fence, run_id, change)

    async def begin(self, fence: Fence, run_id: str, call_no: int) -> Answer | Conversation:
        """The stored answer of this call, or the conversation to ask with. Claims the session for a new run.

        Raises:
            Fenced: this run may not write any more, so it must not pay for an answer either.
        """
        session_id = fence.session_id
        known = self._prefixes.get(session_id, run_id)
        # Nothing long is read under the lock: what is remembered after this is what the lock adds to.
        if known is not None or (call_no > 1 and not self._prefixes.reaches(session_id, call_no)):
            async with self._journal.database.connection() as connection:
                found = await self._look(connection, session_id, run_id, call_no, known)
                if found.ended:
                    raise Fenced("The session has ended; no model is asked any more.")
                if found.run_id == run_id:  # so this run has claimed the session before
                    return await self._found(connection, session_id, call_no, found)

        async def change(writer: Writer) -> Answer | Conversation:
            # What the run before had as final, this one has too: it begins again with a later call (continue-as-new).
            known = self._prefixes.get(session_id, writer.row["run_id"])
            found = await self._look(writer.connection, session_id, run_id, call_no, known)
            return await self._found(writer.connection, session_id, call_no, found)

        return await self._journal.write(fence, run_id, change)

    async def _look(
        self, connection: Connection, session_id: str, run_id: str, call_no: int, known: Prefix | None
    ) -> Reading:
        found = await conversation(connection, session_id, call_no, known)
        if found is None:
            raise Fenced("The session was deleted; no model is asked any more.")
        if found.run_id == run_id or (known is None and found.run_id is not None):
            self._prefixes.put(session_id, found.run_id, found.final)
        return found

    async def _found(
        self, connection: Connection, session_id: str, call_no: int, found: Reading
    ) -> Answer | Conversation:
        answer = await self._answer(connection, session_id, call_no) if found.answered else None
        return answer or found.conversation

    def forget(self, session_id: str) -> None:
        """Give back what is remembered of a session that is over."""
        self._prefixes.forget(session_id)

    async def last(self, session_id: str, run_id: str, call_no: int) -> Answer | None:
        """The stored answer of a call of this run, if the session is completed: an earlier attempt may have stored both."""
        async with self._journal.database.connection() as connection:
            over = "SELECT true FROM conductor.sessions WHERE id = $1 AND run_id = $2 AND status = 'completed'"
            if not await connection.fetchval(over, session_id, run_id):
                return None
            return await self._answer(connection, session_id, call_no)

    async def reusable(self, session_id: str, input_sha: str) -> Answer | None:
        """An answer to exactly this request that a reset left behind: it is paid already."""
        async with self._journal.database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT call_no, generation FROM conductor.model_calls WHERE session_id = $1 AND superseded AND input_sha = $2 "
                "ORDER BY generation DESC, call_no DESC LIMIT 1",
                session_id,
                input_sha,
            )
            if row is None:
                return None
            return await self._answer(connection, session_id, row["call_no"], generation=row["generation"])

    async def paid(self, session_id: str, run_id: str, attempt: Attempt) -> None:
        """Store what an attempt cost. Never fenced."""

        async def change(writer: Writer) -> None:
            await paid(writer, run_id, attempt)

        await self._journal.write_unfenced(session_id, change)

    async def spent(self, session_id: str, call_no: int) -> Tally:
        """What all attempts at a call used."""
        async with self._journal.database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT coalesce(sum(input_tokens + cache_read_tokens + cache_write_tokens), 0)::bigint AS input, "
                "coalesce(sum(output_tokens), 0)::bigint AS output, coalesce(sum(cost_usd), 0) AS cost "
                "FROM conductor.model_attempts WHERE session_id = $1 AND call_no = $2",
                session_id,
                call_no,
            )
        assert row is not None
        return Tally(input_tokens=row["input"], output_tokens=row["output"], cost_usd=row["cost"])

    async def fell_back(self, request: ModelInput, fell_back: FellBack, run_id: str) -> None:
        """Say that this call goes to another model, and why. Safe to repeat.

        Raises:
            Fenced: this run may not write any more.
        """
        dedupe = f"fallback:{request.call_no}:{run_id}"

        async def change(writer: Writer) -> None:
            if await writer.connection.fetchval(
                "SELECT true FROM conductor.events WHERE session_id = $1 AND dedupe = $2", writer.session_id, dedupe
            ):
                return
            warning = (
                f"From step {request.step} on {request.model} answers: {fell_back.model} could not be had "
                f"({fell_back.reason})."
            )
            await writer.update("retry = NULL, warnings = warnings || $2::jsonb", [warning])
            body = {"call_no": request.call_no, "step": request.step, "from_model": fell_back.model}
            body |= {"to_model": request.model, "reason": fell_back.reason}
            writer.event("model.fallback", body, dedupe=dedupe)

        await self._journal.write(request.fence, run_id, change)

    async def retrying(self, fence: Fence, run_id: str, attempt: Attempt, next_at: datetime, reason: str) -> None:
        """Show that an attempt failed and when the next one comes, and store what the failed one cost.

        Raises:
            Fenced: only what it cost was stored.
        """

        async def change(writer: Writer) -> None:
            news = await paid(writer, run_id, attempt)
            if not news or writer.row["last_call_no"] >= attempt.call_no:
                return  # written before; or a late attempt, whose successor has the answer already
            body = {
                "what": "model",
                "call_no": attempt.call_no,
                "attempt": attempt.attempt + 1,
                "next_at": next_at.isoformat(),
                "reason": reason,
            }
            await writer.update("retry = $2", body)
            writer.event("model.retrying", body, dedupe=f"retry:{attempt.call_no}:{run_id}:{attempt.attempt}")

        try:
            await self._journal.write(fence, run_id, change)
        except Fenced:
            await self.paid(fence.session_id, run_id, attempt)
            raise

    async def answered(
        self,
        fence: Fence,
        run_id: str,
        attempt: Attempt,
        *,
        input_sha: str,
        reply: ModelReply,
        calls: tuple[StoredCall, ...],
        started_at: datetime,
        latency_ms: int,
        reused: bool = False,
        claim: frozenset[str] = frozenset(),
        summary_of: int | None = None,
        may_end: bool = False,
    ) -> Answer:
        """Store attempt, answer and calls in one transaction. Returns what is stored, which may be an earlier answer.

        `reused`: the answer was left behind by a reset; nothing was paid, and its calls keep their ids.
        `summary_of`: it is to stand for so many turns, and is no step.

        `claim`: ids of calls that the caller will run at once. They are stored as claimed, unless somebody else's answer
        is the stored one or a cancel was accepted; `Answer.claimed` says which may really be run.

        `may_end`: if it is a final answer, and nothing stands against that, it ends the session in the same transaction.

        Raises:
            Fenced: only the attempt was stored.
        """

        async def change(writer: Writer) -> Answer:
            if writer.row["run_id"] == run_id and writer.row["last_call_no"] > attempt.call_no:
                # It was given up, perhaps in a worker that Temporal had lost, and the session went on without it.
                raise Fenced("A later model call of this session has its answer; this one was given up before.")
            counts = summary_of is None and counts_as_step(reply.stop, has_calls=bool(reply.calls))
            purpose = "answer" if summary_of is None else "summary" if usable(reply) else "no_summary"
            claimed = claim if writer.row["cancel_requested_at"] is None and not reused else frozenset()
            inserted = await writer.connection.fetchrow(
                _ANSWERED,
                *values_of(writer.session_id, run_id, attempt),
                not reused,
                input_sha,
                counts,
                clean_json(reply.model_dump(mode="json")),
                latency_ms,
                started_at,
                purpose,
                [] if reused else [_row(call, claimed) for call in calls],
                BESIDE_THE_ANSWER,
            )
            assert inserted is not None
            if inserted["paid"]:
                say_paid(writer, run_id, attempt)
            if inserted["generation"] is not None:
                if reused:
                    stored_calls = await self._taken_over(writer, attempt, calls, inserted["generation"])
                else:
                    stored_calls = tuple(replace(call, state=_state(call, claimed)) for call in calls)
                writer.event(
                    "model.answered",
                    {
                        "call_no": attempt.call_no,
                        "step": attempt.step,
                        "stop": reply.stop.value,
                        "reused": reused,
                        "calls": [{"call_id": c.call_id, "tool": c.tool, "state": c.state.value} for c in calls],
                    },
                    dedupe=f"answer:{attempt.call_no}:{inserted['generation']}",
                )
                if purpose == "summary":
                    body = {"call_no": attempt.call_no, "step": attempt.step, "turns": summary_of}
                    writer.event(
                        "context.compacted", body, dedupe=f"compacted:{attempt.call_no}:{inserted['generation']}"
                    )
                if reply.stop is Stop.INVALID_OUTPUT:
                    writer.event("output.rejected", {"call_no": attempt.call_no, "problems": list(reply.problems)})
                for call in (call for call in stored_calls if call.call_id in claimed):
                    writer.event(
                        "tool.started",
                        {
                            "call_id": call.call_id,
                            "tool": call.tool,
                            "call_no": attempt.call_no,
                            "attempt": BESIDE_THE_ANSWER,
                        },
                    )
                final = may_end and summary_of is None and is_final(reply)
                return Answer(
                    reply,
                    stored_calls,
                    inserted["cost"],
                    reply.usage,
                    org_id=writer.row["org_id"],
                    spent_usd=inserted["spent"],
                    claimed=claimed,
                    ended=await end_with_answer(writer, attempt.call_no) if final else None,
                )
            stored = await self._answer(writer.connection, fence.session_id, attempt.call_no)
            assert stored is not None
            return stored

        try:
            return await self._journal.write(fence, run_id, change)
        except Fenced:
            if not reused:
                await self.paid(fence.session_id, run_id, attempt)
            raise

    @staticmethod
    async def _taken_over(
        writer: Writer, attempt: Attempt, calls: tuple[StoredCall, ...], generation: int
    ) -> tuple[StoredCall, ...]:
        """The calls of an answer that a reset left behind, as calls of this one. They keep their ids."""
        rows = await writer.connection.fetch(
            "UPDATE conductor.tool_calls SET superseded = false, call_no = $3, generation = $4 "
            "WHERE session_id = $1 AND call_id = ANY($2) RETURNING *",
            writer.session_id,
            [call.call_id for call in calls],
            attempt.call_no,
            generation,
        )
        return tuple(stored_call(row) for row in sorted(rows, key=lambda row: row["idx"]))

    @staticmethod
    async def _answer(
        connection: Connection, session_id: str, call_no: int, *, generation: int | None = None
    ) -> Answer | None:
        row = await connection.fetchrow(
            "SELECT m.generation, m.answer, s.org_id, s.status, s.stop_reason, s.steps, s.error, s.cost_usd, (SELECT coalesce(sum(a.cost_usd), 0) FROM "
            "conductor.model_attempts a WHERE a.session_id = $1 AND a.call_no = $2) AS cost FROM conductor.model_calls m "
            "JOIN conductor.sessions s ON s.id = m.session_id WHERE m.session_id = $1 AND m.call_no = $2 "
            "AND CASE WHEN $3::int IS NULL THEN NOT m.superseded ELSE m.generation = $3 END",
            session_id,
            call_no,
            generation,
        )
        if row is None:
            return None
        reply = ModelReply.model_validate(row["answer"])
        calls = await connection.fetch(
            "SELECT * FROM conductor.tool_calls WHERE session_id = $1 AND call_no = $2 AND generation = $3 ORDER BY idx",
            session_id,
            call_no,
            row["generation"],
        )
        return Answer(
            reply,
            tuple(stored_call(call) for call in calls),
            row["cost"],
            reply.usage,
            org_id=row["org_id"],
            spent_usd=row["cost_usd"],
            ended=stored_end(row) if row["status"] == Status.COMPLETED else None,
        )


_ANSWERED = f"""
    WITH {PAID}, stored AS (
      INSERT INTO conductor.model_calls AS m (session_id, call_no, generation, step, model, input_sha, counts, answer, attempts,
        latency_ms, started_at, purpose)
      SELECT $1, $2, (SELECT coalesce(max(generation), 0) + 1 FROM conductor.model_calls WHERE session_id = $1 AND call_no = $2),
        $5, $6, $14, $15, $16, $4, $17, $18, $19
      ON CONFLICT (session_id, call_no) WHERE NOT superseded DO NOTHING RETURNING m.*
    ), calls AS (
      INSERT INTO conductor.tool_calls (session_id, call_no, generation, call_id, idx, provider_id, tool, arguments, args_sha,
        facts, state, replayable, result, finished_at, run_id, attempt, started_at)
      SELECT $1, $2, stored.generation, c.call_id, number - 1, c.provider_id, c.tool, c.arguments, c.args_sha, c.facts, c.state,
        c.replayable, c.result, CASE WHEN c.result IS NOT NULL THEN clock_timestamp() END,
        CASE WHEN c.claimed THEN $3 END, CASE WHEN c.claimed THEN $21::int END, CASE WHEN c.claimed THEN clock_timestamp() END
      FROM stored, ROWS FROM (jsonb_to_recordset($20) AS (call_id text, provider_id text, tool text, arguments jsonb,
        args_sha text, facts jsonb, state text, replayable boolean, result jsonb, claimed boolean)) WITH ORDINALITY
        AS c (call_id, provider_id, tool, arguments, args_sha, facts, state, replayable, result, claimed, number)
    )
    UPDATE conductor.sessions s SET {SPENT},
      retry = CASE WHEN stored.call_no IS NULL THEN s.retry END,
      last_call_no = greatest(s.last_call_no, stored.call_no),
      steps = CASE WHEN stored.counts THEN greatest(s.steps, stored.step) ELSE s.steps END
    FROM (SELECT) AS always LEFT JOIN paid ON true LEFT JOIN stored ON true WHERE s.id = $1
    RETURNING stored.generation, s.cost_usd AS spent, paid.call_no IS NOT NULL AS paid,
      -- What this statement inserts it does not see.
      coalesce(paid.cost_usd, 0) + (SELECT coalesce(sum(a.cost_usd), 0) FROM conductor.model_attempts a
        WHERE a.session_id = $1 AND a.call_no = $2) AS cost
"""
"""Attempt, answer and calls in one statement. No `generation`: another answer is stored already, and only the attempt was."""


def _state(call: StoredCall, claimed: frozenset[str]) -> CallState:
    return CallState.EXECUTING if call.call_id in claimed else call.state


def _row(call: StoredCall, claimed: frozenset[str]) -> JsonObject:
    """A call as it is stored with its answer."""
    return {
        "call_id": call.call_id,
        "provider_id": call.provider_id,
        "tool": call.tool,
        "arguments": clean_json(call.arguments),
        "args_sha": call.args_sha,
        "facts": call.facts.model_dump(mode="json"),
        "state": _state(call, claimed).value,
        "replayable": call.replayable,
        "result": None if call.result is None else clean_json(call.result.model_dump(mode="json")),
        "claimed": call.call_id in claimed,
    }
