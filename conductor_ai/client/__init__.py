"""A Python client of the REST API, for asyncio (`AsyncConductor`) and without (`Conductor`).

    from conductor_ai.client import Conductor

    with Conductor("http://127.0.0.1:8080", "ck_…") as client:
        started = client.sessions.run("What does the shop sell?", tools=["sql_query"])
        session = client.sessions.wait(started.session_id)
        for approval in session.pending_approvals:
            client.approvals.approve(approval, comment="It only reads.")
        print(client.sessions.wait(started.session_id, until="ended").final_answer)

It imports contracts and httpx; neither the server nor Temporal.

How it is made: a resource (`sessions.py`, `approvals.py`, …) only describes requests and reads answers. What takes several requests
is a generator of steps (`retrying.py`, `waiting.py`, `paging.py`, `streaming.py`). The two transports (`transports.py`) carry steps out, and `endpoint.py` makes
one method of each description that waits on a `Conductor` and is awaited on an `AsyncConductor`.
"""

from conductor_ai.client.approvals import Choice, Seen, SeenElsewhere
from conductor_ai.client.clients import AsyncConductor, Conductor
from conductor_ai.client.errors import (
    AlreadyDecided,
    Ambiguous,
    ApiError,
    ApprovalClosed,
    ApprovalExpired,
    BodyTooLarge,
    BudgetUsedUp,
    ClientError,
    Conflict,
    ConnectionFailed,
    DigestMismatch,
    EngineUnavailable,
    FieldError,
    Forbidden,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    ModelRetired,
    NotFound,
    NotSupported,
    Problem,
    RateLimited,
    ServerError,
    SessionBusy,
    SessionEnded,
    SessionOpen,
    StoreUnavailable,
    TooManyMessages,
    TooManyRequests,
    TooManySessions,
    TooManyStreams,
    Unauthenticated,
    UnexpectedAnswer,
    UnknownModel,
    UnknownTool,
    UnsupportedMediaType,
    WaitTimeout,
)
from conductor_ai.client.paging import AsyncPages, Pages
from conductor_ai.client.sessions import Asking, Limits, Message
from conductor_ai.client.streaming import AsyncStream, Stream
from conductor_ai.contracts.answers import (
    CancelAnswer,
    Health,
    ModelView,
    Page,
    Readiness,
    RunAccepted,
    ToolView,
)
from conductor_ai.contracts.events import DeltaView, EventView
from conductor_ai.contracts.explain import Explanation
from conductor_ai.contracts.grants import GrantView, Remember
from conductor_ai.contracts.status import ApprovalStatus, CallState, Phase, Status, StopReason
from conductor_ai.contracts.views import ApprovalView, SessionSummary, SessionView, StepView

__all__ = [
    "AlreadyDecided",
    "Ambiguous",
    "ApiError",
    "ApprovalClosed",
    "ApprovalExpired",
    "ApprovalStatus",
    "ApprovalView",
    "Asking",
    "AsyncConductor",
    "AsyncPages",
    "AsyncStream",
    "BodyTooLarge",
    "BudgetUsedUp",
    "CallState",
    "CancelAnswer",
    "Choice",
    "ClientError",
    "Conductor",
    "Conflict",
    "ConnectionFailed",
    "DeltaView",
    "DigestMismatch",
    "EngineUnavailable",
    "EventView",
    "Explanation",
    "FieldError",
    "Forbidden",
    "GrantView",
    "Health",
    "IdempotencyInFlight",
    "IdempotencyMismatch",
    "InternalError",
    "InvalidRequest",
    "Limits",
    "Message",
    "MethodNotAllowed",
    "ModelRetired",
    "ModelView",
    "NotFound",
    "NotSupported",
    "Page",
    "Pages",
    "Phase",
    "Problem",
    "RateLimited",
    "Readiness",
    "Remember",
    "RunAccepted",
    "Seen",
    "SeenElsewhere",
    "ServerError",
    "SessionBusy",
    "SessionEnded",
    "SessionOpen",
    "SessionSummary",
    "SessionView",
    "Status",
    "StepView",
    "StopReason",
    "StoreUnavailable",
    "Stream",
    "TooManyMessages",
    "TooManyRequests",
    "TooManySessions",
    "TooManyStreams",
    "ToolView",
    "Unauthenticated",
    "UnexpectedAnswer",
    "UnknownModel",
    "UnknownTool",
    "UnsupportedMediaType",
    "WaitTimeout",
]
