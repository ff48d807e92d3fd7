"""What the workflow itself records of calls: denied, answered, expired, blocked, failed."""

from conductor_ai.contracts.session import (
    CallAnswered,
    CallBlocked,
    CallDenied,
    CallDeniedAgain,
    CallExpired,
    CallFailed,
    CallInterrupted,
    Change,
    Fence,
    InputAwaited,
    LimitsChanged,
    RecordOutcome,
    SessionChange,
    SessionPaused,
    SessionResumed,
)
from conductor_ai.contracts.status import CallState
from conductor_ai.stores import call_words
from conductor_ai.stores.deciding import apply_decision, settle
from conductor_ai.stores.writing import Journal, Writer

_OPEN = "state IN ('ready', 'waiting')"


class Changes:
    """Writes of the activity `record`."""

    def __init__(self, journal: Journal, *, allow_unverified: bool = True) -> None:
        self._journal = journal
        self._allow_unverified = allow_unverified

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
                await _apply(writer, item, allow_unverified=self._allow_unverified)
            return RecordOutcome(applied=True)

        return await self._journal.write(fence, run_id, change)


async def _apply(writer: Writer, item: Change, *, allow_unverified: bool) -> None:
    match item:
        case SessionPaused() | SessionResumed() | LimitsChanged() | InputAwaited():
            await _session(writer, item)
            return
        case CallDenied() | CallAnswered():
            await writer.no_retry(item.decision.call_id)
        case _:
            await writer.no_retry(item.call_id)
    match item:
        case CallDenied(decision=decision):
            await apply_decision(writer, decision)
            # The approval may have been closed otherwise (a decision of before a reset): the call is not run all the same.
            await settle(writer, decision.call_id, CallState.DENIED, call_words.denied(decision.comment), _OPEN)
        case CallAnswered(decision=decision):
            await apply_decision(writer, decision, allow_unverified=allow_unverified)
            await _close(writer, decision.call_id)
            await settle(writer, decision.call_id, CallState.DENIED, call_words.answer_missing(), _OPEN)
        case CallDeniedAgain(call_id=call_id, times=times):
            await settle(writer, call_id, CallState.DENIED, call_words.denied_again(times), _OPEN)
        case CallExpired(call_id=call_id, at=at, denies=denies):
            await writer.connection.execute(
                "UPDATE conductor.approvals SET status = 'expired', closed_at = $2 WHERE call_id = $1 AND status = 'pending'",
                call_id,
                at,
            )
            await settle(writer, call_id, CallState.EXPIRED, call_words.expired(denies=denies), _OPEN)
        case CallInterrupted(call_id=call_id):
            await _close(writer, call_id)
            await settle(writer, call_id, CallState.ABANDONED, call_words.interrupted(), _OPEN)
        case CallBlocked(call_id=call_id, rule=rule):
            await settle(writer, call_id, CallState.INVALID, call_words.policy_denied(rule), "state = 'ready'")
        case CallFailed():
            await _failed(writer, item, allow_unverified=allow_unverified)


async def _session(writer: Writer, item: SessionChange) -> None:
    match item:
        case SessionPaused(pause=pause):
            await writer.update("paused = $2", pause.model_dump(mode="json"))
            writer.event("session.paused", {"kind": pause.kind.value, "reason": pause.reason, "by": pause.by})
        case SessionResumed(limits=limits):
            # With the limits: a new run that goes on has those that it was told of, whatever the row says.
            await writer.update(
                "paused = NULL, max_cost_usd = $2, max_total_tokens = $3", limits.max_cost_usd, limits.max_total_tokens
            )
            writer.event("session.resumed", {"limits": limits.model_dump(mode="json")})
        case LimitsChanged(limits=limits, by=by):
            changed = await writer.connection.fetchval(
                "UPDATE conductor.sessions SET max_cost_usd = $2, max_total_tokens = $3 WHERE id = $1 "
                "AND (max_cost_usd, max_total_tokens) IS DISTINCT FROM ($2::numeric, $3::bigint) RETURNING true",
                writer.session_id,
                limits.max_cost_usd,
                limits.max_total_tokens,
            )
            if changed:
                writer.event("session.limits_changed", {"limits": limits.model_dump(mode="json"), "by": by})
        case InputAwaited(stop_reason=reason):
            unread = await writer.connection.fetchval(
                "SELECT count(*) FROM conductor.messages WHERE session_id = $1 AND call_no IS NULL AND NOT only_if_idle",
                writer.session_id,
            )
            await writer.update("awaiting_input = $2", unread == 0)
            writer.event("session.input_awaited", {"stop_reason": reason.value})


async def _close(writer: Writer, call_id: str) -> None:
    await writer.connection.execute(
        "UPDATE conductor.approvals SET status = 'cancelled', closed_at = clock_timestamp() WHERE call_id = $1 "
        "AND status = 'pending'",
        call_id,
    )


async def _failed(writer: Writer, item: CallFailed, *, allow_unverified: bool) -> None:
    call_id, unavailable = item.call_id, call_words.tool_unavailable(item.message)
    if item.decision is not None:
        await apply_decision(writer, item.decision, allow_unverified=allow_unverified)
    await _close(writer, call_id)
    await settle(writer, call_id, CallState.FAILED, unavailable, _OPEN)
    harmless = "state = 'executing' AND replayable AND NOT (facts ->> 'writes')::boolean"
    await settle(writer, call_id, CallState.FAILED, unavailable, harmless)
    await settle(writer, call_id, CallState.OUTCOME_UNKNOWN, call_words.outcome_unknown(), "state = 'executing'")
