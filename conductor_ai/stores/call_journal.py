"""The journal of tool calls: asked, claimed before the effect, settled once."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from conductor_ai.contracts.base import Json, JsonObject
from conductor_ai.contracts.decisions import Decision
from conductor_ai.contracts.policy import OnExpiry
from conductor_ai.contracts.session import Fence, Prepared
from conductor_ai.contracts.status import CallState
from conductor_ai.contracts.tools import Consequence, Facts, ToolResult
from conductor_ai.errors import Fenced, NotFound
from conductor_ai.names import new_id
from conductor_ai.stores import call_words, grants
from conductor_ai.stores.deciding import apply_decision, edited_arguments, settle
from conductor_ai.stores.transcript import StoredCall, stored_call
from conductor_ai.stores.writing import Journal, Writer
from conductor_ai.text import PREVIEW_BYTES, clean, clean_json, shorten


@dataclass(frozen=True)
class Claimed:
    """The call is ours to run: state `executing` is committed."""

    call: StoredCall
    seen: Json = None
    """What the person who approved was shown, in the form for programs."""


@dataclass(frozen=True)
class NotClaimed:
    """The call is not ours to run: it has a result, or an earlier attempt may have had its effect."""

    call: StoredCall
    executing: bool
    """True if an earlier attempt was cut off and the call may not simply be repeated."""


@dataclass(frozen=True)
class Asking:
    """What people are asked: the call with its consequence, and until when."""

    call: StoredCall
    round: int
    consequence: Consequence
    expires_at: datetime
    on_expiry: OnExpiry
    rule: str
    grants: bool = True
    """Whether a grant may decide in the place of a person."""


@dataclass(frozen=True)
class CallOfSession:
    """A call with what the policy has to know of its session."""

    org_id: str
    model: str
    cost_usd: Decimal
    ask_every_call: bool
    call: StoredCall


class Revised(Protocol):
    """Checks a person's arguments against the tool."""

    def __call__(self, tool: str, arguments: JsonObject, /) -> "RevisedCall": ...


@dataclass(frozen=True)
class RevisedCall:
    """A person's arguments after validation, or why they do not fit."""

    arguments: JsonObject
    sha256: str
    facts: Facts
    problem: str | None = None


ROUNDS_MAX = 20
"""How often one call may be asked. A call that needs more is given up."""


async def _seen(writer: Writer, call_id: str) -> Json:
    """What the person who approved was shown."""
    seen: Json = await writer.connection.fetchval(
        "SELECT consequence -> 'data' FROM conductor.approvals WHERE call_id = $1 AND status = 'approved' "
        "ORDER BY round DESC LIMIT 1",
        call_id,
    )
    return seen


class CallJournal:
    """Reads and writes of the activities `prepare_call`, `run_tool` and `record`."""

    def __init__(self, journal: Journal, *, allow_unverified: bool = True) -> None:
        self._journal = journal
        self._allow_unverified = allow_unverified
        """Whether an approval counts that no API key stands behind (CONDUCTOR_ALLOW_SIGNALS)."""

    async def load(self, session_id: str, call_id: str) -> CallOfSession:
        """The call, with what the policy knows of its session.

        Raises:
            NotFound: the session has no such call.
        """
        async with self._journal.database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT t.*, s.org_id, s.model, s.cost_usd, coalesce((s.input ->> 'ask_every_call')::boolean, false) AS ask_every_call "
                "FROM conductor.tool_calls t JOIN conductor.sessions s ON s.id = t.session_id "
                "WHERE t.call_id = $1 AND t.session_id = $2",
                call_id,
                session_id,
            )
        if row is None:
            raise NotFound("The session has no such call.")
        return CallOfSession(row["org_id"], row["model"], row["cost_usd"], row["ask_every_call"], stored_call(row))

    async def ask(self, fence: Fence, run_id: str, asking: Asking) -> Prepared:
        """Put the call before the people who decide, or return what is decided already, by a person or by a grant.

        Raises:
            Fenced: this run may not write any more, or a cancel was accepted.
        """
        call, consequence = asking.call, asking.consequence

        async def change(writer: Writer) -> Prepared:
            if writer.row["cancel_requested_at"] is not None:
                raise Fenced("A cancel was accepted; nobody is asked any more.")
            connection = writer.connection
            if consequence.refused is not None:
                error = consequence.refused
                result = ToolResult(ok=False, content=error.message, error=error)
                await settle(writer, call.call_id, CallState.INVALID, result, "state IN ('ready', 'waiting')")
                await connection.execute(
                    "UPDATE conductor.approvals SET status = 'cancelled', closed_at = clock_timestamp() "
                    "WHERE call_id = $1 AND status = 'pending'",
                    call.call_id,
                )
            state = CallState(
                await connection.fetchval("SELECT state FROM conductor.tool_calls WHERE call_id = $1", call.call_id)
            )
            if state.settled:
                return Prepared(state="settled", call_state=state)
            approval_id = await connection.fetchval(
                "INSERT INTO conductor.approvals (id, call_id, session_id, org_id, args_sha, consequence, rule, expires_at, round, "
                "arguments, on_expiry) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) "
                "ON CONFLICT (call_id, round) WHERE status <> 'superseded' DO NOTHING RETURNING id",
                new_id("appr"),
                call.call_id,
                writer.session_id,
                writer.row["org_id"],
                call.args_sha,
                clean_json(consequence.model_dump(mode="json")),
                asking.rule,
                asking.expires_at,
                asking.round,
                call.arguments,
                asking.on_expiry.value,
            )
            if approval_id is None:
                return await self._asked_before(writer, asking)
            await connection.execute(
                "UPDATE conductor.tool_calls SET state = 'waiting' WHERE call_id = $1 AND state = 'ready'", call.call_id
            )
            writer.event("approval.requested", {"approval_id": approval_id, "call_id": call.call_id, "tool": call.tool})
            # Only the first time: who is asked again is to see what has changed.
            may = asking.grants and asking.round == 1
            used = await grants.use(writer, call.tool, call.arguments) if may else None
            if used is not None:
                return await self._granted(writer, asking, approval_id, used)
            return Prepared(
                state="pending", approval_id=approval_id, summary=shorten(consequence.summary, PREVIEW_BYTES)
            )

        return await self._journal.write(fence, run_id, change)

    @staticmethod
    async def _granted(writer: Writer, asking: Asking, approval_id: str, used: grants.Used) -> Prepared:
        """Approve by a grant: the record says which, and who gave it."""
        call = asking.call
        stored = await writer.connection.fetchrow(
            "INSERT INTO conductor.decisions (call_id, decision_id, args_sha, decision, by, verified, via, comment, counted, round) "
            "VALUES ($1, $2, $3, 'approve', $4, true, 'grant', NULL, true, $5) RETURNING at",
            call.call_id,
            used.grant_id,
            call.args_sha,
            used.granted_by,
            asking.round,
        )
        assert stored is not None
        await writer.connection.execute(
            "UPDATE conductor.approvals SET status = 'approved', closed_at = $2 WHERE id = $1",
            approval_id,
            stored["at"],
        )
        await writer.connection.execute(
            "UPDATE conductor.tool_calls SET state = 'ready' WHERE call_id = $1 AND state = 'waiting'", call.call_id
        )
        writer.event(
            "grant.used",
            {"grant_id": used.grant_id, "approval_id": approval_id, "call_id": call.call_id, "by": used.granted_by},
        )
        decision = Decision(
            call_id=call.call_id,
            decision_id=used.grant_id,
            decision="approve",
            arguments_sha256=call.args_sha,
            round=asking.round,
            by=used.granted_by,
            verified=True,
            via="grant",
            at=stored["at"],
        )
        return Prepared(state="decided", approval_id=approval_id, decision=decision)

    @staticmethod
    async def _asked_before(writer: Writer, asking: Asking) -> Prepared:
        call = asking.call
        row = await writer.connection.fetchrow(
            "SELECT a.id, a.status, a.expires_at, a.consequence, d.decision_id, d.decision, d.by, d.verified, d.via, d.comment, "
            "d.content_sha, d.at FROM conductor.approvals a LEFT JOIN conductor.decisions d ON d.call_id = a.call_id AND d.counted "
            "AND d.round = a.round WHERE a.call_id = $1 AND a.round = $2 AND a.status <> 'superseded'",
            call.call_id,
            asking.round,
        )
        assert row is not None
        if row["status"] == "pending" and row["expires_at"] != asking.expires_at:
            await writer.connection.execute(
                "UPDATE conductor.approvals SET expires_at = $2 WHERE id = $1", row["id"], asking.expires_at
            )
            writer.event("approval.extended", {"approval_id": row["id"], "call_id": call.call_id})
        if row["status"] in ("approved", "edited") and row["decision_id"] is not None:
            decision = Decision(
                call_id=call.call_id,
                decision_id=row["decision_id"],
                decision=row["decision"],
                arguments_sha256=call.args_sha,
                round=asking.round,
                content_sha256=row["content_sha"],
                by=row["by"],
                verified=row["verified"],
                via=row["via"],
                comment=row["comment"],
                at=row["at"],
            )
            return Prepared(state="decided", approval_id=row["id"], decision=decision)
        return Prepared(state="pending", approval_id=row["id"], summary=str(row["consequence"].get("summary", "")))

    async def revise(self, fence: Fence, run_id: str, round_: int, decision: Decision, check: Revised) -> StoredCall:
        """Give a call the arguments that a person wrote, and make it ready to be asked once more. Safe to repeat.

        An edit whose text is not stored (it came past the API) changes nothing but that: the call is asked again.
        """

        async def change(writer: Writer) -> StoredCall:
            row = await writer.connection.fetchrow(
                "SELECT * FROM conductor.tool_calls WHERE call_id = $1 AND session_id = $2",
                decision.call_id,
                writer.session_id,
            )
            if row is None:
                raise NotFound("The session has no such call.")
            call = stored_call(row)
            if call.round != round_ or call.state.settled:
                return call  # done before
            counted = await apply_decision(writer, decision, allow_unverified=self._allow_unverified)
            wanted = await edited_arguments(writer, decision)
            if wanted is None:
                await self._reopen(writer, call, [])
            else:
                revised = check(call.tool, wanted)
                if revised.problem is None:
                    await self._reopen(writer, call, [call_words.edited_note(revised.arguments)], revised)
                else:
                    result = call_words.edit_invalid(revised.problem)
                    await settle(writer, call.call_id, CallState.INVALID, result, "state IN ('ready', 'waiting')")
            if not counted:
                await writer.connection.execute(
                    "UPDATE conductor.approvals SET status = 'cancelled', closed_at = clock_timestamp() "
                    "WHERE call_id = $1 AND round = $2 AND status = 'pending'",
                    call.call_id,
                    round_,
                )
            return stored_call(
                await writer.connection.fetchrow("SELECT * FROM conductor.tool_calls WHERE call_id = $1", call.call_id)
            )

        return await self._journal.write(fence, run_id, change)

    @staticmethod
    async def _reopen(writer: Writer, call: StoredCall, notes: list[str], revised: RevisedCall | None = None) -> None:
        """Let the call be asked once more: with other arguments, or because what was approved is not what would happen."""
        facts = call.facts if revised is None else revised.facts
        await writer.connection.execute(
            "UPDATE conductor.tool_calls SET state = 'ready', round = round + 1, notes = notes || $2::jsonb, arguments = $3, "
            "args_sha = $4, facts = $5, replayable = $6, run_id = NULL, attempt = NULL, started_at = NULL WHERE call_id = $1",
            call.call_id,
            clean_json(notes),
            call.arguments if revised is None else clean_json(revised.arguments),
            call.args_sha if revised is None else revised.sha256,
            facts.model_dump(mode="json"),
            facts.replayable,
        )
        writer.event(
            "tool.asked_again",
            {"call_id": call.call_id, "tool": call.tool, "round": call.round + 1, "edited": revised is not None},
        )

    async def again(
        self, session_id: str, run_id: str, attempt: int, call_id: str, result: ToolResult
    ) -> tuple[CallState, int]:
        """Let a call that did nothing, because its effect has changed, be asked once more. Returns its state and round."""

        async def change(writer: Writer) -> tuple[CallState, int]:
            row = await writer.connection.fetchrow(
                "SELECT * FROM conductor.tool_calls WHERE call_id = $1 AND session_id = $2", call_id, writer.session_id
            )
            if row is None:
                raise NotFound("The session has no such call.")
            call = stored_call(row)
            mine = (row["state"], row["run_id"], row["attempt"]) == ("executing", run_id, attempt)
            if not mine or writer.ended:
                return call.state, call.round
            if call.round >= ROUNDS_MAX:
                await settle(writer, call_id, CallState.FAILED, result, "state = 'executing'")
                return CallState.FAILED, call.round
            await self._reopen(writer, call, [call_words.asked_again_note(result.content)])
            return CallState.READY, call.round + 1

        return await self._journal.write_unfenced(session_id, change)

    async def claim(
        self,
        fence: Fence,
        run_id: str,
        attempt: int,
        call_id: str,
        *,
        decision: Decision | None,
        must_be_approved: bool,
        round_: int = 1,
        repeated: bool = False,
    ) -> Claimed | NotClaimed:
        """Take the call before its effect.

        A call that is `executing` under an older attempt or run is taken over only if it is replayable. A call that
        must be approved is taken only if the approval of exactly these arguments is stored.

        `repeated`: this very execution has asked before, did not hear whether that was committed, and has run nothing
        yet: what it then holds already is its own.

        Raises:
            Fenced: this run may not write any more, or a cancel was accepted.
        """

        async def change(writer: Writer) -> Claimed | NotClaimed:
            if writer.row["cancel_requested_at"] is not None:
                raise Fenced("A cancel was accepted; no call is begun any more.")
            if decision is not None:
                await apply_decision(writer, decision, allow_unverified=self._allow_unverified)
            taken = await writer.connection.fetchrow(
                "UPDATE conductor.tool_calls t SET state = 'executing', run_id = $3, attempt = $4, "
                "started_at = coalesce(started_at, clock_timestamp()) "
                "WHERE call_id = $1 AND session_id = $2 AND (state = 'ready' OR (state = 'executing' AND replayable "
                "AND (run_id <> $3 OR attempt < $4))) "
                "AND t.round = $6 AND (NOT $5 OR EXISTS (SELECT FROM conductor.approvals a WHERE a.call_id = t.call_id "
                "AND a.round = t.round AND a.status = 'approved' AND a.args_sha = t.args_sha)) RETURNING *",
                call_id,
                writer.session_id,
                run_id,
                attempt,
                must_be_approved,
                round_,
            )
            if taken is None:
                held = await writer.connection.fetchrow(
                    "SELECT * FROM conductor.tool_calls WHERE call_id = $1 AND session_id = $2",
                    call_id,
                    writer.session_id,
                )
                if held is None:
                    raise NotFound("The session has no such call.")
                if repeated and (held["state"], held["run_id"], held["attempt"]) == ("executing", run_id, attempt):
                    return Claimed(stored_call(held), seen=await _seen(writer, call_id))
                return NotClaimed(stored_call(held), executing=held["state"] == "executing")
            await writer.no_retry(call_id)
            writer.event(
                "tool.started",
                {"call_id": call_id, "tool": taken["tool"], "call_no": taken["call_no"], "attempt": attempt},
            )
            seen = await _seen(writer, call_id) if must_be_approved else None
            return Claimed(stored_call(taken), seen=seen)

        return await self._journal.write(fence, run_id, change)

    async def settled(
        self, session_id: str, run_id: str, attempt: int, call_id: str, state: CallState, result: ToolResult
    ) -> CallState:
        """Store what this attempt's run came to. Returns the state that is stored.

        The claim is the fence here: while the row still names this run and attempt, nobody else has taken the call, and
        what happened is worth knowing even if the session has ended or was reset meanwhile.
        """

        async def change(writer: Writer) -> CallState:
            holds = "state IN ('executing', 'outcome_unknown') AND run_id = $5 AND attempt = $6"
            if await settle(writer, call_id, state, result, holds, run_id, attempt):
                return state
            return CallState(
                await writer.connection.fetchval("SELECT state FROM conductor.tool_calls WHERE call_id = $1", call_id)
            )

        return await self._journal.write_unfenced(session_id, change)

    async def resolved(self, session_id: str, call_id: str, state: CallState, result: ToolResult) -> CallState:
        """Store what became of a call whose attempt was cut off, once the ledger told."""

        async def change(writer: Writer) -> CallState:
            await settle(writer, call_id, state, result, "state IN ('executing', 'outcome_unknown')")
            return CallState(
                await writer.connection.fetchval("SELECT state FROM conductor.tool_calls WHERE call_id = $1", call_id)
            )

        return await self._journal.write_unfenced(session_id, change)

    async def released(
        self, fence: Fence, run_id: str, attempt: int, call_id: str, *, next_at: datetime | None, reason: str
    ) -> None:
        """Give a claimed call back that had no effect, and show when it is tried again (None: no more)."""

        async def change(writer: Writer) -> None:
            given = await writer.connection.fetchval(
                "UPDATE conductor.tool_calls SET state = 'ready' WHERE call_id = $1 AND session_id = $2 "
                "AND state = 'executing' AND run_id = $3 AND attempt = $4 RETURNING true",
                call_id,
                writer.session_id,
                run_id,
                attempt,
            )
            if not given:
                return
            body = {
                "what": "tool",
                "call_id": call_id,
                "attempt": attempt + 1,
                "next_at": None if next_at is None else next_at.isoformat(),
                "reason": clean(reason),
            }
            await writer.update("retry = $2", None if next_at is None else body)
            writer.event(
                "tool.retrying" if next_at else "tool.gave_up", body, dedupe=f"retry:{call_id}:{run_id}:{attempt}"
            )

        await self._journal.write(fence, run_id, change)
