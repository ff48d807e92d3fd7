"""Why a session does not move, as a table: facts on one side, the reason and who has to act on the other."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conductor_ai.contracts.control import Pause, PauseKind
from conductor_ai.contracts.explain import (
    BudgetFacts,
    EngineFacts,
    ExplainFacts,
    Explanation,
    PendingActivity,
    PendingTask,
    QueueFacts,
    Reason,
    StoredFacts,
    WaitingApproval,
)
from conductor_ai.contracts.status import Phase, Status, StopReason
from conductor_ai.contracts.views import ErrorView, RetryView
from conductor_ai.explain import explain

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A moment so many seconds from now."""
    return NOW + timedelta(seconds=seconds)


def stored(phase: Phase = Phase.THINKING, **more: Any) -> StoredFacts:
    """What the rows say."""
    given = {"status": Status.RUNNING, "phase": phase, "created_at": at(-100), "updated_at": at(-30), **more}
    return StoredFacts.model_validate({"start_state": "started", **given})


def queue(kind: str = "activity", *, polled: float | None = -1, backlog: int = 0, name: str = "q") -> QueueFacts:
    """A queue that a worker asked so many seconds ago."""
    seen = None if polled is None else at(polled)
    return QueueFacts.model_validate(
        {"name": name, "kind": kind, "pollers": 0 if polled is None else 1, "last_poll_at": seen, "backlog": backlog}
    )


def activity(name: str, state: str = "scheduled", **more: Any) -> PendingActivity:
    """An activity of the first attempt, scheduled half a minute ago."""
    given = {
        "activity": name,
        "state": state,
        "queue": "q",
        "attempt": 1,
        "maximum_attempts": 6,
        "scheduled_at": at(-30),
    }
    return PendingActivity.model_validate({**given, **more})


def engine(*activities: PendingActivity, polled: float | None = -1, **more: Any) -> EngineFacts:
    """Temporal, with both kinds of queue."""
    queues = (queue("workflow", polled=polled), queue(polled=polled, backlog=more.pop("backlog", 0)))
    given = {"reachable": True, "workflow": "running", "activities": activities, "queues": queues}
    return EngineFacts.model_validate({**given, **more})


def told(row: StoredFacts, said: EngineFacts | None) -> Explanation:
    """The explanation of these facts."""
    return explain("sess_1", ExplainFacts(at=NOW, stored=row, engine=said))


def approval(expires: float, **more: Any) -> WaitingApproval:
    """A call that waits for a decision."""
    given = {"id": "appr_1", "tool": "sql_query", "requested_at": at(-60), "expires_at": at(expires)}
    return WaitingApproval.model_validate({**given, **more})


RETRY = RetryView(what="model", attempt=2, next_at=at(40), reason="overloaded", call_no=3)
DOWN = EngineFacts(reachable=False)
FAILED = ErrorView(code="model_unavailable", message="It stayed overloaded.", retryable=True)
WAITS = (approval(3000),)
AGAIN = activity("call_model", attempt=2, scheduled_at=at(40), next_attempt_at=at(40))

TABLE: list[tuple[str, StoredFacts, EngineFacts | None, Reason, str, tuple[Reason, ...], tuple[str, ...]]] = [
    (
        "completed",
        stored(Phase.DONE, status=Status.COMPLETED, ended_at=at(-5), stop_reason=StopReason.FINAL_ANSWER),
        None, Reason.ENDED, "nothing", (), ("completed (final_answer)", "5 s ago"),
    ),
    (
        "failed, and a new one may work",
        stored(Phase.DONE, status=Status.FAILED, ended_at=at(-5), stop_reason=StopReason.ERROR, error=FAILED),
        None, Reason.ENDED, "nothing", (), ("It stayed overloaded.",),
    ),
    ("Temporal down", stored(), DOWN, Reason.ENGINE_DOWN, "operator", (), ("phase thinking",)),
    (
        "Temporal down while it waits for a person",
        stored(Phase.AWAITING_APPROVAL, approvals=WAITS), DOWN,
        Reason.ENGINE_DOWN, "operator", (Reason.AWAITING_APPROVAL,), (),
    ),
    (
        "Temporal down while it retries",
        stored(Phase.RETRYING, retry=RETRY), DOWN, Reason.ENGINE_DOWN, "operator", (Reason.MODEL_RETRY,), (),
    ),
    ("terminated in Temporal", stored(), engine(workflow="closed"), Reason.ENDED_IN_ENGINE, "time", (), ("reconciler",)),
    (
        "the start did not arrive",
        stored(Phase.QUEUED, status=Status.PENDING, start_state="starting"), EngineFacts(reachable=True),
        Reason.NOT_STARTED, "time", (), ("Idempotency-Key",),
    ),
    (
        "no worker for the workflow, nor ever",
        stored(Phase.QUEUED, status=Status.PENDING),
        engine(workflow_task=PendingTask(state="scheduled", scheduled_at=at(-3)), polled=None),
        Reason.NO_WORKER, "operator", (), ("`q`", "none was seen lately", "(3 s)"),
    ),
    (
        "no worker for an activity, since an hour",
        stored(Phase.CALLING_TOOL), engine(activity("run_tool"), polled=-3600),
        Reason.NO_WORKER, "operator", (), ("`run_tool` waits", "1 h ago"),
    ),
    (
        "no worker to repeat a call whose time has come",
        stored(Phase.RETRYING, retry=RETRY.model_copy(update={"next_at": at(-20)})),
        engine(AGAIN.model_copy(update={"next_attempt_at": at(-20)}), polled=None),
        Reason.NO_WORKER, "operator", (), ("(20 s)",),
    ),
    ("a task that has only just come", stored(), engine(activity("call_model", scheduled_at=at(-1)), polled=None),
     Reason.MOVING, "time", (), ("phase thinking", "30 s ago")),
    (
        "no worker while it waits for a person: the person first",
        stored(Phase.AWAITING_APPROVAL, approvals=WAITS), engine(polled=None),
        Reason.AWAITING_APPROVAL, "person", (), (),
    ),
    (
        "workflow code that fails",
        stored(), engine(workflow_task=PendingTask(state="started", scheduled_at=at(-1), attempt=4)),
        Reason.WORKFLOW_TASK_FAILING, "operator", (), ("attempt 4",),
    ),
    (
        "a cancel under way",
        stored(Phase.CANCELLING, cancel_requested_at=at(-4)),
        engine(activity("run_tool", "cancel_requested", started_at=at(-9))),
        Reason.CANCELLING, "time", (Reason.TOOL_RUNNING,), ("4 s ago", "being stopped: run_tool"),
    ),
    (
        "a cancel that no worker can carry out",
        stored(Phase.CANCELLING, cancel_requested_at=at(-4)),
        engine(workflow_task=PendingTask(state="scheduled", scheduled_at=at(-4)), polled=None),
        Reason.NO_WORKER, "operator", (Reason.CANCELLING,), (),
    ),
    (
        "the model is asked again later",
        stored(Phase.RETRYING, retry=RETRY), engine(AGAIN),
        Reason.MODEL_RETRY, "time", (), ("(overloaded)", "Attempt 2 of 6 comes in 40 s (2026-11-24T12:00:40Z)"),
    ),
    (
        "a tool is tried again later",
        stored(Phase.CALLING_TOOL),
        engine(activity("run_tool", attempt=3, maximum_attempts=3, next_attempt_at=at(2), last_failure="Docker is away.")),
        Reason.TOOL_RETRY, "time", (), ("(Docker is away.)", "Attempt 3 of 3"),
    ),
    (
        "the end cannot be written yet",
        stored(), engine(activity("finish", attempt=9, maximum_attempts=0, next_attempt_at=at(30))),
        Reason.STORE_RETRY, "time", (), ("Attempt 9 comes in 30 s",),
    ),
    (
        "a backlog",
        stored(Phase.CALLING_TOOL), engine(activity("run_tool"), polled=-40, backlog=17),
        Reason.QUEUE_BACKLOG, "time", (), ("about 17 wait", "40 s ago", "(30 s)"),
    ),
    (
        "paused by a person",
        stored(Phase.PAUSED, paused=Pause(kind=PauseKind.PERSON, reason="Let me look.", by="Ada (key_1)")), engine(),
        Reason.PAUSED, "person", (), ("It is paused by Ada (key_1): Let me look. Its last change",),
    ),
    (
        "paused because the model insists",
        stored(Phase.PAUSED, paused=Pause(kind=PauseKind.DENIALS, reason="It was denied 3 times.")), engine(),
        Reason.PAUSED, "person", (), ("It is paused: It was denied 3 times.",),
    ),
    (
        "a budget that is used up",
        stored(Phase.PAUSED, paused=Pause(kind=PauseKind.BUDGET, reason="It is used up."),
               budget=BudgetFacts(max_cost_usd=1, cost_usd=1.2, max_total_tokens=5000, total_tokens=1000)),
        engine(), Reason.BUDGET, "person", (), ("1.2000 of 1.0000 US dollars and 1,000 of 5,000 tokens",),
    ),
    (
        "an approval", stored(Phase.AWAITING_APPROVAL, approvals=WAITS), engine(),
        Reason.AWAITING_APPROVAL, "person", (), ("sql_query (appr_1)", "1 min ago", "in 50 min"),
    ),
    (
        "the first of three approvals counts",
        stored(Phase.AWAITING_APPROVAL, approvals=(*WAITS, approval(900, id="appr_2"), approval(9000, id="appr_3"))), engine(),
        Reason.AWAITING_APPROVAL, "person", (), ("appr_2", "and 2 more calls", "in 15 min"),
    ),
    (
        "an approval about to expire", stored(Phase.AWAITING_APPROVAL, approvals=(approval(299),)), engine(),
        Reason.APPROVAL_EXPIRING, "person", (), ("in 4 min 59 s",),
    ),
    (
        "an approval with a moment more", stored(Phase.AWAITING_APPROVAL, approvals=(approval(300),)), engine(),
        Reason.AWAITING_APPROVAL, "person", (), ("in 5 min",),
    ),
    (
        "an approval that has expired unheard",
        stored(Phase.AWAITING_APPROVAL, approvals=(approval(-10),)),
        engine(workflow_task=PendingTask(state="scheduled", scheduled_at=at(-10)), polled=None),
        Reason.NO_WORKER, "operator", (Reason.APPROVAL_EXPIRING,), (),
    ),
    (
        "one call waits for a person while another runs",
        stored(Phase.AWAITING_APPROVAL, approvals=WAITS), engine(activity("run_tool", "started", started_at=at(-3))),
        Reason.AWAITING_APPROVAL, "person", (Reason.TOOL_RUNNING,), (),
    ),
    ("a chat between messages", stored(Phase.AWAITING_INPUT), engine(), Reason.AWAITING_INPUT, "person", (), ("(30 s)",)),
    (
        "the model is being asked", stored(), engine(activity("call_model", "started", started_at=at(-8), heartbeat_at=at(-1))),
        Reason.MODEL_RUNNING, "time", (), ("(8 s) (attempt 1)",),
    ),
    (
        "a short read beside the model's answer",
        stored(Phase.CALLING_TOOL),
        engine(activity("call_model", "started", started_at=at(-8), heartbeat_at=at(-1))),
        Reason.TOOL_RUNNING, "time", (), ("A tool is running",),
    ),
    (
        "a tool whose worker has died",
        stored(Phase.CALLING_TOOL), engine(activity("run_tool", "started", started_at=at(-20), heartbeat_at=at(-11))),
        Reason.TOOL_RUNNING, "time", (), ("no sign of life",),
    ),
    ("nothing", stored(), engine(), Reason.MOVING, "time", (), ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said", "reason", "who", "also", "words"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE]
)
def test_the_table(
    row: StoredFacts,
    said: EngineFacts | None,
    reason: Reason,
    who: str,
    also: tuple[Reason, ...],
    words: tuple[str, ...],
) -> None:
    """Each combination of facts has its reason, names who has to act, and says the facts in its sentence."""
    found = told(row, said)
    assert (found.reason, found.waits_for) == (reason, who)
    assert tuple(item.reason for item in found.also) == also
    for word in words:
        assert word in found.sentence
    assert found.sentence.endswith(".")
    assert "None" not in found.sentence
    assert (found.advice is not None) or who in ("time", "nothing")


def test_every_reason_is_in_the_table() -> None:
    """A reason without a row would be one that nobody has seen."""
    assert {row[3] for row in TABLE} == set(Reason)


def test_what_a_provider_asked_for_is_the_time_of_the_retry() -> None:
    """`until` is when it goes on, as a program reads it."""
    assert told(stored(Phase.RETRYING, retry=RETRY), engine(AGAIN)).until == at(40)
    assert told(stored(Phase.AWAITING_APPROVAL, approvals=WAITS), engine()).until == at(3000)
    assert told(stored(), engine()).until is None


def test_an_ended_session_has_one_reason() -> None:
    """Whatever else lies about: an approval that was cancelled with it, a cancel that came too late."""
    row = stored(Phase.DONE, status=Status.CANCELLED, ended_at=at(-1), cancel_requested_at=at(-2), approvals=WAITS)
    found = told(row, DOWN)
    assert (found.reason, found.also) == (Reason.ENDED, ())
