"""What the approval policy says about one call."""

from enum import StrEnum

from pydantic import Field

from conductor_ai.contracts.base import Payload

EXPIRY_MIN_SECONDS = 1
EXPIRY_MAX_SECONDS = 90 * 86_400


class Effect(StrEnum):
    """What a rule says."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class OnExpiry(StrEnum):
    """What follows when nobody decides in time. Nothing ever runs because of it."""

    EXPIRE = "expire"
    """The model is told that nobody decided, and goes on without the call."""
    DENY = "deny"
    """As if somebody had denied it: the same call again is denied at once."""
    FAIL = "fail"
    """The session fails."""


class Ruling(Payload):
    """The answer of the policy, and the rule that gave it."""

    effect: Effect
    rule: str
    """The rule's name with the policy's version, for the record."""
    expires_in: int | None = Field(None, ge=EXPIRY_MIN_SECONDS, le=EXPIRY_MAX_SECONDS)
    """Seconds that people have to decide; None: the session's own."""
    on_expiry: OnExpiry | None = None
    """None: the session's own."""
