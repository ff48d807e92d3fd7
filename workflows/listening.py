"""What people send to a session: decisions, pauses, limits, messages. Each answer is a verdict. Only handlers that must wait for the store
are not synchronous.

Everything but a budget comes both as an update, from the API, which needs the answer, and as a signal, from Temporal's UI or
command line, where nobody can prove who sent it.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from conductor_ai import names
from conductor_ai.contracts.control import (
    BudgetRequest,
    ControlAnswer,
    ControlKind,
    MessageNotice,
    PauseRequest,
    ResumeRequest,
)
from conductor_ai.contracts.decisions import TEMPORAL_ACCESS, DecisionRequest, Verdict, VerdictKind
from conductor_ai.contracts.session import Carried, Change, LimitsChanged, SessionInput
from conductor_ai.text import clean
from workflows.control import Control
from workflows.pending import Ledger


class Listening:
    """The handlers of a session's workflow. The session makes what they need before any of them can run."""

    _session: SessionInput
    _state: Carried
    _ledger: Ledger
    _control: Control
    _closing: bool
    """True while the end is being written: whatever comes now is told so, but for messages, which may put it off."""
    _over: bool
    """True once it is written."""

    async def record(self, change: Change) -> None:
        """Have a change written."""
        raise NotImplementedError

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
            return Verdict(kind=VerdictKind.CLOSED, decision=self._ledger.decision((request.call_id, request.round)))
        return self._ledger.decide(request, workflow.now())

    @workflow.signal(name=names.PAUSE)
    def on_pause_signal(self, request: PauseRequest) -> None:
        """A pause from Temporal's UI or CLI."""
        if self._session.allow_signals:
            self._pause(request.model_copy(update={"by": None}))

    @workflow.update(name=names.PAUSE)
    def on_pause(self, request: PauseRequest) -> ControlAnswer:
        """A pause from the API."""
        return self._pause(request)

    def _pause(self, request: PauseRequest) -> ControlAnswer:
        if self._closing:
            return ControlAnswer(kind=ControlKind.CLOSED)
        return self._control.ask_to_pause(clean(request.reason), clean(request.by or TEMPORAL_ACCESS))

    @workflow.signal(name=names.RESUME)
    def on_resume_signal(self, _request: ResumeRequest) -> None:
        """A resume from Temporal's UI or CLI."""
        if self._session.allow_signals:
            self._resume()

    @workflow.update(name=names.RESUME)
    def on_resume(self, _request: ResumeRequest) -> ControlAnswer:
        """A resume from the API."""
        return self._resume()

    def _resume(self) -> ControlAnswer:
        if self._closing:
            return ControlAnswer(kind=ControlKind.CLOSED)
        return self._control.ask_to_resume(self._state.tally)

    @workflow.update(name=names.SET_BUDGET)
    async def on_set_budget(self, request: BudgetRequest) -> ControlAnswer:
        """New limits from the API. Merged here and written in this order; the answer says that they are stored."""
        # After a reset Temporal sends this again, and it is handled before what the same activation says of a model call: that call
        # would look open, and its answer be taken back. One timer later everything that is known has been handled.
        await workflow.sleep(timedelta(milliseconds=1))
        if self._closing:
            return ControlAnswer(kind=ControlKind.CLOSED)
        answer = self._control.set_limits(request, self._state.tally)
        try:
            await self.record(LimitsChanged(limits=answer.limits, by=clean(request.by or TEMPORAL_ACCESS)))
        except ActivityError:
            # It is tried until it is written, or until the session has ended.
            return ControlAnswer(kind=ControlKind.CLOSED)
        return answer

    @workflow.signal(name=names.MESSAGE)
    def on_message_signal(self, notice: MessageNotice) -> None:
        """A message that the API left here, because no worker took it in time.

        It is acknowledged, so it counts also while the end is being written: the store may put the end off for it.
        """
        self._receive(notice)

    @workflow.update(name=names.MESSAGE)
    async def on_message(self, notice: MessageNotice) -> ControlAnswer:
        """A message from the API. Its text is in the store, so an end that is being written now may be put off for it."""
        if self._closing:
            await workflow.wait_condition(lambda: self._over or not self._closing)
        return ControlAnswer(kind=ControlKind.CLOSED) if self._over else self._receive(notice)

    def _receive(self, notice: MessageNotice) -> ControlAnswer:
        return self._control.receive(notice, idle=self._state.idle and not self._control.inbox)
