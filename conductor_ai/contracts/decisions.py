"""What a person decides, and what comes of it."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from conductor_ai.contracts.base import Contract, Payload, UtcTime

DecisionKind = Literal["approve", "deny", "edit", "answer"]
"""`edit` changes the arguments, never the tool, and puts the call to the policy again; `answer` gives the result."""
NEEDS_CONTENT: tuple[DecisionKind, ...] = ("edit", "answer")
"""Decisions that come with a text, which the API stores: Temporal's history has its digest alone."""

TEMPORAL_ACCESS = "temporal-access"
"""Who decided when a bare Temporal signal did: somebody who can reach Temporal, nobody knows who."""


class DecisionRequest(Contract):
    """The input of the signal and of the update `decide`. The first three fields are enough to paste one by hand."""

    call_id: str = Field(max_length=100)
    decision: DecisionKind
    arguments_sha256: str = Field(max_length=64)
    """The digest of exactly what was seen; another one decides nothing."""
    round: int = Field(1, ge=1, le=1000)
    """Which time this call is asked: a decision about one time never counts for another."""
    content_sha256: str = Field("", max_length=64)
    """The digest of the new arguments or of the answer."""
    decision_id: str | None = Field(None, max_length=100)
    """Makes the same decision, sent again, the same. None: the digest and the decision make one."""
    by: str | None = Field(None, max_length=200)
    """Who decided. Believed from the update alone, which the API sends; a signal is recorded as temporal-access."""
    via: Literal["api", "signal"] = "signal"
    comment: str | None = Field(None, max_length=4000)
    """For the record, and for the model when the call is denied."""


class Decision(Payload):
    """A decision that was accepted."""

    call_id: str
    decision_id: str
    decision: DecisionKind
    arguments_sha256: str
    round: int = 1
    content_sha256: str = ""
    by: str
    verified: bool
    """True if an API key proved who it was."""
    via: Literal["api", "signal", "grant"]
    comment: str | None = None
    at: UtcTime


class VerdictKind(StrEnum):
    """What the workflow says to a decision. It never raises: a verdict is always an answer."""

    ACCEPTED = "accepted"
    SAME_AGAIN = "same_again"
    ALREADY_DECIDED = "already_decided"
    EXPIRED = "expired"
    DIGEST_MISMATCH = "digest_mismatch"
    UNKNOWN_CALL = "unknown_call"
    SIGNALS_REFUSED = "signals_refused"
    NEEDS_API = "needs_api"
    """An edit or an answer has a text, which only the API can take."""
    CLOSED = "closed"


class Verdict(Payload):
    """The answer to a decision."""

    kind: VerdictKind
    decision: Decision | None = None
    """The decision that counts: this one, or the earlier one that won."""
