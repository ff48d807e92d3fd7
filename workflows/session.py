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

from conductor_ai import names, ports
from conductor_ai.contracts.session import (
    CallRef,
    Carried,
    Change,
    Fence,
    FinishInput,
    FinishOutcome,
    InputAwaited,
    ModelInput,
    ModelOutcome,
    RecordInput,
    SessionInput,
    SessionPaused,
    SessionResult,
    SessionResumed,
)
from conductor_ai.contracts.status import Status, StopReason
from conductor_ai.errors import Code
from workflows import loop
from workflows.calls import Calls
from workflows.control import Control
from workflows.details import details
from workflows.failures import failure_cause, failure_message, failure_type
from workflows.fallbacks import model_failed
from workflows.limits import FOREVER, HEARTBEAT, STORE_ATTEMPT
from workflows.listening import Listening
from workflows.loop import AskModel, End, RunCalls
from workflows.pending import Ledger

MODEL_START_TO_CLOSE = timedelta(minutes=10)
MODEL_SCHEDULE_TO_CLOSE = timedelta(hours=2)
"""Long enough for every attempt with the longest wait that a provider may ask for."""


class DeadlineError(Exception):
    """The session's time is over."""


@workflow.defn(name=names.WORKFLOW)
class Session(Listening):
    """One agent session. What people send to it is in `workflows.listening`."""

    @workflow.init
    def __init__(self, session: SessionInput) -> None:
        self._session = session
        self._state: Carried = session.carried
        self._steps_before = session.carried.steps
        self._ledger = Ledger.restore(session.carried, allow_signals=session.allow_signals)
        self._calls = Calls(session, self._ledger, self)
        self._control = Control.restore(session.carried, session.limits)
        self._asked: workflow.ActivityHandle[ModelOutcome] | None = None
        """The last model call."""
        self._said = ""
        self._ran: tuple[CallRef, ...] = ()
        """Calls of the last answer that had their result when it came: no activity of their own shows them."""
        self._end: End | None = None
        """Where the session stands if nobody writes: set while only a message leads on."""
        self._answered: int | None = None
        """The call with whose answer it had ended then, if nobody had written."""
        self._ended: FinishOutcome | None = None
        """The end, if the last answer has brought it."""
        self._closing = self._over = False
        self._unrecorded: list[Change] = []
        self._recording = asyncio.Lock()
        self._attributes: tuple[str, bool] = ("pending", False)

    @workflow.query(name=names.STATE)
    def on_state(self) -> Carried:
        """What the workflow itself believes, for debugging."""
        return self._carry()

    # The run

    @workflow.run
    async def run(self, session: SessionInput) -> SessionResult:
        """Run the session to its end. Closes as the store says: completed, cancelled or failed."""
        while True:
            self.show("thinking")
            try:
                end = await self._until_deadline()
            except asyncio.CancelledError:
                end = End(StopReason.CANCELLED)
            except FailureError as error:
                end = _failure(error)
            outcome = self._ended or await self._finish(end)
            if outcome.unread is None:
                break
            # Somebody wrote before the end could be written, and may have been told that it will be read.
            self._closing = False
            self._control.take(outcome.unread)
            self._stand(end, closing=True)
        self._over = True
        self.show(outcome.status.value)
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
        left = (deadline - workflow.now()).total_seconds()
        if left <= 0:
            return self._late()
        limit = asyncio.timeout(left)
        try:
            async with limit:
                return await self._loop()
        except (TimeoutError, DeadlineError):
            if workflow.cancellation_reason() is not None:
                return End(StopReason.CANCELLED)
            return self._late()
        except FailureError:
            # The deadline cancels what is running; an activity reports that as a failure of its own.
            if limit.expired() and workflow.cancellation_reason() is None:
                return self._late()
            raise

    def _late(self) -> End:
        """The deadline has passed. A message that came too late for it does not cost the session the answer that it had."""
        return End(
            StopReason.DEADLINE,
            Code.DEADLINE,
            "The session's deadline has passed. What it had done so far is kept.",
            answered=None if self._end is None else self._answered,
        )

    def _stand(self, end: End, *, closing: bool) -> None:
        """Remember where the session stands if nobody writes. `closing`: only a message keeps it from ending there."""
        self._end = end
        ends = closing and end.stop_reason is StopReason.FINAL_ANSWER
        self._answered = self._state.next_call_no - 1 if ends else None

    async def _loop(self) -> End:
        while True:
            self.guard()
            await self._hold()
            if self._may_continue_as_new():
                self._continue_as_new()
            if self._state.idle and not self._control.inbox:
                if not await self._next_message():
                    return End(StopReason.FINAL_ANSWER)
                continue
            if (end := await self._step()) is None:
                continue
            if self._ended is not None:
                return end
            self._stand(end, closing=self._session.mode != "chat")
            if self._control.inbox and loop.reads_on(self._state, self._session, end):
                continue
            if self._session.mode != "chat" or not end.goes_on(chat=True):
                return end
            self._state, self._end = self._state.model_copy(update={"idle": True}), None
            await self.record(InputAwaited(stop_reason=end.stop_reason))

    async def _step(self) -> End | None:
        """One step: the model's answer and what it calls. None if another one follows."""
        before, only_messages = self._state, self._state.idle or self._end is not None
        if self._control.inbox:
            began = self._state.steps if self._session.mode == "chat" else 0
            self._state = self._state.model_copy(update={"idle": False, "turn_began": began})
        move: AskModel | RunCalls | End = loop.before_model(self._state, self._session)
        while isinstance(move, AskModel):
            outcome = await self._answer(move, only_messages=only_messages)
            self.guard()
            if outcome is None or not outcome.asked:
                as_it_was = {"idle": before.idle, "turn_began": before.turn_began}
                self._state = self._state.model_copy(update=as_it_was)
            if outcome is None:
                return None  # what interrupted it leads on, unless that is taken back
            if not outcome.asked:
                if before.idle:
                    self._end = None  # a chat waits on
                return self._end
            if outcome.summarised is None:
                only_messages, self._end = False, None
            self._said = outcome.said
            self._state, move = loop.after_answer(self._state, self._session, outcome)
            if self._ended is not None:
                move = End(self._ended.stop_reason)
        if isinstance(move, End):
            return move
        self._ran = tuple(call for call in move.calls if call.state is not None)
        if len(self._ran) < len(move.calls):
            self.show("calling tools")
            await self._run_calls(move.calls)
        self.show("thinking")
        return None

    async def _hold(self) -> None:
        """Stand still while the session is paused. A deadline and a cancel end it all the same."""
        if not self._state.idle or self._control.inbox:
            self._control.check_budget(self._state.tally)
        if self._control.pause is None:
            return
        while (pause := self._control.pause) is not None:
            await self.record(SessionPaused(pause=pause))
            self.guard()
            self.show(f"paused ({pause.kind.value})")
            await workflow.wait_condition(lambda current=pause: self._control.pause is not current)  # type: ignore[misc]
            self.guard()
            self._control.check_budget(self._state.tally)
        await self.record(SessionResumed(limits=self._control.limits))
        self.guard()
        self.show("thinking")

    async def _next_message(self) -> bool:
        """Wait for the next message of a chat. False if nobody writes for too long."""
        self.show("waits for a message")
        try:
            await workflow.wait_condition(
                lambda: bool(self._control.inbox) or self._control.pause is not None,
                timeout=timedelta(seconds=self._session.idle_timeout_seconds),
                timeout_summary="nobody writes",
            )
        except TimeoutError:
            self.guard()
            # In time, if only just: it was told that it is accepted.
            return bool(self._control.inbox)
        self.guard()
        return True

    def guard(self) -> None:
        """After every await: an activity that ends normally at the wrong moment swallows a cancel."""
        if workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError
        if self._session.deadline_at is not None and workflow.now() >= self._session.deadline_at:
            raise DeadlineError

    # Steps

    async def _answer(self, ask: AskModel, *, only_messages: bool) -> ModelOutcome | None:
        """The answer of the first model that can be had; None if somebody interrupted it."""
        while True:
            try:
                return await self._ask_model(ask, only_messages=only_messages)
            except ActivityError as error:
                self.guard()
                self._state, again = loop.after_failure(self._state, self._session, ask, model_failed(error))
                if again is None:
                    raise
                ask = again
                self.show("thinking")

    async def _ask_model(self, ask: AskModel, *, only_messages: bool) -> ModelOutcome | None:
        """The model's answer; None if somebody interrupted it."""
        fence = Fence(session_id=self._session.session_id, next_call_no=ask.call_no)
        self._state = loop.scheduled(self._state, ask)
        model = loop.model_of(self._session, self._state)
        # A summary is of what was said before; what nobody has answered yet comes after it.
        messages = self._control.to_read() if ask.compact is None else ()
        self._control.interrupted = False
        self._asked = asked = workflow.start_activity(
            ports.call_model,
            ModelInput(
                fence=fence,
                call_no=ask.call_no,
                step=ask.step,
                model=model,
                max_attempts=self._session.model_max_attempts,
                fell_back=ask.fell_back,
                run_calls=not self._session.ask_every_call,
                messages=messages,
                only_messages=only_messages and ask.compact is None,
                compact=ask.compact,
                may_end=self._session.mode != "chat" and ask.compact is None,
            ),
            start_to_close_timeout=MODEL_START_TO_CLOSE,
            schedule_to_close_timeout=MODEL_SCHEDULE_TO_CLOSE,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RetryPolicy(maximum_attempts=self._session.model_max_attempts),
            # It may be running a tool, and that must be gone before the session may say that it is cancelled.
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"step {ask.step}: {model}{'' if ask.compact is None else ', summary of the conversation'}",
        )
        try:
            await workflow.wait_condition(lambda: asked.done() or self._control.interrupted)
        except asyncio.CancelledError:
            self._note_end(await _stopped(asked))
            raise
        outcome = await asked if asked.done() else await _stopped(asked)
        self._note_end(outcome)
        if outcome is not None:
            self._control.looked_for(messages, outcome.gone)
        return outcome

    def _note_end(self, outcome: ModelOutcome | None) -> None:
        """Whatever else has happened meanwhile: what is stored is the end."""
        if outcome is not None and outcome.ended is not None:
            self._ended, self._closing = outcome.ended, True

    async def _run_calls(self, calls: tuple[CallRef, ...]) -> None:
        """All calls at once. One that waits for a person does not hold up the others."""
        results = await asyncio.gather(*(self._calls.run(call) for call in calls), return_exceptions=True)
        self.guard()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # What the calls need of the session

    @property
    def interrupted(self) -> bool:
        """Whether somebody wants what is under way to stop."""
        return self._control.interrupted

    def repeats_itself(self, tool: str) -> None:
        """The model goes on proposing what was denied."""
        self._control.repeats_itself(tool)

    @property
    def step(self) -> int:
        """The step under way."""
        return self._state.steps

    async def record(self, change: Change) -> None:
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
            RecordInput(fence=self.fence(), clock=self._state.clock, changes=changes),
            start_to_close_timeout=STORE_ATTEMPT,
            retry_policy=FOREVER,
            priority=names.priority(self._session.org_id, first=True),
            summary=f"step {self._state.steps}: record {', '.join(change.change for change in changes)}",
        )

    def fence(self) -> Fence:
        # A call under way is not done: whoever takes the session over from an earlier run must not keep that run's answer to it.
        open_calls = 1 if self._asked is not None and not self._asked.done() else 0
        return Fence(session_id=self._session.session_id, next_call_no=self._state.next_call_no - open_calls)

    # Continue as new

    def _carry(self) -> Carried:
        return self._control.carry(self._ledger.carry(self._state))

    def _may_continue_as_new(self) -> bool:
        return (
            loop.must_continue_as_new(
                self._state,
                self._session,
                steps_before=self._steps_before,
                suggested=workflow.info().is_continue_as_new_suggested(),
            )
            and not self._ledger.waiting
            # Where the session stands if nobody writes is not carried over: first it is seen whether a message leads on.
            and self._end is None
            and workflow.all_handlers_finished()
        )

    def _continue_as_new(self) -> NoReturn:
        # A pinned session takes up the current version of the workers here, where it holds nothing that old code wrote but
        # its carried state. Without worker versions this says nothing.
        workflow.continue_as_new(
            self._session.model_copy(update={"carried": self._carry()}),
            initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
        )

    # The end

    async def _finish(self, end: End) -> FinishOutcome:
        """Write the end until it is written, or put off. A cancel that arrives meanwhile repeats it: the store picks the outcome."""
        self._closing = True
        while True:
            request = FinishInput(
                fence=self.fence(),
                stop_reason=end.stop_reason,
                error_code=end.error_code,
                error_message=end.error_message,
                retryable=end.retryable,
                cancel_seen=workflow.cancellation_reason() is not None,
                reads_on=loop.reads_on(self._state, self._session, end),
                answered=end.answered,
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
                raise ApplicationError(failure_message(error), type=failure_type(error), non_retryable=True) from error

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

    def show(self, doing: str) -> None:
        waiting = {} if self._over else self._ledger.waiting
        workflow.set_current_details(
            details(
                self._session,
                self._control.carry(self._state),
                doing,
                waiting,
                now=workflow.now(),
                said=self._said,
                ran=self._ran,
            )
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


async def _stopped(asked: "workflow.ActivityHandle[ModelOutcome]") -> ModelOutcome | None:
    """Cancel a model call and wait until it is gone. If it had its answer meanwhile, that is stored and counts."""
    asked.cancel()
    try:
        return await asked
    except (asyncio.CancelledError, ActivityError):
        return None


def _failure(error: FailureError) -> End:
    if workflow.cancellation_reason() is not None:
        return End(StopReason.CANCELLED)
    code = failure_type(error)
    known = code in {c.value for c in Code}
    return End(
        StopReason.ERROR,
        code if known else Code.INTERNAL,
        failure_message(error)
        if known or failure_cause(error) is None
        else "The session failed inside Conductor; the logs tell more.",
        retryable=code == Code.MODEL_UNAVAILABLE,
    )
