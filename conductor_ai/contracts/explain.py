"""Why a session does not move: the reasons, and the facts that they are found in."""

from enum import StrEnum
from typing import Literal

from conductor_ai.contracts.base import Contract, UtcTime
from conductor_ai.contracts.control import Pause
from conductor_ai.contracts.status import Phase, Status, StopReason
from conductor_ai.contracts.views import ErrorView, RetryView


class Reason(StrEnum):
    """Why a session stands where it stands."""

    ENDED = "ended"
    """It has ended; nothing will happen any more."""
    ENGINE_DOWN = "engine_down"
    """Temporal does not answer; the facts are the database's alone."""
    ENDED_IN_ENGINE = "ended_in_engine"
    """Its workflow was ended in Temporal without writing its end; the reconciler will."""
    NOT_STARTED = "not_started"
    """Temporal does not know it yet: the start did not arrive."""
    NO_WORKER = "no_worker"
    """A task waits, and no worker asks for tasks of that queue."""
    WORKFLOW_TASK_FAILING = "workflow_task_failing"
    """A worker fails to run the workflow's code, and tries again."""
    CANCELLING = "cancelling"
    """A cancel was accepted; what runs is being stopped."""
    MODEL_RETRY = "model_retry"
    """The model did not answer; the next attempt has a time."""
    TOOL_RETRY = "tool_retry"
    """What a tool needs was away; the next attempt has a time."""
    STORE_RETRY = "store_retry"
    """What was decided or came out could not be written down yet; the next attempt has a time."""
    QUEUE_BACKLOG = "queue_backlog"
    """Workers are there, and busy: a task waits for its turn."""
    BUDGET = "budget"
    """A limit on cost or tokens is used up; raising it resumes the session."""
    PAUSED = "paused"
    """A person paused it, or it kept proposing what was denied; a person resumes it."""
    APPROVAL_EXPIRING = "approval_expiring"
    """A person has to decide, and the time to do so is almost over."""
    AWAITING_APPROVAL = "awaiting_approval"
    """A person has to decide about a call."""
    AWAITING_INPUT = "awaiting_input"
    """It waits for the next message."""
    MODEL_RUNNING = "model_running"
    """The model is being asked right now."""
    TOOL_RUNNING = "tool_running"
    """A tool is running right now."""
    MOVING = "moving"
    """Nothing holds it up."""


WaitsFor = Literal["nothing", "time", "person", "operator"]
"""Who or what has to act: nobody; it goes on by itself; somebody who uses it; somebody who runs the server."""


class PendingActivity(Contract):
    """Something that Temporal has scheduled and that has not been done."""

    activity: str
    """`call_model`, `run_tool`, `prepare_call`, `record` or `finish`."""
    state: Literal["scheduled", "started", "cancel_requested", "paused"]
    queue: str
    attempt: int
    maximum_attempts: int
    """0: as many as it takes."""
    scheduled_at: UtcTime | None = None
    """Of this attempt: in the future while it waits to be repeated."""
    started_at: UtcTime | None = None
    heartbeat_at: UtcTime | None = None
    """The last sign of life of a running attempt."""
    next_attempt_at: UtcTime | None = None
    last_failure: str | None = None
    """Why the attempt before failed."""


class PendingTask(Contract):
    """The workflow's own next task."""

    state: Literal["scheduled", "started"]
    scheduled_at: UtcTime | None = None
    attempt: int = 1


class QueueFacts(Contract):
    """A task queue, as Temporal sees it."""

    name: str
    kind: Literal["workflow", "activity"]
    pollers: int
    """Workers that asked for tasks within the last minutes."""
    last_poll_at: UtcTime | None = None
    backlog: int | None = None
    """Tasks that wait, approximately, of all sessions."""
    backlog_age_seconds: float | None = None


class EngineFacts(Contract):
    """What Temporal says."""

    reachable: bool
    workflow: Literal["unknown", "running", "closed"] = "unknown"
    """`unknown`: Temporal knows no such workflow, or could not be asked."""
    workflow_task: PendingTask | None = None
    activities: tuple[PendingActivity, ...] = ()
    queues: tuple[QueueFacts, ...] = ()


class WaitingApproval(Contract):
    """A call that a person is asked about."""

    id: str
    tool: str
    requested_at: UtcTime
    expires_at: UtcTime


class BudgetFacts(Contract):
    """A limit, and what of it is used."""

    max_cost_usd: float | None = None
    max_total_tokens: int | None = None
    cost_usd: float = 0
    total_tokens: int = 0


class StoredFacts(Contract):
    """What the database says, or a copy of it."""

    status: Status
    phase: Phase
    created_at: UtcTime
    updated_at: UtcTime
    """Of the last change."""
    ended_at: UtcTime | None = None
    deadline_at: UtcTime | None = None
    stop_reason: StopReason | None = None
    error: ErrorView | None = None
    step_count: int = 0
    start_state: Literal["starting", "started", "abandoned"] | None = None
    """Null if only a copy could be read."""
    cancel_requested_at: UtcTime | None = None
    paused: Pause | None = None
    budget: BudgetFacts | None = None
    approvals: tuple[WaitingApproval, ...] = ()
    retry: RetryView | None = None
    degraded: bool = False
    """True if this is a copy, because the database is away."""


class ExplainFacts(Contract):
    """All that an explanation is made of."""

    at: UtcTime
    """When they were gathered."""
    stored: StoredFacts
    engine: EngineFacts | None
    """Null if the session has ended: Temporal is not asked then."""


class Finding(Contract):
    """One reason."""

    reason: Reason
    sentence: str
    """What holds the session up, in plain words."""
    advice: str | None = None
    """What to do, if there is something to do."""
    waits_for: WaitsFor
    """Who or what has to act: nobody (`nothing`), it goes on by itself (`time`), somebody who uses it, somebody who runs
    the server."""
    until: UtcTime | None = None
    """When it goes on at the latest, if that is known."""


class Explanation(Finding):
    """Why a session does not move, and the facts behind it."""

    session_id: str
    also: tuple[Finding, ...]
    """Further reasons that hold at the same time."""
    facts: ExplainFacts
