"""One tool call, from the policy to its result: asked if it must be, as often as it must be, then run."""

from datetime import timedelta
from typing import Protocol

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.workflow import ActivityCancellationType

from conductor_ai import names, ports
from conductor_ai.contracts.decisions import Decision
from conductor_ai.contracts.policy import Effect, OnExpiry
from conductor_ai.contracts.session import (
    CallAnswered,
    CallBlocked,
    CallDenied,
    CallDeniedAgain,
    CallExpired,
    CallFailed,
    CallInterrupted,
    CallRef,
    Change,
    Fence,
    PrepareInput,
    ReviseInput,
    SessionInput,
    ToolInput,
    ToolOutcome,
)
from conductor_ai.contracts.status import CallState
from conductor_ai.contracts.tools import Queue
from conductor_ai.errors import Code
from workflows.failures import failure_message, failure_type
from workflows.limits import FOREVER, HEARTBEAT, STORE_ATTEMPT
from workflows.pending import Ledger, Waiting

TOOL_MARGIN = timedelta(seconds=30)
TOOL_ATTEMPTS = 3
PREPARE = timedelta(minutes=2)
DENIALS_UNTIL_PAUSE = 3
"""How often the same denied call may be proposed before somebody has to look at the session."""


class Host(Protocol):
    """The session that the calls belong to."""

    @property
    def step(self) -> int:
        """The step under way."""
        ...

    def guard(self) -> None:
        """Raise if the session is to end. Called after every await."""
        ...

    def show(self, doing: str) -> None:
        """Show in Temporal's UI what the session does."""
        ...

    def fence(self) -> Fence:
        """The place of a writer in the session."""
        ...

    async def record(self, change: Change) -> None:
        """Have a change written."""
        ...

    @property
    def interrupted(self) -> bool:
        """Whether somebody wants what is under way to stop."""
        ...

    def repeats_itself(self, tool: str) -> None:
        """The model goes on proposing what was denied: somebody should look."""
        ...


class Calls:
    """Runs the calls of one session."""

    def __init__(self, session: SessionInput, ledger: Ledger, host: Host) -> None:
        self._session = session
        self._ledger = ledger
        self._host = host

    async def run(self, call: CallRef) -> None:
        """See the call to its result. Whatever becomes of it is stored; nothing is returned."""
        try:
            await self._until_settled(call)
        except ActivityError as error:
            for asked in [asked for asked in self._ledger.waiting if asked[0] == call.call_id]:
                self._ledger.forget(asked)
            self._host.guard()
            if failure_type(error) == Code.FENCED:
                raise
            decided = [d for (call_id, _), d in self._ledger.decided.items() if call_id == call.call_id]
            decision = decided[-1] if decided and decided[-1].decision == "approve" else None
            await self._host.record(CallFailed(call_id=call.call_id, message=failure_message(error), decision=decision))

    async def _until_settled(self, call: CallRef) -> None:
        must_ask = self._session.ask_every_call
        while call.error is None and call.state is None:
            if call.ruling.effect is Effect.DENY:
                await self._host.record(CallBlocked(call_id=call.call_id, rule=call.ruling.rule))
                return
            decision = None
            if must_ask or call.ruling.effect is Effect.ASK:
                if self._ledger.was_denied(call.arguments_sha256):
                    await self._turn_away(call)
                    return
                asked = await self._ask_people(call)
                if asked is None:
                    return
                if isinstance(asked, CallRef):
                    call, must_ask = asked, True
                    continue
                decision = asked
                if decision.decision == "edit":
                    call, must_ask = await self._revise(call, decision), self._session.ask_every_call
                    continue
            outcome = await self._run_tool(call, decision)
            if outcome.state is not CallState.READY:
                return
            # Its effect is not the approved one any more, or the policy asks by now.
            call, must_ask = outcome.call or call.model_copy(update={"round": outcome.round}), True

    async def _run_tool(self, call: CallRef, decision: Decision | None) -> ToolOutcome:
        queue = workflow.info().task_queue
        outcome = await workflow.execute_activity(
            ports.run_tool,
            ToolInput(
                fence=self._host.fence(),
                call_id=call.call_id,
                tool=call.tool,
                arguments_sha256=call.arguments_sha256,
                round=call.round,
                decision=decision,
            ),
            task_queue=names.sandbox_queue(queue) if call.queue is Queue.SANDBOX else None,
            start_to_close_timeout=timedelta(seconds=call.timeout_seconds) + TOOL_MARGIN,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RetryPolicy(maximum_attempts=TOOL_ATTEMPTS),
            # What the tool has started must be gone before the session may say that it is cancelled.
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"step {self._host.step}: {call.tool}",
        )
        self._host.guard()
        return outcome

    async def _revise(self, call: CallRef, decision: Decision) -> CallRef:
        """The call with the arguments that a person wrote, as the policy sees it now."""
        revised = await workflow.execute_activity(
            ports.revise_call,
            ReviseInput(fence=self._host.fence(), round=call.round, decision=decision),
            start_to_close_timeout=STORE_ATTEMPT,
            retry_policy=FOREVER,
            priority=names.priority(self._session.org_id, first=True),
            summary=f"step {self._host.step}: {call.tool}, edited by a person",
        )
        self._host.guard()
        return revised

    async def _turn_away(self, call: CallRef) -> None:
        """Deny at once what was denied before. The third time somebody has to look."""
        times = self._ledger.count_denial(call.arguments_sha256)
        await self._host.record(CallDeniedAgain(call_id=call.call_id, times=times))
        if times >= DENIALS_UNTIL_PAUSE:
            self._host.repeats_itself(call.tool)

    async def _ask_people(self, call: CallRef) -> Decision | CallRef | None:
        """Wait for a decision that lets the call go on. None if it is not to be run; its result is stored then.

        The call itself, if it has changed since it was known: then that is to be asked.
        """
        seconds = call.ruling.expires_in or self._session.approval_ttl_seconds
        on_expiry = call.ruling.on_expiry or self._session.on_expiry
        expires_at = workflow.now() + timedelta(seconds=seconds)
        waiting = Waiting(
            call.call_id, call.tool, call.arguments_sha256, expires_at, preview=call.preview, round=call.round
        )
        # Registered before it is shown, so that whoever sees it can decide it.
        self._ledger.register(waiting)
        self._host.show("awaiting approval")
        prepared = await workflow.execute_activity(
            ports.prepare_call,
            PrepareInput(
                fence=self._host.fence(),
                call_id=call.call_id,
                arguments_sha256=call.arguments_sha256,
                round=call.round,
                expires_at=expires_at,
                on_expiry=on_expiry,
                rule=call.ruling.rule,
            ),
            start_to_close_timeout=PREPARE,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=FOREVER,
            priority=names.priority(self._session.org_id, first=True),
            summary=f"step {self._host.step}: {call.tool}, waits for approval",
        )
        self._host.guard()
        if prepared.state in ("settled", "moved"):
            self._ledger.forget(waiting.asked)
            self._host.show("calling tools")
            return prepared.call
        if prepared.decision is not None:
            self._ledger.adopt(prepared.decision)
        self._ledger.describe(waiting.asked, prepared.summary)
        self._host.show("awaiting approval")
        try:
            await workflow.wait_condition(
                lambda: self._ledger.decision(waiting.asked) is not None or self._host.interrupted,
                timeout=max(expires_at - workflow.now(), timedelta(0)),
                timeout_summary=f"step {self._host.step}: {call.tool} expires",
            )
        except TimeoutError:
            self._host.guard()
        decision = self._ledger.decision(waiting.asked)
        self._ledger.expire(waiting.asked)
        self._host.show("calling tools")
        if decision is None and self._host.interrupted:
            await self._host.record(CallInterrupted(call_id=call.call_id))
            return None
        if decision is None:
            await self._expired(call, waiting, on_expiry)
            return None
        return await self._heed(call, decision)

    async def _heed(self, call: CallRef, decision: Decision) -> Decision | None:
        match decision.decision:
            case "approve" | "edit":
                return decision
            case "deny":
                self._ledger.count_denial(call.arguments_sha256)
                await self._host.record(CallDenied(decision=decision))
            case "answer":
                await self._host.record(CallAnswered(decision=decision))
        return None

    async def _expired(self, call: CallRef, waiting: Waiting, on_expiry: OnExpiry) -> None:
        denies = on_expiry is OnExpiry.DENY
        if denies:
            self._ledger.count_denial(call.arguments_sha256)
        await self._host.record(CallExpired(call_id=call.call_id, at=waiting.expires_at, denies=denies))
        if on_expiry is OnExpiry.FAIL:
            self._host.guard()
            raise ApplicationError(
                f"Nobody decided about a call of {call.tool} in time, and the session was to fail then.",
                type=Code.APPROVAL_EXPIRED,
                non_retryable=True,
            )
