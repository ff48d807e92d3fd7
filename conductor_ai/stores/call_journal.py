"""The journal of tool calls: asked, claimed before the effect, settled once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from conductor_ai.contracts.base import Json
from conductor_ai.contracts.decisions import TEMPORAL_ACCESS, Decision
from conductor_ai.contracts.session import (
    CallBlocked,
    CallDenied,
    CallExpired,
    CallFailed,
    Change,
    Fence,
    Prepared,
    RecordOutcome,
)
from conductor_ai.contracts.status import CallState
from conductor_ai.contracts.tools import Consequence, ToolError, ToolResult
from conductor_ai.errors import Fenced, NotFound
from conductor_ai.names import new_id
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


def outcome_unknown() -> ToolResult:
    """What the model is told of a call that may or may not have happened."""
    return _refusal(
        "outcome_unknown",
        "The call was interrupted and it is not known whether it took effect. Do not repeat it blindly: check first.",
    )


def _refusal(code: str, message: str) -> ToolResult:
    return ToolResult(ok=False, content=message, error=ToolError(code=code, message=message))


def denied_result(decision: Decision) -> ToolResult:
    """What the model is told of a denial."""
    said = f' They said: "{decision.comment}".' if decision.comment else ""
    return _refusal(
        "denied",
        f"A person looked at this call and denied it; it was not run.{said} Do not propose it again. Go on without it, or "
        "ask what they would accept.",
    )


def expired_result() -> ToolResult:
    """What the model is told when nobody decided in time."""
    return _refusal(
        "approval_expired",
        "Nobody decided about this call in time; it was not run. That is not a denial, but do not wait for it: go on "
        "without it and say what is missing.",
    )


async def settle(writer: Writer, call_id: str, state: CallState, result: ToolResult, where: str, *values: Any) -> bool:
    """Write a call's result if `where` still holds. Returns whether it did."""
    row = await writer.connection.fetchrow(
        "UPDATE conductor.tool_calls SET state = $3, result = $4, finished_at = clock_timestamp() "
        f"WHERE call_id = $1 AND session_id = $2 AND {where} RETURNING call_no, tool",
        call_id,
        writer.session_id,
        state.value,
        clean_json(result.model_dump(mode="json")),
        *values,
    )
    if row is None:
        return False
    writer.event(
        "tool.finished",
        {"call_id": call_id, "tool": row["tool"], "call_no": row["call_no"], "state": state.value, "ok": result.ok},
    )
    return True


def storable(decision: Decision) -> Decision:
    """The decision without what Postgres refuses: a write of it that can never succeed would never end."""
    comment = None if decision.comment is None else clean(decision.comment)
    return decision.model_copy(
        update={"decision_id": clean(decision.decision_id), "by": clean(decision.by), "comment": comment}
    )


async def apply_decision(writer: Writer, decision: Decision, *, allow_unverified: bool = True) -> bool:
    """Write a decision that the workflow accepted; approve makes the call ready, deny settles it. False: no news.

    Whoever reaches Temporal can send signals and updates and say in them whatever they like. So what a decision says of
    its author counts for nothing: it is verified exactly if the API wrote down the intention, for a key, before it sent
    the decision. Without `allow_unverified` no other approval counts; a denial always does, it is the safe side.
    """
    connection = writer.connection
    decision = storable(decision)
    stored = await connection.fetchrow(
        "SELECT decision, args_sha, by, via, verified FROM conductor.decisions WHERE call_id = $1 AND decision_id = $2",
        decision.call_id,
        decision.decision_id,
    )
    same = stored is not None and (stored["decision"], stored["args_sha"]) == (
        decision.decision,
        decision.arguments_sha256,
    )
    if stored is not None and not same:
        # Somebody's intention has this id, and this is not it: nothing of theirs may be said to have decided.
        decision = decision.model_copy(update={"decision_id": new_id("dec")})
    intended = stored if stored is not None and same and stored["verified"] else None
    by = intended["by"] if intended else TEMPORAL_ACCESS
    verified = intended is not None
    if not verified and not allow_unverified and decision.decision == "approve":
        return False
    approval = await connection.fetchval(
        "UPDATE conductor.approvals SET status = $4, closed_at = $5 WHERE call_id = $1 AND session_id = $2 "
        "AND status = 'pending' AND args_sha = $3 RETURNING id",
        decision.call_id,
        writer.session_id,
        decision.arguments_sha256,
        "approved" if decision.decision == "approve" else "denied",
        decision.at,
    )
    if approval is None:
        return False
    await connection.execute(
        "INSERT INTO conductor.decisions (call_id, decision_id, args_sha, decision, by, verified, via, comment, counted, at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, true, $9) "
        "ON CONFLICT (call_id, decision_id) DO UPDATE SET counted = true, at = excluded.at",
        decision.call_id,
        decision.decision_id,
        decision.arguments_sha256,
        decision.decision,
        by,
        verified,
        intended["via"] if intended else "signal",
        decision.comment,
        decision.at,
    )
    writer.event(
        "approval.decided",
        {
            "approval_id": approval,
            "call_id": decision.call_id,
            "decision": decision.decision,
            "by": by,
            "verified": verified,
        },
    )
    if decision.decision == "approve":
        await connection.execute(
            "UPDATE conductor.tool_calls SET state = 'ready' WHERE call_id = $1 AND state = 'waiting'", decision.call_id
        )
    else:
        await settle(
            writer, decision.call_id, CallState.DENIED, denied_result(decision), "state IN ('ready', 'waiting')"
        )
    return True


async def _seen(writer: Writer, call_id: str) -> Json:
    """What the person who approved was shown."""
    seen: Json = await writer.connection.fetchval(
        "SELECT consequence -> 'data' FROM conductor.approvals WHERE call_id = $1 AND status = 'approved'", call_id
    )
    return seen


class CallJournal:
    """Reads and writes of the activities `prepare_call`, `run_tool` and `record`."""

    def __init__(self, journal: Journal, *, allow_unverified: bool = True) -> None:
        self._journal = journal
        self._allow_unverified = allow_unverified
        """Whether an approval counts that no API key stands behind (CONDUCTOR_ALLOW_SIGNALS)."""

    async def load(self, session_id: str, call_id: str) -> tuple[str, StoredCall]:
        """The org and the call.

        Raises:
            NotFound: the session has no such call.
        """
        async with self._journal.database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT t.*, s.org_id FROM conductor.tool_calls t JOIN conductor.sessions s ON s.id = t.session_id "
                "WHERE t.call_id = $1 AND t.session_id = $2",
                call_id,
                session_id,
            )
        if row is None:
            raise NotFound("The session has no such call.")
        return row["org_id"], stored_call(row)

    async def ask(
        self, fence: Fence, run_id: str, call: StoredCall, consequence: Consequence, expires_at: datetime, rule: str
    ) -> Prepared:
        """Put the call before the people who decide, or return what is decided already.

        Raises:
            Fenced: this run may not write any more, or a cancel was accepted.
        """

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
                "INSERT INTO conductor.approvals (id, call_id, session_id, org_id, args_sha, consequence, rule, expires_at) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (call_id) WHERE status <> 'superseded' DO NOTHING "
                "RETURNING id",
                new_id("appr"),
                call.call_id,
                writer.session_id,
                writer.row["org_id"],
                call.args_sha,
                clean_json(consequence.model_dump(mode="json")),
                rule,
                expires_at,
            )
            if approval_id is not None:
                await connection.execute(
                    "UPDATE conductor.tool_calls SET state = 'waiting' WHERE call_id = $1 AND state = 'ready'",
                    call.call_id,
                )
                writer.event(
                    "approval.requested", {"approval_id": approval_id, "call_id": call.call_id, "tool": call.tool}
                )
                return Prepared(
                    state="pending", approval_id=approval_id, summary=shorten(consequence.summary, PREVIEW_BYTES)
                )
            return await self._asked_before(writer, call, expires_at)

        return await self._journal.write(fence, run_id, change)

    @staticmethod
    async def _asked_before(writer: Writer, call: StoredCall, expires_at: datetime) -> Prepared:
        row = await writer.connection.fetchrow(
            "SELECT a.id, a.status, a.expires_at, a.consequence, d.decision_id, d.decision, d.by, d.verified, d.via, d.comment, "
            "d.at FROM conductor.approvals a LEFT JOIN conductor.decisions d ON d.call_id = a.call_id AND d.counted "
            "WHERE a.call_id = $1 AND a.status <> 'superseded'",
            call.call_id,
        )
        assert row is not None
        if row["status"] == "pending" and row["expires_at"] != expires_at:
            await writer.connection.execute(
                "UPDATE conductor.approvals SET expires_at = $2 WHERE id = $1", row["id"], expires_at
            )
            writer.event("approval.extended", {"approval_id": row["id"], "call_id": call.call_id})
        if row["status"] == "approved" and row["decision_id"] is not None:
            decision = Decision(
                call_id=call.call_id,
                decision_id=row["decision_id"],
                decision=row["decision"],
                arguments_sha256=call.args_sha,
                by=row["by"],
                verified=row["verified"],
                via=row["via"],
                comment=row["comment"],
                at=row["at"],
            )
            return Prepared(state="decided", approval_id=row["id"], decision=decision)
        return Prepared(state="pending", approval_id=row["id"], summary=str(row["consequence"].get("summary", "")))

    async def claim(
        self,
        fence: Fence,
        run_id: str,
        attempt: int,
        call_id: str,
        *,
        decision: Decision | None,
        must_be_approved: bool,
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
                "AND (NOT $5 OR EXISTS (SELECT FROM conductor.approvals a WHERE a.call_id = t.call_id "
                "AND a.status = 'approved' AND a.args_sha = t.args_sha)) RETURNING *",
                call_id,
                writer.session_id,
                run_id,
                attempt,
                must_be_approved,
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

    async def record(self, fence: Fence, run_id: str, clock: int, changes: tuple[Change, ...]) -> RecordOutcome:
        """Write changes that no model or tool activity writes, unless a later one is there already."""

        async def change(writer: Writer) -> RecordOutcome:
            applied = await writer.connection.fetchval(
                "UPDATE conductor.sessions SET clock = $2 WHERE id = $1 AND clock < $2 RETURNING true",
                writer.session_id,
                clock,
            )
            if not applied:
                return RecordOutcome(applied=False)
            for item in changes:
                await writer.no_retry(item.decision.call_id if isinstance(item, CallDenied) else item.call_id)
                await _apply(writer, item, allow_unverified=self._allow_unverified)
            return RecordOutcome(applied=True)

        return await self._journal.write(fence, run_id, change)


async def _apply(writer: Writer, item: Change, *, allow_unverified: bool) -> None:
    match item:
        case CallDenied(decision=decision):
            await apply_decision(writer, decision)
            # The approval may have been closed otherwise (a decision of before a reset): the call is not run all the same.
            await settle(
                writer, decision.call_id, CallState.DENIED, denied_result(decision), "state IN ('ready', 'waiting')"
            )
        case CallExpired(call_id=call_id, at=at):
            await writer.connection.execute(
                "UPDATE conductor.approvals SET status = 'expired', closed_at = $2 WHERE call_id = $1 AND status = 'pending'",
                call_id,
                at,
            )
            await settle(writer, call_id, CallState.EXPIRED, expired_result(), "state IN ('ready', 'waiting')")
        case CallBlocked(call_id=call_id, rule=rule):
            refusal = _refusal("policy_denied", f"The policy does not allow this call ({rule}); it was not run.")
            await settle(writer, call_id, CallState.INVALID, refusal, "state = 'ready'")
        case CallFailed(call_id=call_id, message=message, decision=decision):
            text = f"The tool is not available right now: {message} Go on without it."
            if decision is not None:
                await apply_decision(writer, decision, allow_unverified=allow_unverified)
            await writer.connection.execute(
                "UPDATE conductor.approvals SET status = 'cancelled', closed_at = clock_timestamp() WHERE call_id = $1 "
                "AND status = 'pending'",
                call_id,
            )
            await settle(
                writer, call_id, CallState.FAILED, _refusal("tool_unavailable", text), "state IN ('ready', 'waiting')"
            )
            await settle(
                writer,
                call_id,
                CallState.FAILED,
                _refusal("tool_unavailable", text),
                "state = 'executing' AND replayable AND NOT (facts ->> 'writes')::boolean",
            )
            await settle(writer, call_id, CallState.OUTCOME_UNKNOWN, outcome_unknown(), "state = 'executing'")
