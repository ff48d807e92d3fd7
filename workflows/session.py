"""The session workflow: one agent session, durable. It only awaits; what comes next is decided in `workflows.loop`.

History holds references, digests, facts, usage and decisions; all content is in Postgres, written by the activities.
"""

import asyncio
from datetime import timedelta
from typing import NoReturn

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError
from temporalio.workflow import ActivityCancellationType

from conductor_ai import approvals, names, ports
from conductor_ai.approvals import Effect
from conductor_ai.contracts.decisions import Decision, DecisionRequest, Verdict, VerdictKind
from conductor_ai.contracts.session import (
    CallBlocked,
    CallDenied,
    CallExpired,
    CallFailed,
    CallRef,
    Carried,
    Change,
    Fence,
    FinishInput,
    FinishOutcome,
    ModelInput,
    ModelOutcome,
    PrepareInput,
    RecordInput,
    SessionInput,
    SessionResult,
    ToolInput,
)
from conductor_ai.contracts.status import Status, StopReason
from conductor_ai.contracts.tools import Queue
from conductor_ai.errors import Code
from workflows import loop
from workflows.details import details
from workflows.fallbacks import model_failed
from workflows.loop import AskModel, End, RunCalls
from workflows.pending import Ledger, Waiting

HEARTBEAT = timedelta(seconds=10)
MODEL_START_TO_CLOSE = timedelta(minutes=10)
MODEL_SCHEDULE_TO_CLOSE = timedelta(hours=2)
"""Long enough for every attempt with the longest wait that a provider may ask for."""
TOOL_MARGIN = timedelta(seconds=30)
TOOL_ATTEMPTS = 3
STORE_ATTEMPT = timedelta(seconds=10)
FOREVER = RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=30))
"""For what must be written in the end: unlimited attempts."""


class DeadlineError(Exception):
    """The session's time is over."""


@workflow.defn(name=names.WORKFLOW)
class Session:
    """One agent session."""

    @workflow.init
    def __init__(self, session: SessionInput) -> None:
        self._session = session
        self._state: Carried = session.carried
        self._steps_before = session.carried.steps
        self._ledger = Ledger.restore(
            session.carried.decisions, session.carried.early, allow_signals=session.allow_signals
        )
        self._said = ""
        self._ran: tuple[CallRef, ...] = ()
        """Calls of the last answer that had their result when it came: no activity of their own shows them."""
        self._closing = False
        self._unrecorded: list[Change] = []
        self._recording = asyncio.Lock()
        self._attributes: tuple[str, bool] = ("pending", False)

    # What people send

    @workflow.signal(name=names.DECIDE)
    def on_decide_signal(self, request: DecisionRequest) -> None:
        """A decision from Temporal's UI or CLI: nobody can prove who sent it."""
        self._decide(request.model_copy(update={"via": "signal", "by": None}))

    @workflow.update(name=names.DECIDE)
    def on_decide(self, request: DecisionRequest) -> Verdict:
        """A decision from the API, which needs the answer. No validator: a verdict is always an answer."""
        return self._decide(request)

    def _decide(self, request: DecisionRequest) -> Verdict:
        if self._closing:
            return Verdict(kind=VerdictKind.CLOSED, decision=self._ledger.decision(request.call_id))
        return self._ledger.decide(request, workflow.now())

    @workflow.query(name=names.STATE)
    def on_state(self) -> Carried:
        """What the workflow itself believes, for debugging."""
        return self._carry()

    # The run

    @workflow.run
    async def run(self, session: SessionInput) -> SessionResult:
        """Run the session to its end. Closes as the store says: completed, cancelled or failed."""
        self._show("thinking")
        try:
            end = await self._until_deadline()
        except asyncio.CancelledError:
            end = End(StopReason.CANCELLED)
        except FailureError as error:
            end = _failure(error)
        outcome = await self._finish(end)
        self._show(outcome.status.value)
        await self._handlers_finished()
        if outcome.status is Status.CANCELLED:
            await self._close_as_cancelled()
        if outcome.status is Status.FAILED:
            raise ApplicationError(
                outcome.error_message or "The session failed.", type=outcome.error_code, non_retryable=True
            )
        return SessionResult(
            session_id=session.session_id,
            status=outcome.status,
            stop_reason=outcome.stop_reason,
            steps=outcome.steps,
            cost_usd=outcome.cost_usd,
        )

    async def _until_deadline(self) -> End:
        deadline = self._session.deadline_at
        if deadline is None:
            return await self._loop()
        over = End(
            StopReason.DEADLINE, Code.DEADLINE, "The session's deadline has passed. What it had done so far is kept."
        )
        left = (deadline - workflow.now()).total_seconds()
        if left <= 0:
            return over
        limit = asyncio.timeout(left)
        try:
            async with limit:
                return await self._loop()
        except (TimeoutError, DeadlineError):
            if workflow.cancellation_reason() is not None:
                return End(StopReason.CANCELLED)
            return over
        except FailureError:
            # The deadline cancels what is running; an activity reports that as a failure of its own.
            if limit.expired() and workflow.cancellation_reason() is None:
                return over
            raise

    async def _loop(self) -> End:
        while True:
            self._guard()
            if self._may_continue_as_new():
                self._continue_as_new()
            move: AskModel | RunCalls | End = loop.before_model(self._state, self._session)
            while isinstance(move, AskModel):
                outcome = await self._answer(move)
                self._guard()
                self._said = outcome.said
                self._state, move = loop.after_model(self._state, outcome)
            if isinstance(move, End):
                return move
            self._ran = tuple(call for call in move.calls if call.state is not None)
            if len(self._ran) < len(move.calls):
                self._show("calling tools")
                await self._run_calls(move.calls)
            self._show("thinking")

    def _guard(self) -> None:
        """After every await: an activity that ends normally at the wrong moment swallows a cancel."""
        if workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError
        if self._session.deadline_at is not None and workflow.now() >= self._session.deadline_at:
            raise DeadlineError

    # Steps

    async def _answer(self, ask: AskModel) -> ModelOutcome:
        """The answer of the first model that can be had."""
        while True:
            try:
                return await self._ask_model(ask)
            except ActivityError as error:
                self._guard()
                self._state, again = loop.after_failure(self._state, self._session, ask, model_failed(error))
                if again is None:
                    raise
                ask = again
                self._show("thinking")

    async def _ask_model(self, ask: AskModel) -> ModelOutcome:
        fence = Fence(session_id=self._session.session_id, next_call_no=ask.call_no)
        self._state = loop.scheduled(self._state, ask)
        model = loop.model_of(self._session, self._state)
        return await workflow.execute_activity(
            ports.call_model,
            ModelInput(
                fence=fence,
                call_no=ask.call_no,
                step=ask.step,
                model=model,
                max_attempts=self._session.model_max_attempts,
                fell_back=ask.fell_back,
                run_calls=True,
            ),
            start_to_close_timeout=MODEL_START_TO_CLOSE,
            schedule_to_close_timeout=MODEL_SCHEDULE_TO_CLOSE,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RetryPolicy(maximum_attempts=self._session.model_max_attempts),
            # It may be running a tool, and that must be gone before the session may say that it is cancelled.
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"step {ask.step}: {model}",
        )

    async def _run_calls(self, calls: tuple[CallRef, ...]) -> None:
        """All calls at once. One that waits for a person does not hold up the others."""
        results = await asyncio.gather(*(self._run_call(call) for call in calls), return_exceptions=True)
        self._guard()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _run_call(self, call: CallRef) -> None:
        if call.error is not None or call.state is not None:
            return
        ruling = approvals.rule(call.tool, call.facts)
        try:
            match ruling.effect:
                case Effect.DENY:
                    await self._record(CallBlocked(call_id=call.call_id, rule=ruling.rule))
                case Effect.ASK:
                    decision = await self._ask_people(call, ruling.rule)
                    if decision is not None:
                        await self._run_tool(call, decision)
                case Effect.ALLOW:
                    await self._run_tool(call, None)
        except ActivityError as error:
            self._ledger.forget(call.call_id)
            self._guard()
            if _type(error) == Code.FENCED:
                raise
            decided = self._ledger.decision(call.call_id)
            await self._record(CallFailed(call_id=call.call_id, message=_message(error), decision=decided))

    async def _run_tool(self, call: CallRef, decision: Decision | None) -> None:
        queue = workflow.info().task_queue
        await workflow.execute_activity(
            ports.run_tool,
            ToolInput(
                fence=self._fence(),
                call_id=call.call_id,
                tool=call.tool,
                arguments_sha256=call.arguments_sha256,
                decision=decision,
            ),
            task_queue=names.sandbox_queue(queue) if call.queue is Queue.SANDBOX else None,
            start_to_close_timeout=timedelta(seconds=call.timeout_seconds) + TOOL_MARGIN,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RetryPolicy(maximum_attempts=TOOL_ATTEMPTS),
            # What the tool has started must be gone before the session may say that it is cancelled.
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"step {self._state.steps}: {call.tool}",
        )

    async def _ask_people(self, call: CallRef, rule: str) -> Decision | None:
        """Wait for a decision. None if the call is not to be run; its result is stored then."""
        expires_at = workflow.now() + timedelta(seconds=self._session.approval_ttl_seconds)
        # Registered before it is shown, so that whoever sees it can decide it.
        self._ledger.register(Waiting(call.call_id, call.tool, call.arguments_sha256, expires_at, call.preview))
        self._show("awaiting approval")
        prepared = await workflow.execute_activity(
            ports.prepare_call,
            PrepareInput(
                fence=self._fence(),
                call_id=call.call_id,
                arguments_sha256=call.arguments_sha256,
                expires_at=expires_at,
                rule=rule,
            ),
            start_to_close_timeout=timedelta(minutes=2),
            heartbeat_timeout=HEARTBEAT,
            retry_policy=FOREVER,
            priority=names.priority(self._session.org_id, first=True),
            summary=f"step {self._state.steps}: {call.tool}, waits for approval",
        )
        self._guard()
        if prepared.state == "settled":
            self._ledger.forget(call.call_id)
            self._show("calling tools")
            return None
        if prepared.decision is not None:
            self._ledger.adopt(prepared.decision)
        self._ledger.describe(call.call_id, prepared.summary)
        self._show("awaiting approval")
        try:
            await workflow.wait_condition(
                lambda: self._ledger.decision(call.call_id) is not None,
                timeout=max(expires_at - workflow.now(), timedelta(0)),
                timeout_summary=f"step {self._state.steps}: {call.tool} expires",
            )
        except TimeoutError:
            self._guard()
        decision = self._ledger.decision(call.call_id)
        self._ledger.expire(call.call_id)
        self._show("calling tools")
        if decision is None:
            await self._record(CallExpired(call_id=call.call_id, at=expires_at))
            return None
        if decision.decision == "deny":
            await self._record(CallDenied(decision=decision))
            return None
        return decision

    async def _record(self, change: Change) -> None:
        """Have a change written. One activity at a time, so that the clock orders them; it takes all that wait."""
        self._unrecorded.append(change)
        async with self._recording:
            if not any(waiting is change for waiting in self._unrecorded):
                return
            changes, self._unrecorded = tuple(self._unrecorded), []
            await self._record_all(changes)

    async def _record_all(self, changes: tuple[Change, ...]) -> None:
        self._state = self._state.model_copy(update={"clock": self._state.clock + 1})
        await workflow.execute_activity(
            ports.record,
            RecordInput(fence=self._fence(), clock=self._state.clock, changes=changes),
            start_to_close_timeout=STORE_ATTEMPT,
            retry_policy=FOREVER,
            priority=names.priority(self._session.org_id, first=True),
            summary=f"step {self._state.steps}: record {', '.join(change.change for change in changes)}",
        )

    def _fence(self) -> Fence:
        return Fence(session_id=self._session.session_id, next_call_no=self._state.next_call_no)

    # Continue as new

    def _carry(self) -> Carried:
        return self._state.model_copy(
            update={
                # Without what was said: that is stored, and a hundred long comments would not fit Temporal's limit of 2 MB.
                "decisions": tuple(d.model_copy(update={"comment": None}) for d in self._ledger.decided.values()),
                "early": tuple(self._ledger.early.values()),
            }
        )

    def _may_continue_as_new(self) -> bool:
        return (
            loop.must_continue_as_new(
                self._state,
                self._session,
                steps_before=self._steps_before,
                suggested=workflow.info().is_continue_as_new_suggested(),
            )
            and not self._ledger.waiting
            and workflow.all_handlers_finished()
        )

    def _continue_as_new(self) -> NoReturn:
        workflow.continue_as_new(self._session.model_copy(update={"carried": self._carry()}))

    # The end

    async def _finish(self, end: End) -> FinishOutcome:
        """Write the end until it is written. A cancel that arrives meanwhile repeats it: the store picks the outcome."""
        self._closing = True
        while True:
            request = FinishInput(
                fence=self._fence(),
                stop_reason=end.stop_reason,
                error_code=end.error_code,
                error_message=end.error_message,
                retryable=end.retryable,
                cancel_seen=workflow.cancellation_reason() is not None,
            )
            try:
                return await workflow.execute_activity(
                    ports.finish,
                    request,
                    start_to_close_timeout=STORE_ATTEMPT * 3,
                    retry_policy=FOREVER,
                    priority=names.priority(self._session.org_id, first=True),
                    summary=f"end: {end.stop_reason.value}",
                )
            except asyncio.CancelledError:
                continue
            except ActivityError as error:
                if workflow.cancellation_reason() is not None and not request.cancel_seen:
                    continue
                raise ApplicationError(_message(error), type=_type(error), non_retryable=True) from error

    async def _handlers_finished(self) -> None:
        """Wait for the handlers. The end is written: a cancel that comes now must not close the workflow otherwise."""
        while not workflow.all_handlers_finished():
            try:
                await workflow.wait_condition(workflow.all_handlers_finished)
            except asyncio.CancelledError:
                continue

    async def _close_as_cancelled(self) -> NoReturn:
        """Close CANCELED. Temporal allows that only once it has been asked itself, which `finish` sees to."""
        await workflow.wait_condition(lambda: workflow.cancellation_reason() is not None)
        raise asyncio.CancelledError

    # What Temporal's UI shows

    def _show(self, doing: str) -> None:
        waiting = self._ledger.waiting
        workflow.set_current_details(
            details(self._session, self._state, doing, waiting, now=workflow.now(), said=self._said, ran=self._ran)
        )
        status = doing if doing in ("completed", "failed", "cancelled") else "running"
        wanted = (status, bool(waiting))
        if wanted != self._attributes:
            self._attributes = wanted
            workflow.upsert_search_attributes(
                [
                    names.STATUS.value_set(status),
                    names.NEEDS_APPROVAL.value_set(bool(waiting)),
                    names.COST_USD.value_set(float(self._state.tally.cost_usd)),
                ]
            )


def _cause(error: BaseException) -> ApplicationError | None:
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ApplicationError):
            return found
        found = found.__cause__
    return None


def _type(error: BaseException) -> str | None:
    cause = _cause(error)
    return cause.type if cause is not None else None


def _message(error: BaseException) -> str:
    cause = _cause(error)
    if cause is not None:
        return cause.message
    return "An activity did not finish in time; its worker may have died."


def _failure(error: FailureError) -> End:
    if workflow.cancellation_reason() is not None:
        return End(StopReason.CANCELLED)
    code = _type(error)
    known = code in {c.value for c in Code}
    return End(
        StopReason.ERROR,
        code if known else Code.INTERNAL,
        _message(error)
        if known or _cause(error) is None
        else "The session failed inside Conductor; the logs tell more.",
        retryable=code == Code.MODEL_UNAVAILABLE,
    )
