"""The closed sets of words that sessions, calls and approvals are described with."""

from enum import StrEnum


class Status(StrEnum):
    """The coarse state of a session. Clients loop while it is `pending` or `running`."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True once nothing can change the outcome any more."""
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class Phase(StrEnum):
    """The fine state of a session: what it is doing or waiting for right now."""

    QUEUED = "queued"
    THINKING = "thinking"
    CALLING_TOOL = "calling_tool"
    AWAITING_APPROVAL = "awaiting_approval"
    AWAITING_INPUT = "awaiting_input"
    RETRYING = "retrying"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    DONE = "done"


class StopReason(StrEnum):
    """Why a session ended."""

    FINAL_ANSWER = "final_answer"
    MAX_STEPS = "max_steps"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    REFUSAL = "refusal"
    ERROR = "error"


class CallState(StrEnum):
    """The state of one tool call. All after `executing` are end states, but `outcome_unknown` may be settled later."""

    READY = "ready"
    WAITING = "waiting"
    EXECUTING = "executing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INVALID = "invalid"
    DENIED = "denied"
    ANSWERED = "answered"
    """A person gave the result in the tool's place."""
    EXPIRED = "expired"
    ABANDONED = "abandoned"
    OUTCOME_UNKNOWN = "outcome_unknown"

    @property
    def settled(self) -> bool:
        """True when there is a result that the model can be told."""
        return self not in (CallState.READY, CallState.WAITING, CallState.EXECUTING)


class ApprovalStatus(StrEnum):
    """The state of one approval. Everything but `pending` is an end state and never flips."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EDITED = "edited"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
