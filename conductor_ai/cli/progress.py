"""What has changed between two looks at a session. Pure: snapshots in, events out."""

from dataclasses import dataclass
from typing import TypeAlias

from conductor_ai.contracts.status import CallState, Phase
from conductor_ai.contracts.views import ActionView, ApprovalView, RetryView, SessionView, StepView


@dataclass(frozen=True)
class Begun:
    """The first look."""

    session: SessionView


@dataclass(frozen=True)
class StepTaken:
    """The model has answered: its thought and its calls are known."""

    step: StepView


@dataclass(frozen=True)
class CallSettled:
    """A call has come to its end."""

    step_number: int
    action: ActionView


@dataclass(frozen=True)
class StepDone:
    """Every call of a step has come to its end; if it has none, it is known whether it is the answer."""

    step: StepView


@dataclass(frozen=True)
class Asked:
    """A call waits for a person."""

    approval: ApprovalView


@dataclass(frozen=True)
class Retrying:
    """An attempt failed and will be repeated."""

    retry: RetryView


@dataclass(frozen=True)
class Degraded:
    """The server shows a copy, because its database is away."""


Event: TypeAlias = Begun | StepTaken | CallSettled | StepDone | Asked | Retrying | Degraded


class Progress:
    """Remembers what has been told of one session, so that each thing is told once, in order.

    Steps that a reset of the workflow took back and did again are told again: they are other steps with the same number.
    """

    def __init__(self) -> None:
        self._begun = False
        self._taken: set[tuple[object, ...]] = set()
        self._done: set[tuple[object, ...]] = set()
        self._settled: set[tuple[str, CallState]] = set()
        self._asked: set[tuple[str, str]] = set()
        self._retry: RetryView | None = None
        self._degraded = False
        self._complete = 0

    @property
    def complete(self) -> int:
        """The number of the last step up to which all are done: nothing new is to be learnt of them."""
        return self._complete

    def update(self, view: SessionView) -> tuple[Event, ...]:
        """What is new in `view`, which may leave out steps up to `complete`."""
        events: list[Event] = []
        if not self._begun:
            self._begun = True
            events.append(Begun(view))
        if view.degraded and not self._degraded:
            events.append(Degraded())
        self._degraded = view.degraded
        self._complete = min(self._complete, view.step_count)
        for step in sorted(view.steps, key=lambda step: step.step_number):
            over = step.is_final or view.status.ended or step.step_number < view.step_count
            events.extend(self._step(step, whole=bool(step.actions) or over))
        if view.retry is not None and view.retry != self._retry:
            events.append(Retrying(view.retry))
        self._retry = view.retry
        for approval in view.pending_approvals:
            if (seen := identity(approval)) not in self._asked:
                self._asked.add(seen)
                events.append(Asked(approval))
        return tuple(events)

    def _step(self, step: StepView, *, whole: bool) -> list[Event]:
        """`whole`: False for a step without calls of which it is not known yet whether it is the answer."""
        events: list[Event] = []
        key = (step.step_number, *(action.call_id for action in step.actions), step.started_at)
        if key not in self._taken:
            self._taken.add(key)
            events.append(StepTaken(step))
        for action in step.actions:
            # An outcome that was unknown may be settled later: then it is told once more.
            if action.status.settled and (action.call_id, action.status) not in self._settled:
                self._settled.add((action.call_id, action.status))
                events.append(CallSettled(step.step_number, action))
        if whole and all(action.status.settled for action in step.actions):
            if key not in self._done:
                self._done.add(key)
                events.append(StepDone(step))
            if step.step_number == self._complete + 1:
                self._complete = step.step_number
        return events


def identity(approval: ApprovalView) -> tuple[str, str]:
    """What a decision is about: this call with these arguments."""
    return approval.id, approval.arguments_sha256


def only_people_can_move(view: SessionView) -> bool:
    """Whether nothing happens in this session until somebody decides, resumes or writes."""
    if view.status.ended:
        return False
    if view.phase in (Phase.PAUSED, Phase.AWAITING_INPUT):
        return True
    working = any(
        action.status in (CallState.READY, CallState.EXECUTING) for step in view.steps for action in step.actions
    )
    return bool(view.pending_approvals) and not working
