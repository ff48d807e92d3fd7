"""An approval that is remembered: what a person asks for, and what is shown of it."""

from typing import Literal

from pydantic import Field, model_validator

from conductor_ai.contracts.base import Contract, Json, UtcTime

GRANT_MAX_SECONDS = 30 * 86_400


class Remember(Contract):
    """Approve the calls to come that are like this one, too."""

    match: Literal["exact", "template"] = "exact"
    """`exact`: the same arguments. `template`: the same but for the arguments named in `free`."""
    free: tuple[str, ...] = Field((), max_length=20, strict=False)
    """Names of arguments that may differ; at least one argument must stay fixed."""
    scope: Literal["session", "org"] = "session"
    """Where the grant holds: in this session, or in every session of the organisation."""
    expires_in: int = Field(3600, ge=1, le=GRANT_MAX_SECONDS)
    """Seconds."""
    uses: int | None = Field(None, ge=1, le=10_000)
    """How many calls it approves at most; null: as many as come in time."""

    @model_validator(mode="after")
    def _free_goes_with_template(self) -> "Remember":
        if (self.match == "template") is not bool(self.free):
            raise ValueError("`free` names the arguments of a `template` that may differ; `exact` has none.")
        return self


class GrantView(Contract):
    """A grant as the API shows it."""

    id: str
    session_id: str | None
    """The session that it holds in; null for the whole organisation."""
    scope: Literal["session", "org"]
    tool: str
    match: Literal["exact", "template"]
    free: tuple[str, ...]
    arguments: Json
    """As they were when it was granted; without those in `free` once the session is deleted in which they were said."""
    uses_left: int | None
    expires_at: UtcTime
    granted_by: str
    approval_id: str | None
    """The approval that it came from; null once that is deleted with its session."""
    created_at: UtcTime
    revoked_at: UtcTime | None
    revoked_by: str | None
