"""What callers send. All models are strict: a number in quotes is no number, and an unknown field is refused."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.decisions import DecisionKind
from conductor_ai.contracts.grants import Remember
from conductor_ai.contracts.policy import EXPIRY_MAX_SECONDS, EXPIRY_MIN_SECONDS
from conductor_ai.contracts.status import ApprovalStatus, Phase, Status
from conductor_ai.contracts.tools import Category
from conductor_ai.text import clean_json

METADATA_MAX = 16
SAFE_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly."""
DEADLINE_MAX_SECONDS = 366 * 86_400


class RequestModel(BaseModel):
    """The base of all bodies."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    not_supported_yet: ClassVar[tuple[str, ...]] = ()
    """JSON pointers of fields that have a meaning but cannot be used yet: they are refused as `not_supported`."""
    values_not_supported_yet: ClassVar[tuple[tuple[str, str], ...]] = ()
    """The same for single values of a field: pointer and value."""


class MessageRequest(RequestModel):
    """One message to start with."""

    role: Literal["user", "assistant", "system"]
    content: str = Field(min_length=1)

    @field_validator("content")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("The message is blank.")
        return value


MONEY_MAX = 1_000_000.0
CostLimit = Annotated[float, Field(gt=0, le=MONEY_MAX, allow_inf_nan=False)]
"""US dollars."""
TokenLimit = Annotated[int, Field(ge=1, le=SAFE_INTEGER)]


def exact(dollars: float | None) -> Decimal | None:
    """An amount as it was written: 0.1 is a tenth."""
    return None if dollars is None else Decimal(str(dollars))


class LimitsRequest(RequestModel):
    """How much the session may use."""

    max_cost_usd: CostLimit | None = None
    """US dollars. Once they are spent the session pauses before its next step, until the limit is raised."""
    max_total_tokens: TokenLimit | None = None
    """Input and output tokens together. The same."""

    deadline_seconds: int | None = Field(None, ge=1, le=DEADLINE_MAX_SECONDS)
    """Seconds from the start after which the session ends with the stop reason `deadline`."""


class ApprovalRequest(RequestModel):
    """How people are asked. A session can be made stricter than the server's policy, never looser."""

    policy: Literal["default", "ask_every_call"] = "default"
    """`ask_every_call`: also about calls that the server's policy allows."""
    expires_in: int | None = Field(None, ge=EXPIRY_MIN_SECONDS, le=EXPIRY_MAX_SECONDS)
    """Seconds that people have to decide. Null: the server's setting."""
    on_expiry: Literal["expire", "deny", "fail"] = "expire"
    """When nobody decides: tell the model (`expire`), count it as a denial (`deny`), or let the session fail (`fail`)."""


MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = (
    Annotated[str, StringConstraints(max_length=1000)]
    | bool
    | Annotated[int, Field(ge=-SAFE_INTEGER, le=SAFE_INTEGER)]
    | Annotated[float, Field(ge=-SAFE_INTEGER, le=SAFE_INTEGER)]
    | None
)


class RunRequest(RequestModel):
    """Start an agent session."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "messages": [{"role": "user", "content": "What is the exchange rate on the demo page?"}],
                    "max_steps": 5,
                }
            ]
        }
    )
    not_supported_yet: ClassVar[tuple[str, ...]] = ("/webhook",)

    messages: list[MessageRequest] = Field(min_length=1, max_length=1000)
    """The conversation so far; at least one message is a user's."""
    model: str | None = Field(None, min_length=1, max_length=200)
    """An id of `GET /v1/models`. Null: the server's default."""
    tools: list[str] | None = Field(None, max_length=200)
    """Names of `GET /v1/tools`. Null: all that are available. An empty list: none."""
    max_steps: int = Field(10, ge=1)
    """The upper bound is a setting of the server (100)."""
    system_prompt: str | None = None
    title: str | None = Field(None, min_length=1, max_length=200)
    """Null: the first line of the first user message."""
    metadata: dict[MetadataKey, MetadataValue] | None = Field(None, max_length=METADATA_MAX)
    """The caller's own, at most 16 entries; shown again, otherwise not looked at."""
    limits: LimitsRequest | None = None
    fallback_models: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] | None = Field(
        None, max_length=5
    )
    """Models to go on with, in this order, when one stays overloaded, unreachable, or is not served any more."""
    output_schema: dict[str, Any] | None = None
    """JSON Schema (draft 2020-12) that the final answer must fit; its value is then `output`. References only within it."""
    approval: ApprovalRequest | None = None
    mode: Literal["run", "chat"] = "run"
    """`chat`: after an answer the session waits for the next message, with `max_steps` for each turn."""
    idle_timeout_seconds: int = Field(86_400, ge=1, le=DEADLINE_MAX_SECONDS)
    """A chat that nobody writes to for so long completes."""

    @field_validator("messages")
    @classmethod
    def _somebody_asks(cls, value: list[MessageRequest]) -> list[MessageRequest]:
        if not any(message.role == "user" for message in value):
            raise ValueError("At least one message must be a user's.")
        return value


class KeyRequest(RequestModel):
    """Make an API key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "nightly reports", "role": "operator"}]})

    name: str = Field(min_length=1, max_length=100)
    """Whose it is, or what for; decisions are recorded under it."""
    role: Literal["viewer", "operator", "approver", "admin"] = "operator"
    """All read; operators start and cancel, approvers decide, admins do everything."""


class CancelRequest(RequestModel):
    """Cancel a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "The question has been answered."}]})

    reason: str | None = Field(None, max_length=1000)
    """For the record."""


class PauseBody(RequestModel):
    """Pause a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Let me look at the first results."}]})

    reason: str | None = Field(None, max_length=1000)
    """For the record, and for those who look at the session."""


class ResumeBody(RequestModel):
    """Resume a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class BudgetBody(RequestModel):
    """What the session may spend from now on. A limit that is not named stays as it is; null lifts it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"max_cost_usd": 2.5}]})

    max_cost_usd: CostLimit | None = None
    max_total_tokens: TokenLimit | None = None

    @property
    def cost(self) -> Decimal | None:
        """The limit on cost, exact."""
        return exact(self.max_cost_usd)


class MessageBody(RequestModel):
    """Write to a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"content": "And in euros?", "if_busy": "enqueue"}]})

    content: str = Field(min_length=1)
    if_busy: Literal["enqueue", "interrupt", "reject"] = "enqueue"

    @field_validator("content")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("The message is blank.")
        return value


class RememberBody(Remember, RequestModel):
    """Approve the calls to come that are like this one, too. The grant can be revoked."""


class DecisionBody(RequestModel):
    """Decide about a call. Who decides is told by the API key."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"decision": "approve", "arguments_sha256": "0" * 64, "comment": "checked"}]}
    )

    decision: DecisionKind
    """`edit` gives the call other arguments: it is put to the policy again, and asked again if that asks. `answer` gives its
    result in the tool's place."""
    arguments_sha256: str = Field(max_length=64)
    """`arguments_sha256` of the approval as it was seen: nobody approves what they have not seen."""
    comment: str | None = Field(None, max_length=4000)
    """For the record, and for the model when the call is denied."""
    arguments: dict[str, Any] | None = None
    """With `edit`: all arguments, as they are to be."""
    answer: str | None = Field(None, min_length=1, max_length=100_000)
    """With `answer`: what the model is told."""
    remember: RememberBody | None = None
    """With `approve`."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "DecisionBody":
        for field, kind in (("arguments", "edit"), ("answer", "answer"), ("remember", "approve")):
            given = getattr(self, field) is not None
            if given and self.decision != kind:
                raise ValueError(f"`{field}` goes with the decision `{kind}` alone.")
            if not given and self.decision == kind and kind != "approve":
                raise ValueError(f"The decision `{kind}` needs `{field}`.")
        return self

    @property
    def payload(self) -> JsonObject:
        """What comes with the decision and is no comment."""
        found: dict[str, Any] = {"arguments": self.arguments, "answer": self.answer}
        found["remember"] = None if self.remember is None else self.remember.model_dump(mode="json")
        kept: JsonObject = clean_json({name: value for name, value in found.items() if value is not None})
        return kept


class BatchItem(DecisionBody):
    """One decision of a batch."""

    approval_id: str = Field(max_length=200)


class BatchBody(RequestModel):
    """Decide about many calls at once. Each is decided on its own; there is no all or nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"decisions": [{"approval_id": "appr_" + "0" * 32, "decision": "deny", "arguments_sha256": "0" * 64}]}
            ]
        }
    )

    decisions: list[BatchItem] = Field(min_length=1, max_length=50)


class ApproveStepBody(RequestModel):
    """The short form of a decision: yes, no, or yes with other arguments."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"approved": True}]})

    approved: bool
    modified_args: dict[str, Any] | None = None
    """Arguments in the place of those that were proposed; the call is put to the policy again."""
    arguments_sha256: str | None = Field(None, max_length=64)
    """Of the approval as it was seen. Without it, what the approval has now is decided."""
    comment: str | None = Field(None, max_length=4000)

    @model_validator(mode="after")
    def _no_arguments_for_a_no(self) -> "ApproveStepBody":
        if self.modified_args is not None and not self.approved:
            raise ValueError("`modified_args` goes with `approved: true` alone.")
        return self


class QueryModel(BaseModel):
    """The base of all query strings. Their values are text, so numbers in them are read as such."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunQuery(QueryModel):
    """How long to wait for a session that was started."""

    wait: float = Field(0, ge=0, le=60, allow_inf_nan=False)
    """Seconds to wait for the end, or for a call that somebody has to decide about."""


class SessionQuery(QueryModel):
    """Which part of a session to show, and when."""

    wait: float = Field(0, ge=0, le=30, allow_inf_nan=False)
    """Seconds to wait for a version newer than `since_version`."""
    since_version: int | None = Field(None, ge=0, le=SAFE_INTEGER)
    """The version that the caller has. Without it, that of `If-None-Match`, or the present one."""
    steps: Literal["none", "last", "all"] = "all"
    steps_after: int | None = Field(None, ge=0, le=SAFE_INTEGER)
    """Only steps with a higher number."""


class PageQuery(QueryModel):
    """One page of a list."""

    cursor: str | None = Field(None, max_length=500)
    """`next_cursor` of the page before."""
    limit: int = Field(50, ge=1, le=200)


def _moment(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("A time needs a zone.")
    if value.year not in range(1970, 9999):
        raise ValueError("A time lies between 1970 and 9998.")
    return value.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_moment)]


class SessionsQuery(PageQuery):
    """Which sessions to list."""

    status: Status | None = None
    phase: Phase | None = None
    model: str | None = Field(None, max_length=200)
    created_after: Moment | None = None
    """Only sessions made at this time (RFC 3339, with a zone) or later."""
    created_before: Moment | None = None
    """Only sessions made before this time."""
    metadata: str | None = Field(None, max_length=2000)
    """A JSON object, `{"customer": "acme"}`: only sessions whose metadata has all of these entries, with these very values."""
    q: str | None = Field(None, min_length=1, max_length=200)
    """Only sessions with this text in their title, in upper or lower case."""


class StepsQuery(QueryModel):
    """Which steps to list."""

    after: int = Field(0, ge=0, le=SAFE_INTEGER)
    """Only steps with a higher number."""
    limit: int = Field(50, ge=1, le=200)


class EventsQuery(QueryModel):
    """Which events to list."""

    after: int = Field(0, ge=0, le=SAFE_INTEGER)
    """Only events with a higher `seq`."""
    limit: int = Field(200, ge=1, le=1000)


class StreamQuery(QueryModel):
    """Where a stream begins, and what is in it."""

    after: int = Field(0, ge=0, le=SAFE_INTEGER)
    """Only events with a higher `seq`. `Last-Event-ID` is the same and wins."""
    deltas: bool = True
    """Whether to send pieces of answers that the model is still writing."""


class ApprovalsQuery(PageQuery):
    """Which approvals to list."""

    status: ApprovalStatus | None = None
    session_id: str | None = Field(None, max_length=200)


class GrantsQuery(PageQuery):
    """Which grants to list."""

    live: bool = True
    """Only those that still can approve something."""


class ToolsQuery(QueryModel):
    """Which tools to list."""

    category: Category | None = None


def schemas() -> tuple[type[RequestModel], ...]:
    """The bodies, for the OpenAPI document."""
    return (
        RunRequest,
        KeyRequest,
        CancelRequest,
        PauseBody,
        ResumeBody,
        BudgetBody,
        MessageBody,
        DecisionBody,
        BatchBody,
        ApproveStepBody,
    )


def reference(model: type[RequestModel], *, required: bool = True) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its body as `model`."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
