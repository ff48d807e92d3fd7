"""What the REST API shows. The names of the fields are promises to clients."""

from typing import Any, Literal

from conductor_ai.contracts.base import Contract, Json, JsonObject, UtcTime
from conductor_ai.contracts.control import Pause
from conductor_ai.contracts.decisions import DecisionKind
from conductor_ai.contracts.policy import OnExpiry
from conductor_ai.contracts.status import ApprovalStatus, CallState, Phase, Status, StopReason
from conductor_ai.contracts.tools import Column


class Tokens(Contract):
    """Tokens of one step, all attempts together."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


class ActionView(Contract):
    """One tool call of a step."""

    call_id: str
    tool_name: str
    arguments: Json
    arguments_sha256: str
    status: CallState
    observation: str | None = None
    """What the model was told; None while the call is open."""
    data: Json = None
    truncated: bool = False
    error: JsonObject | None = None
    approval_id: str | None = None
    started_at: UtcTime | None = None
    finished_at: UtcTime | None = None


class FirstAction(Contract):
    """The first call of a step, in the short form."""

    tool_name: str
    arguments: Json


class StepView(Contract):
    """One step: an answer of the model and what its calls came to."""

    step_number: int
    thought: str | None
    action: FirstAction | None
    actions: tuple[ActionView, ...]
    observation: str | None
    """What the calls came to, one after the other."""
    is_final: bool
    final_answer: str | None
    output: Json = None
    """In the final step of a session with an `output_schema`: the answer's value."""
    tokens: Tokens
    cost_usd: float
    latency_ms: int
    model: str | None = None
    """The model that answered: after a fallback another than the session's."""
    attempts: int
    started_at: UtcTime


class ExecutionState(Contract):
    """What became of an approved call, apart from the decision."""

    state: Literal["not_started", "executing", "succeeded", "failed", "outcome_unknown"]


class DecisionView(Contract):
    """One decision about an approval."""

    by: str
    decision: DecisionKind
    comment: str | None
    at: UtcTime
    via: str
    verified: bool
    content_sha256: str = ""
    """The digest of what came with it: the new arguments, the answer, the wish to remember."""
    counted: bool
    """True for the one that decided; the others came later or said the same."""


class ApprovalView(Contract):
    """A call that a person is asked about, with its consequence."""

    id: str
    session_id: str
    step: int
    call_id: str
    tool: str
    arguments: Json
    arguments_sha256: str
    summary: str
    risk: Literal["low", "medium", "high"]
    evidence: tuple[Column, ...]
    thought: str | None
    rule: str
    round: int = 1
    """Which time the call is asked: again after an edit, or when its effect has changed since."""
    allowed_decisions: tuple[DecisionKind, ...] = ("approve", "deny", "edit", "answer")
    status: ApprovalStatus
    requested_at: UtcTime
    expires_at: UtcTime
    on_expiry: OnExpiry = OnExpiry.EXPIRE
    decisions: tuple[DecisionView, ...] = ()
    execution: ExecutionState


class ErrorView(Contract):
    """Why a session failed."""

    code: str
    message: str
    retryable: bool


class RetryView(Contract):
    """A failed attempt that will be repeated."""

    what: Literal["model", "tool"]
    attempt: int
    next_at: UtcTime
    reason: str
    call_no: int | None = None
    call_id: str | None = None


class TimesView(Contract):
    """When what happened."""

    created_at: UtcTime
    started_at: UtcTime | None
    ended_at: UtcTime | None
    updated_at: UtcTime
    deadline_at: UtcTime | None


class BudgetView(Contract):
    """What the session may spend, and what is left. Null: no limit."""

    max_cost_usd: float | None
    max_total_tokens: int | None
    cost_usd_left: float | None
    tokens_left: int | None


class MessageView(Contract):
    """Something that the caller said at the start, or a person later on."""

    message_id: str | None
    """Null for those of the start."""
    role: Literal["system", "user", "assistant"]
    content: str
    at: UtcTime
    by: str | None
    before_step: int | None
    """The step that had read it first; null while nobody has."""
    status: Literal["waiting", "read", "not_read"]
    """`not_read`: the session ended before the model could read it, or answer it in time."""


class SessionView(Contract):
    """A session as `GET /v1/agents/{id}` shows it."""

    session_id: str
    status: Status
    phase: Phase
    waiting_for: str | None
    """A sentence: what the session waits for, if it waits."""
    model: str
    fallback_models: tuple[str, ...] = ()
    """What the session goes on with, in this order, when a model cannot be had."""
    title: str | None
    metadata: dict[str, Any]
    tools: tuple[str, ...]
    max_steps: int
    step_count: int
    steps: tuple[StepView, ...]
    input_tokens: int
    output_tokens: int
    total_cost_usd: float
    final_answer: str | None
    output: Json = None
    """The final answer's value, if the session has an `output_schema`: it fits."""
    stop_reason: StopReason | None
    error: ErrorView | None
    pending_approvals: tuple[ApprovalView, ...]
    retry: RetryView | None
    mode: Literal["run", "chat"] = "run"
    paused: Pause | None = None
    """Why it stands still between two steps, if it does."""
    budget: BudgetView | None = None
    messages: tuple[MessageView, ...] = ()
    """What was said to the model, in order."""
    times: TimesView
    version: int
    """Counts every change; the same number is the ETag."""
    warnings: tuple[str, ...]
    degraded: bool = False
    """True if this comes from a copy because the database is away; it may be old."""


class SessionSummary(Contract):
    """A session in a list."""

    session_id: str
    status: Status
    phase: Phase
    model: str
    title: str | None
    metadata: dict[str, Any]
    step_count: int
    total_cost_usd: float
    stop_reason: StopReason | None
    created_at: UtcTime
    ended_at: UtcTime | None
    version: int
