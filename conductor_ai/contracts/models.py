"""What passes between the session and a model, whatever the provider."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from conductor_ai.contracts.base import Contract, Json, JsonObject, Payload
from conductor_ai.contracts.tools import ToolSpec


class Stop(StrEnum):
    """Why a model stopped, in one vocabulary for all providers."""

    END = "end"
    """A complete answer without tool calls."""
    TOOL_CALLS = "tool_calls"
    """It wants tools to be called; the calls are complete."""
    MAX_TOKENS = "max_tokens"
    """Cut at the output limit. A tool call in such a reply may be half of one: it is never executed."""
    REFUSAL = "refusal"
    PAUSE = "pause"
    """The provider paused a long turn: send the same conversation again with this reply appended."""
    CONTEXT_EXCEEDED = "context_exceeded"
    """The conversation does not fit the model's window any more."""
    MALFORMED = "malformed"
    """The reply could not be read (ReAct JSON that does not parse): one repair turn follows."""
    INVALID_OUTPUT = "invalid_output"
    """A complete answer that does not fit the session's `output_schema`: one repair turn follows."""


class Usage(Payload):
    """Tokens of one attempt. `input` counts only what was neither read from nor written to the cache."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reported_cost_usd: Decimal | None = None
    """The provider's own figure where it gives one; it wins over the catalog's prices."""

    def __add__(self, other: "Usage") -> "Usage":
        costs = [u.reported_cost_usd for u in (self, other) if u.reported_cost_usd is not None]
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            cache_read=self.cache_read + other.cache_read,
            cache_write=self.cache_write + other.cache_write,
            reported_cost_usd=sum(costs, Decimal(0)) if costs else None,
        )


class ProposedCall(Payload):
    """A tool call as the model wrote it. Nothing of it is trusted or validated yet."""

    provider_id: str
    """The provider's id: it may repeat, so it is used only to pair call and result for that provider."""
    tool: str
    arguments: JsonObject | None
    """None if they were no JSON object; then `raw` has the text."""
    raw: str | None = None


class UserTurn(Contract):
    """Something that a person said."""

    role: Literal["user"] = "user"
    text: str


class AssistantTurn(Contract):
    """An earlier answer of the model: sent back to it as it was."""

    role: Literal["assistant"] = "assistant"
    text: str
    """What it said before its calls, or its answer."""
    calls: tuple[ProposedCall, ...] = ()
    native: tuple[JsonObject, ...] = ()
    """The provider's own content blocks (thinking with signature and the like), opaque to everybody else."""
    native_provider: str | None = None
    """Which provider wrote `native`; another provider leaves it aside."""
    model: str | None = None
    """Our id of the model that wrote it; None for what a caller gave along."""


class ResultTurn(Contract):
    """What one tool call came to."""

    role: Literal["tool"] = "tool"
    provider_id: str
    tool: str
    text: str
    ok: bool


Turn = Annotated[UserTurn | AssistantTurn | ResultTurn, Field(discriminator="role")]


class ModelRequest(Contract):
    """One request to a provider, complete: providers keep no state."""

    model: str
    """Our id of the model, a row of the catalog or `provider:name`."""
    system: str
    """The system prompt; may be empty."""
    turns: tuple[Turn, ...]
    tools: tuple[ToolSpec, ...]
    max_output_tokens: int = 8192
    summary: bool = False
    """True if the conversation is to be summarised, for providers that script (demo)."""
    step: int = 1
    """The number of the step that this call belongs to, for providers that script (demo)."""
    output_schema: JsonObject | None = None
    """JSON Schema (draft 2020-12) of the answer. A provider asks for it by whatever means it has; we check the answer."""


class ModelReply(Payload):
    """One complete reply of a provider."""

    stop: Stop
    text: str
    """What the model said before its calls (the thought), or its answer."""
    final_answer: str | None = None
    """The answer where it is not `text` itself (ReAct models say a thought beside it)."""
    calls: tuple[ProposedCall, ...] = ()
    usage: Usage = Usage()
    native: tuple[JsonObject, ...] = ()
    native_provider: str | None = None
    provider_model: str | None = None
    """The model that the provider says it used."""
    stop_detail: str | None = None
    """The provider's own word for why it stopped."""
    output: Json = None
    """The value of the answer, checked against `output_schema`. Set by us, never by a provider."""
    problems: tuple[str, ...] = ()
    """Why an answer does not fit `output_schema`, for the model. Set by us, never by a provider."""
