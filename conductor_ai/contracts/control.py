"""What people send to a session beside decisions, and what comes of it: pause, resume, budget, messages."""

from decimal import Decimal
from enum import StrEnum
from typing import Literal

from pydantic import Field

from conductor_ai.contracts.base import Contract, Payload


class PauseKind(StrEnum):
    """Why a session stands still between two steps."""

    PERSON = "person"
    """Somebody asked for it."""
    BUDGET = "budget"
    """Its limit on cost or tokens is used up; raising it resumes."""
    DENIALS = "denials"
    """The model keeps proposing a call that was denied."""


class Pause(Payload):
    """A pause that is in force."""

    kind: PauseKind
    reason: str
    """A sentence."""
    by: str | None = None
    """Who asked for it; None if nobody did."""


class Limits(Payload):
    """What a session may spend. None: as much as it takes."""

    max_cost_usd: Decimal | None = None
    max_total_tokens: int | None = None


class PauseRequest(Contract):
    """The input of the update and of the signal `pause`."""

    reason: str = Field("", max_length=1000)
    by: str | None = Field(None, max_length=200)
    """Believed from the update alone, which the API sends."""


class ResumeRequest(Contract):
    """The input of the update and of the signal `resume`."""

    by: str | None = Field(None, max_length=200)


LimitName = Literal["max_cost_usd", "max_total_tokens"]
LIMITS: tuple[LimitName, ...] = ("max_cost_usd", "max_total_tokens")


class BudgetRequest(Contract):
    """The input of the update `set_budget`: new values for some of the limits."""

    limits: Limits
    named: tuple[LimitName, ...] = LIMITS
    """The limits that are meant. The others stay as the session has them when it takes this."""
    by: str | None = Field(None, max_length=200)


class MessageNotice(Contract):
    """The input of the update and of the signal `message`. The text is in the store."""

    message_id: str = Field(max_length=100)
    interrupt: bool = False
    """Stop the model call under way, and give up calls that wait for a person."""
    only_if_idle: bool = False
    """Refuse it if the session is at work."""


class ControlKind(StrEnum):
    """What the workflow says. It never raises."""

    ACCEPTED = "accepted"
    UNCHANGED = "unchanged"
    """It was so already."""
    BUSY = "busy"
    """The session is at work, and the message was for an idle one."""
    OVER_BUDGET = "over_budget"
    """It cannot go on before its limits are raised."""
    FULL = "full"
    """Too many messages wait to be read."""
    CLOSED = "closed"
    """The session is ending."""
    REFUSED = "refused"
    """This server takes such requests from the API alone."""


class ControlAnswer(Payload):
    """The answer to a pause, resume, budget or message."""

    kind: ControlKind
    pause: Pause | None = None
    """The pause in force afterwards."""
    limits: Limits = Limits()
