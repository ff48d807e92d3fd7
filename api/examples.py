"""An example of every answer, for the OpenAPI document. Made of the contracts themselves, so that they cannot say what no answer says."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from conductor_ai.contracts.answers import (
    Alive,
    BatchAnswer,
    BatchResult,
    CancelAnswer,
    Check,
    EventList,
    Health,
    KeyView,
    MessageAccepted,
    ModelList,
    ModelView,
    NewKey,
    Page,
    PriceView,
    Rates,
    Readiness,
    RunAccepted,
    StepList,
    ToolList,
    ToolView,
)
from conductor_ai.contracts.base import Contract
from conductor_ai.contracts.catalog import Capabilities, ProviderName
from conductor_ai.contracts.events import EventView
from conductor_ai.contracts.explain import ExplainFacts, Explanation, Reason, StoredFacts, WaitingApproval
from conductor_ai.contracts.grants import GrantView
from conductor_ai.contracts.status import ApprovalStatus, CallState, Phase, Status
from conductor_ai.contracts.tools import Category, Column
from conductor_ai.contracts.views import (
    ActionView,
    ApprovalView,
    ExecutionState,
    FirstAction,
    SessionSummary,
    SessionView,
    StepView,
    TimesView,
    Tokens,
)

_AT = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
_SESSION = "sess_5d0f8a4c6e2b497f8a1c3d5e7f90b2a4"
_APPROVAL = "appr_78f4057a4487c17ef350d35ddbfcf79d"
_CALL = "call_0c9e2b7d4f6a48139b5d7f1e3a5c7e90"
_ARGUMENTS = {"query": "SELECT name, price_eur FROM products ORDER BY price_eur", "params": []}
_DIGEST = "d67a3fcb41ff5f3e1c9a7b5d3f1e9c7a5b3d1f9e7c5a3b1d9f7e5c3a1b9d7f5e"
_THOUGHT = "I look into the shop."

_approval = ApprovalView(
    id=_APPROVAL,
    session_id=_SESSION,
    step=1,
    call_id=_CALL,
    tool="sql_query",
    arguments=_ARGUMENTS,
    arguments_sha256=_DIGEST,
    summary="Reads (SELECT): products.",
    risk="low",
    evidence=(Column(label="tables", value="products"), Column(label="estimate", value="about 200 rows, cost 31")),
    thought=_THOUGHT,
    rule="shipped: every SQL query is asked",
    status=ApprovalStatus.PENDING,
    requested_at=_AT + timedelta(seconds=2),
    expires_at=_AT + timedelta(days=1),
    execution=ExecutionState(state="not_started"),
)
_step = StepView(
    step_number=1,
    thought=_THOUGHT,
    action=FirstAction(tool_name="sql_query", arguments=_ARGUMENTS),
    actions=(
        ActionView(
            call_id=_CALL,
            tool_name="sql_query",
            arguments=_ARGUMENTS,
            arguments_sha256=_DIGEST,
            status=CallState.WAITING,
            approval_id=_APPROVAL,
        ),
    ),
    observation=None,
    is_final=False,
    final_answer=None,
    tokens=Tokens(input=812, output=64),
    cost_usd=0.003396,
    latency_ms=1840,
    attempts=1,
    started_at=_AT,
)
_session = SessionView(
    session_id=_SESSION,
    status=Status.RUNNING,
    phase=Phase.AWAITING_APPROVAL,
    waiting_for="A person has to decide about a call of sql_query.",
    model="claude-sonnet-4-5",
    title="What does the shop sell?",
    metadata={"order": 4711},
    tools=("sql_query",),
    max_steps=10,
    step_count=1,
    steps=(_step,),
    input_tokens=812,
    output_tokens=64,
    total_cost_usd=0.003396,
    final_answer=None,
    stop_reason=None,
    error=None,
    pending_approvals=(_approval,),
    retry=None,
    times=TimesView(
        created_at=_AT, started_at=_AT, ended_at=None, updated_at=_AT + timedelta(seconds=2), deadline_at=None
    ),
    version=6,
    warnings=(),
)
_summary = SessionSummary.model_validate(
    {name: value for name, value in _session.model_dump().items() if name in SessionSummary.model_fields}
    | {"created_at": _AT, "ended_at": None}
)
_tool = ToolView(
    name="sql_query",
    description="Runs one SQL statement on the database.",
    category=Category.DATABASE,
    parameters={"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    requires_approval=True,
    available=True,
    note=None,
)
_model = ModelView(
    id="claude-sonnet-4-5",
    title="Claude Sonnet 4.5",
    provider=ProviderName.ANTHROPIC,
    aliases=(),
    family="claude-sonnet",
    context_window=200_000,
    max_output=64_000,
    price=PriceView(
        rates=Rates(input=3, output=15, cache_read=0.3, cache_write=3.75),
        long_prompt_over=None,
        long_prompt_rates=None,
        source="the provider's price list",
        as_of=date(2026, 11, 1),
    ),
    capabilities=Capabilities(native_tools=True, thinking=True, structured_output=True),
    deprecated=False,
    retires_on=None,
    replacement=None,
    default=True,
    warnings=(),
)
_explanation = Explanation(
    session_id=_SESSION,
    reason=Reason.AWAITING_APPROVAL,
    sentence="A person has to decide about a call of sql_query.",
    advice="Decide by POST /v1/approvals/{id}/decision.",
    waits_for="person",
    until=_approval.expires_at,
    also=(),
    facts=ExplainFacts(
        at=_AT + timedelta(minutes=5),
        stored=StoredFacts(
            status=_session.status,
            phase=_session.phase,
            created_at=_AT,
            updated_at=_session.times.updated_at,
            step_count=1,
            start_state="started",
            approvals=(
                WaitingApproval(
                    id=_APPROVAL,
                    tool="sql_query",
                    requested_at=_approval.requested_at,
                    expires_at=_approval.expires_at,
                ),
            ),
        ),
        engine=None,
    ),
)
_ready = Readiness(status="ready", checks={name: Check(ok=True) for name in ("postgres", "temporal", "redis")})
_event = EventView(
    id="evt_6c1d3e5f7a9b4c8d8e0f2a4b6c8d0e1f",
    session_id=_SESSION,
    seq=6,
    type="approval.requested",
    at=_AT + timedelta(seconds=2),
    data={"approval_id": _APPROVAL, "call_id": _CALL, "tool": "sql_query"},
)
_grant = GrantView(
    id="grant_1f3e5d7c9b8a4f6e8d0c2b4a6f8e0d1c",
    session_id=_SESSION,
    scope="session",
    tool="sql_query",
    match="exact",
    free=(),
    arguments=_ARGUMENTS,
    uses_left=4,
    expires_at=_AT + timedelta(hours=1),
    granted_by="Ada (key_f0efb8f91820e3127cdf617f77eb317d)",
    approval_id=_APPROVAL,
    created_at=_AT + timedelta(minutes=1),
    revoked_at=None,
    revoked_by=None,
)
_key = KeyView(id=f"key_{'7' * 32}", name="nightly reports", role="operator", created_at=_AT, revoked_at=None)
_answers: tuple[Contract, ...] = (
    RunAccepted(
        session_id=_SESSION,
        poll_url=f"/v1/agents/{_SESSION}",
        links={"self": f"/v1/agents/{_SESSION}", "cancel": f"/v1/agents/{_SESSION}/cancel"},
        created_at=_AT,
    ),
    _session,
    CancelAnswer(session_id=_SESSION, status=Status.CANCELLED, phase=Phase.DONE, message="The session is cancelled."),
    _explanation,
    StepList(data=(_step,), has_more=False, version=6, degraded=False),
    EventList(data=(_event,), has_more=False, version=6),
    Page[SessionSummary](data=(_summary,), next_cursor=None, has_more=False),
    _approval,
    Page[ApprovalView](data=(_approval,), next_cursor=None, has_more=False),
    BatchAnswer(
        results=(
            BatchResult(approval_id=_APPROVAL, status=200, approval=_approval),
            BatchResult(
                approval_id=f"appr_{'0' * 32}", status=404, code="not_found", detail="There is no such approval."
            ),
        )
    ),
    _grant,
    Page[GrantView](data=(_grant,), next_cursor=None, has_more=False),
    MessageAccepted(message_id=f"msg_{'4' * 32}", session_id=_SESSION, poll_url=f"/v1/agents/{_SESSION}"),
    Page[KeyView](data=(_key,), next_cursor=None, has_more=False),
    NewKey(**_key.model_dump(), secret="ck_shown-this-once"),  # noqa: S106 - an example
    _tool,
    ToolList(tools=(_tool,)),
    _model,
    ModelList(models=(_model,)),
    Health(tools={"sql_query": "available"}),
    Alive(),
    _ready,
)


def _schema_name(answer: Contract) -> str:
    """The name that FastAPI gives to a model: brackets of generic ones become underscores."""
    return type(answer).__name__.replace("[", "_").replace("]", "_")


EXAMPLES: Mapping[str, Any] = {_schema_name(answer): answer.model_dump(mode="json") for answer in _answers}
"""Examples by the name of their schema."""
