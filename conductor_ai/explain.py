"""Why does a session not move? A pure function of what the rows and Temporal say, tested as a table.

Each rule looks for one reason. They stand in the order in which the reasons hold a session up: without Temporal nothing goes
on, without a worker nobody hears a decision, and so on. The first that applies is the explanation, the others are told too.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from conductor_ai.contracts.control import PauseKind
from conductor_ai.contracts.explain import (
    BudgetFacts,
    ExplainFacts,
    Explanation,
    Finding,
    PendingActivity,
    QueueFacts,
    Reason,
)
from conductor_ai.contracts.status import Phase

NEAR = timedelta(minutes=5)
"""An approval with less time than this is about to expire."""
PROMPT = timedelta(seconds=2)
"""A worker with a free place takes a task in milliseconds: one that waits for longer waits for something."""
POLL = timedelta(seconds=70)
"""Workers ask again at least this often, unless all their places are taken."""
SILENCE = timedelta(seconds=10)
"""An attempt that gave no sign of life for so long is given up by Temporal."""


def explain(session_id: str, facts: ExplainFacts) -> Explanation:
    """The reason that holds the session up most, the others, and the facts."""
    if facts.stored.status.ended:
        first, others = _ended(facts), []
    else:
        first, *others = [finding for rule in _RULES if (finding := rule(facts)) is not None] or [_moving(facts)]
    return Explanation(session_id=session_id, **dict(first), also=tuple(others), facts=facts)


# The rules


def _ended(facts: ExplainFacts) -> Finding:
    stored = facts.stored
    why = "" if stored.stop_reason is None else f" ({stored.stop_reason.value})"
    failed = "" if stored.error is None else f" {stored.error.message}"
    retryable = stored.error is not None and stored.error.retryable
    return Finding(
        reason=Reason.ENDED,
        sentence=f"It has ended: {stored.status.value}{why}, {_ago(facts, stored.ended_at)}.{failed}",
        advice="Start a new session: the same may work now." if retryable else None,
        waits_for="nothing",
    )


def _engine_down(facts: ExplainFacts) -> Finding | None:
    if facts.engine is None or facts.engine.reachable:
        return None
    return Finding(
        reason=Reason.ENGINE_DOWN,
        sentence="Temporal does not answer. Nothing is lost, and nothing goes on until it is back; this is what the database "
        f"knows: the session is in the phase {facts.stored.phase.value} since {_since(facts, facts.stored.updated_at)}.",
        advice="Start Temporal, or see why this server does not reach it (`GET /readyz`, `conductor doctor`).",
        waits_for="operator",
    )


def _ended_in_engine(facts: ExplainFacts) -> Finding | None:
    if facts.engine is None or facts.engine.workflow != "closed":
        return None
    return Finding(
        reason=Reason.ENDED_IN_ENGINE,
        sentence="Its workflow was ended in Temporal without writing the session's end. A worker's reconciler writes it at its "
        "next round.",
        advice="If it stays so for some minutes, see whether a worker runs.",
        waits_for="time",
    )


def _not_started(facts: ExplainFacts) -> Finding | None:
    engine = facts.engine
    if engine is None or not engine.reachable or engine.workflow != "unknown":
        return None
    return Finding(
        reason=Reason.NOT_STARTED,
        sentence=f"Temporal does not know it: it was asked for {_ago(facts, facts.stored.created_at)} and the start has not "
        "arrived. A worker's reconciler starts it, or ends it as abandoned if it was asked for without an Idempotency-Key.",
        advice="Send the start again with the same Idempotency-Key, if there was one.",
        waits_for="time",
    )


def _no_worker(facts: ExplainFacts) -> Finding | None:
    for task, queue, since in _waiting(facts):
        if queue is None or _polled(facts, queue):
            continue
        seen = f"the last one asked {_ago(facts, queue.last_poll_at)}" if queue.last_poll_at else "none was seen lately"
        return Finding(
            reason=Reason.NO_WORKER,
            sentence=f"No worker takes tasks of the queue `{queue.name}` ({seen}). {task} waits since {_since(facts, since)}.",
            advice="Start a worker (`conductor worker`), or see why none reaches Temporal.",
            waits_for="operator",
        )
    return None


def _workflow_task_failing(facts: ExplainFacts) -> Finding | None:
    task = None if facts.engine is None else facts.engine.workflow_task
    if task is None or task.attempt < 2:
        return None
    return Finding(
        reason=Reason.WORKFLOW_TASK_FAILING,
        sentence=f"Workers fail to run the workflow's code; this is attempt {task.attempt}. The session is kept as it is, and "
        "goes on when a worker with code that can run it comes.",
        advice="See the worker's log. After an upgrade: run the version that the session was started with.",
        waits_for="operator",
    )


def _cancelling(facts: ExplainFacts) -> Finding | None:
    stored = facts.stored
    if stored.phase is not Phase.CANCELLING and stored.cancel_requested_at is None:
        return None
    running = sorted({item.activity for item in _activities(facts) if item.state in ("started", "cancel_requested")})
    what = f" What runs is being stopped: {', '.join(running)}." if running else ""
    since = f" {_ago(facts, stored.cancel_requested_at)}" if stored.cancel_requested_at else ""
    return Finding(
        reason=Reason.CANCELLING,
        sentence=f"A cancel was accepted{since}; from now on it can only end as cancelled.{what}",
        waits_for="time",
    )


_RETRIES = {
    "call_model": (Reason.MODEL_RETRY, "The model did not answer"),
    "run_tool": (Reason.TOOL_RETRY, "A tool could not run"),
    "prepare_call": (Reason.TOOL_RETRY, "What a call would do could not be looked up"),
    "revise_call": (Reason.STORE_RETRY, "A person's new arguments could not be written down"),
}
_OTHER_RETRY = (Reason.STORE_RETRY, "What came out could not be written down")


def _retry(facts: ExplainFacts) -> Finding | None:
    for item in _activities(facts):
        due = item.next_attempt_at or item.scheduled_at
        if item.state != "scheduled" or item.attempt < 2 or due is None or due <= facts.at:
            continue
        reason, what = _RETRIES.get(item.activity, _OTHER_RETRY)
        return _retrying(facts, reason, what, item.attempt, item.maximum_attempts, due, _why(facts, item))
    retry = facts.stored.retry
    if (
        facts.engine is not None
        and not facts.engine.reachable
        and retry is not None
        and facts.stored.phase is Phase.RETRYING
    ):
        reason, what = _RETRIES["call_model" if retry.what == "model" else "run_tool"]
        return _retrying(facts, reason, what, retry.attempt, 0, retry.next_at, retry.reason)
    return None


def _retrying(
    facts: ExplainFacts, reason: Reason, what: str, attempt: int, most: int, due: datetime, why: str | None
) -> Finding:
    of = f" of {most}" if most else ""
    because = f" ({why})" if why else ""
    return Finding(
        reason=reason,
        sentence=f"{what}{because}. Attempt {attempt}{of} comes {_in(facts, due)}.",
        waits_for="time",
        until=due,
    )


def _why(facts: ExplainFacts, item: PendingActivity) -> str | None:
    retry = facts.stored.retry
    if retry is not None and (retry.what == "model") == (item.activity == "call_model"):
        return retry.reason
    return item.last_failure


def _queue_backlog(facts: ExplainFacts) -> Finding | None:
    for task, queue, since in _waiting(facts):
        if queue is None or not _polled(facts, queue):
            continue
        behind = f", where about {queue.backlog} wait" if queue.backlog else ""
        return Finding(
            reason=Reason.QUEUE_BACKLOG,
            sentence=f"{task} waits since {_since(facts, since)} in the queue `{queue.name}`{behind}. Workers are there "
            f"(last asked {_ago(facts, queue.last_poll_at)}), and all their places are taken, or one has just died.",
            advice="Wait, start further workers, or give this one more places (CONDUCTOR_SANDBOX_CONCURRENCY for code).",
            waits_for="time",
        )
    return None


def _budget(facts: ExplainFacts) -> Finding | None:
    stored = facts.stored
    if stored.paused is None or stored.paused.kind is not PauseKind.BUDGET:
        return None
    budget = stored.budget or BudgetFacts()
    parts = []
    if budget.max_cost_usd is not None:
        parts.append(f"{budget.cost_usd:.4f} of {budget.max_cost_usd:.4f} US dollars")
    if budget.max_total_tokens is not None:
        parts.append(f"{budget.total_tokens:,} of {budget.max_total_tokens:,} tokens")
    used = f" ({' and '.join(parts)})" if parts else ""
    return Finding(
        reason=Reason.BUDGET,
        sentence=f"A limit of the session is used up{used}. It is paused until the limit is raised.",
        advice="Raise the limit (`PATCH /v1/agents/{id}/budget`), or cancel the session.",
        waits_for="person",
        until=stored.deadline_at,
    )


def _paused(facts: ExplainFacts) -> Finding | None:
    stored = facts.stored
    if stored.paused is None or stored.paused.kind is PauseKind.BUDGET:
        return None
    by = f" by {stored.paused.by}" if stored.paused.by else ""
    why = f": {stored.paused.reason.rstrip('.')}" if stored.paused.reason else ""
    return Finding(
        reason=Reason.PAUSED,
        sentence=f"It is paused{by}{why}. Its last change was {_ago(facts, stored.updated_at)}.",
        advice="Resume it (`POST /v1/agents/{id}/resume`).",
        waits_for="person",
        until=stored.deadline_at,
    )


def _approval(facts: ExplainFacts) -> Finding | None:
    waiting = sorted(facts.stored.approvals, key=lambda item: item.expires_at)
    if not waiting:
        return None
    first = waiting[0]
    more = (
        f", and {len(waiting) - 1} more calls" if len(waiting) > 2 else ", and 1 more call" if len(waiting) == 2 else ""
    )
    asked = f"A person has to decide about {first.tool} ({first.id}){more}; asked {_ago(facts, first.requested_at)}"
    if first.expires_at <= facts.at:
        then = "The time to decide is over; the model is told so as soon as a worker gets to it."
        return Finding(
            reason=Reason.APPROVAL_EXPIRING, sentence=f"{asked}. {then}", waits_for="time", until=first.expires_at
        )
    near = first.expires_at - facts.at < NEAR
    return Finding(
        reason=Reason.APPROVAL_EXPIRING if near else Reason.AWAITING_APPROVAL,
        sentence=f"{asked}. It expires {_in(facts, first.expires_at)}; then the model is told that nobody decided, and goes on.",
        advice="Decide: `POST /v1/approvals/{id}/decision`, or `conductor approvals`.",
        waits_for="person",
        until=first.expires_at,
    )


def _input(facts: ExplainFacts) -> Finding | None:
    if facts.stored.phase is not Phase.AWAITING_INPUT:
        return None
    return Finding(
        reason=Reason.AWAITING_INPUT,
        sentence=f"It has answered and waits for the next message, since {_since(facts, facts.stored.updated_at)}.",
        advice="Send a message (`POST /v1/agents/{id}/messages`).",
        waits_for="person",
    )


def _running(facts: ExplainFacts) -> Finding | None:
    for item in _activities(facts):
        if item.state not in ("started", "cancel_requested") or item.activity not in (
            "call_model",
            "run_tool",
            "prepare_call",
        ):
            continue
        # Short calls that only read run beside the model's answer, in the same activity.
        model = item.activity == "call_model" and facts.stored.phase is not Phase.CALLING_TOOL
        what = "The model is being asked" if model else "A tool is running"
        alive = item.heartbeat_at or item.started_at
        silent = alive is not None and facts.at - alive > SILENCE
        gone = (
            f" It gave no sign of life since {_since(facts, alive)}; Temporal is about to give it up." if silent else ""
        )
        return Finding(
            reason=Reason.MODEL_RUNNING if model else Reason.TOOL_RUNNING,
            sentence=f"{what}, since {_since(facts, item.started_at)} (attempt {item.attempt}).{gone}",
            waits_for="time",
        )
    return None


def _moving(facts: ExplainFacts) -> Finding:
    return Finding(
        reason=Reason.MOVING,
        sentence=f"Nothing holds it up: it is in the phase {facts.stored.phase.value}, and its last change was "
        f"{_ago(facts, facts.stored.updated_at)}.",
        waits_for="time",
    )


_RULES: tuple[Callable[[ExplainFacts], Finding | None], ...] = (
    _engine_down,
    _ended_in_engine,
    _not_started,
    _no_worker,
    _workflow_task_failing,
    _cancelling,
    _retry,
    _queue_backlog,
    _budget,
    _paused,
    _approval,
    _input,
    _running,
)


# What the rules look at


def _activities(facts: ExplainFacts) -> tuple[PendingActivity, ...]:
    return () if facts.engine is None else facts.engine.activities


def _waiting(facts: ExplainFacts) -> list[tuple[str, QueueFacts | None, datetime]]:
    """Tasks that could be done now and that nobody has taken, with their queue and since when."""
    engine = facts.engine
    if engine is None or not engine.reachable or engine.workflow != "running":
        return []
    queues = {(queue.name, queue.kind): queue for queue in engine.queues}
    found: list[tuple[str, QueueFacts | None, datetime]] = []
    task = engine.workflow_task
    if task is not None and task.state == "scheduled" and task.scheduled_at and facts.at - task.scheduled_at > PROMPT:
        main = next((queue for queue in engine.queues if queue.kind == "workflow"), None)
        found.append(("Its next task", main, task.scheduled_at))
    for item in engine.activities:
        due = item.next_attempt_at or item.scheduled_at
        if item.state == "scheduled" and due is not None and facts.at - due > PROMPT:
            found.append((f"`{item.activity}`", queues.get((item.queue, "activity")), due))
    return found


def _polled(facts: ExplainFacts, queue: QueueFacts) -> bool:
    return queue.last_poll_at is not None and facts.at - queue.last_poll_at < POLL


# Words


def _ago(facts: ExplainFacts, moment: datetime | None) -> str:
    if moment is None:
        return "some time ago"
    return f"{_span(facts.at - moment)} ago ({_moment(moment)})"


def _since(facts: ExplainFacts, moment: datetime | None) -> str:
    return "some time" if moment is None else f"{_moment(moment)} ({_span(facts.at - moment)})"


def _in(facts: ExplainFacts, moment: datetime) -> str:
    return f"in {_span(moment - facts.at)} ({_moment(moment)})"


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _span(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"
