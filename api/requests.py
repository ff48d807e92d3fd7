"""What callers send. All models are strict: a number in quotes is no number, and an unknown field is refused."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from conductor_ai.contracts.status import ApprovalStatus, Phase, Status
from conductor_ai.contracts.tools import Category

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


class LimitsRequest(RequestModel):
    """How much the session may use."""

    deadline_seconds: int | None = Field(None, ge=1, le=DEADLINE_MAX_SECONDS)
    """Seconds from the start after which the session ends with the stop reason `deadline`."""


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
    not_supported_yet: ClassVar[tuple[str, ...]] = (
        "/limits/max_cost_usd",
        "/limits/max_total_tokens",
        "/approval",
        "/webhook",
        "/mode",
    )

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

    @field_validator("messages")
    @classmethod
    def _somebody_asks(cls, value: list[MessageRequest]) -> list[MessageRequest]:
        if not any(message.role == "user" for message in value):
            raise ValueError("At least one message must be a user's.")
        return value


class CancelRequest(RequestModel):
    """Cancel a session."""

    reason: str | None = Field(None, max_length=1000)
    """For the record."""


class DecisionBody(RequestModel):
    """Decide about a call. Who decides is told by the API key."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"decision": "approve", "arguments_sha256": "0" * 64, "comment": "checked"}]}
    )
    not_supported_yet: ClassVar[tuple[str, ...]] = ("/remember", "/arguments", "/answer")
    values_not_supported_yet: ClassVar[tuple[tuple[str, str], ...]] = (("/decision", "edit"), ("/decision", "answer"))

    decision: Literal["approve", "deny"]
    arguments_sha256: str = Field(max_length=64)
    """`arguments_sha256` of the approval as it was seen: nobody approves what they have not seen."""
    comment: str | None = Field(None, max_length=4000)
    """For the record, and for the model when the call is denied."""


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


class SessionsQuery(PageQuery):
    """Which sessions to list."""

    status: Status | None = None
    phase: Phase | None = None
    model: str | None = Field(None, max_length=200)


class ApprovalsQuery(PageQuery):
    """Which approvals to list."""

    status: ApprovalStatus | None = None
    session_id: str | None = Field(None, max_length=200)


class ToolsQuery(QueryModel):
    """Which tools to list."""

    category: Category | None = None


def schemas() -> tuple[type[RequestModel], ...]:
    """The bodies, for the OpenAPI document."""
    return (RunRequest, CancelRequest, DecisionBody)


def reference(model: type[RequestModel], *, required: bool = True) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its body as `model`."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
