"""The exceptions of Conductor and the stable codes that users see.

    ConductorError                 something that a person or a program can react to; has a code
    ├── InvalidRequest             400/422: what was sent cannot be done as it is
    ├── NotFound                   404
    ├── Conflict                   409: the state does not allow it
    ├── Unavailable                503: a dependency is away; try again
    ├── Fenced                     a workflow run that is no longer the current one tried to write
    ├── ModelFailure               a model call failed; says whether and when to try again
    ├── ToolUnavailable            infrastructure of a tool is away (not: the call was wrong)
    └── ConfigurationError         the settings cannot work; says which and what to do

Messages are written for the person who has to act: what happened, what it means, what to do. None of them
carries a secret, a connection string or text from outside.
"""

from enum import StrEnum


class Code(StrEnum):
    """Every stable error code. Documented in docs/reference/errors.md; a test keeps the two equal."""

    INVALID_REQUEST = "invalid_request"
    """The request cannot be understood or is out of bounds; `errors` names the fields."""
    NOT_SUPPORTED = "not_supported"
    """A field or value that has a meaning but cannot be used yet."""
    UNKNOWN_MODEL = "unknown_model"
    """No such model; `GET /v1/models` lists them."""
    MODEL_RETIRED = "model_retired"
    """The provider no longer serves the model; the message names its replacement."""
    UNKNOWN_TOOL = "unknown_tool"
    """No worker has such a tool, or it is not available at present; `GET /v1/tools` lists them."""
    UNAUTHENTICATED = "unauthenticated"
    """No key, a wrong one, or two different ones."""
    FORBIDDEN = "forbidden"
    """The key's role does not allow it, or a call was to run without its approval."""
    NOT_FOUND = "not_found"
    """Nothing with this id, or it belongs to another organisation: the two look alike."""
    METHOD_NOT_ALLOWED = "method_not_allowed"
    """The address exists but does not take this method."""
    BODY_TOO_LARGE = "body_too_large"
    """The body is larger than `CONDUCTOR_MAX_BODY_BYTES`."""
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    """The body is not declared as `application/json`."""
    SESSION_ENDED = "session_ended"
    """The session has completed or failed; what was asked is possible only before."""
    ALREADY_DECIDED = "already_decided"
    """Somebody decided otherwise before; the message says who and when."""
    APPROVAL_EXPIRED = "approval_expired"
    """Nobody decided in time; the agent was told so and went on."""
    APPROVAL_CLOSED = "approval_closed"
    """The session no longer waits for this decision: it has ended, or was reset."""
    DIGEST_MISMATCH = "digest_mismatch"
    """The decision names other arguments than the call has. Look at the approval again."""
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    """The `Idempotency-Key` came with another body within the last 24 hours."""
    IDEMPOTENCY_IN_FLIGHT = "idempotency_in_flight"
    """The same request is being carried out right now; `Retry-After` says when to ask again. Never the answer to a start."""
    AMBIGUOUS = "ambiguous"
    """More than one thing is meant; name it by its id."""
    SESSION_BUSY = "session_busy"
    """The session is at work, and the message was for an idle one."""
    SESSION_PAUSED = "session_paused"
    """The session's budget is used up: raise it, and it goes on."""
    TOO_MANY_MESSAGES = "too_many_messages"
    """Too many messages wait to be read, or the session has as many as it may."""
    SESSION_OPEN = "session_open"
    """The session has not ended, and only those that have can be deleted. Cancel it first."""
    RATE_LIMITED = "rate_limited"
    """The key sends more requests than it may. `Retry-After` says when to go on."""
    TOO_MANY_SESSIONS = "too_many_sessions"
    """The organisation has as many open sessions as it may. One has to end first; `Retry-After` says when to try again."""
    TOO_MANY_STREAMS = "too_many_streams"
    """The organisation has as many event streams open at this process as it may. `Retry-After` says when to try again."""
    STORE_UNAVAILABLE = "store_unavailable"
    """Postgres does not answer. Try again; `Retry-After` says when."""
    ENGINE_UNAVAILABLE = "engine_unavailable"
    """Temporal does not answer. Try again; `Retry-After` says when."""
    INTERNAL = "internal"
    """A fault of Conductor; the log has it under the request id."""
    # A session's own failure, in its `error.code`.
    MODEL_REJECTED_REQUEST = "model_rejected_request"
    """The provider refused the request as it is; the same again will not work."""
    MODEL_AUTHENTICATION = "model_authentication"
    """No key for the provider, or it does not accept the key."""
    MODEL_PAYMENT = "model_payment"
    """The provider wants to be paid first."""
    MODEL_UNAVAILABLE = "model_unavailable"
    """The provider stayed overloaded or unreachable through all attempts; a new session may work."""
    MODEL_REFUSAL = "model_refusal"
    """The model refused to go on."""
    MODEL_OUTPUT_LIMIT = "model_output_limit"
    """Twice in a row a reply was cut in the middle of a tool call."""
    MODEL_MALFORMED = "model_malformed"
    """Twice in a row a reply without native tool use was not the JSON object that was asked for."""
    OUTPUT_INVALID = "output_invalid"
    """Twice in a row the answer did not fit the session's `output_schema`."""
    CONTEXT_EXCEEDED = "context_exceeded"
    """The conversation no longer fits the model's context window."""
    MAX_STEPS = "max_steps"
    """All steps were used without a final answer."""
    DEADLINE = "deadline"
    """The session's deadline passed."""
    TERMINATED = "terminated"
    """The workflow was ended in Temporal without writing its end; the reconciler wrote it."""
    ABANDONED = "abandoned"
    """The session was never started: Temporal was away when it was asked for."""
    FENCED = "fenced"
    """A workflow run that is no longer the session's current one tried to write."""
    TOOL_UNAVAILABLE = "tool_unavailable"
    """The infrastructure of a tool stayed away, or this worker no longer has the tool."""
    CONFIGURATION = "configuration"
    """The settings cannot work; the message names the variable."""


class ConductorError(Exception):
    """Something that a person or a program can react to."""

    code: Code = Code.INTERNAL

    def __init__(self, message: str, *, code: Code | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequest(ConductorError):
    """What was sent cannot be done as it is."""

    code = Code.INVALID_REQUEST

    def __init__(self, message: str, *, code: Code | None = None, pointer: str | None = None) -> None:
        super().__init__(message, code=code)
        self.pointer = pointer
        """JSON pointer of the field at fault, if one is."""


class NotFound(ConductorError):
    """There is no such thing, or not for this caller: the two look alike."""

    code = Code.NOT_FOUND


class Conflict(ConductorError):
    """The state does not allow it."""

    code = Code.SESSION_ENDED


class LimitReached(ConductorError):
    """There is as much of something as there may be at the same time; later there may be room."""

    code = Code.TOO_MANY_SESSIONS

    def __init__(self, message: str, *, code: Code | None = None, retry_after: int = 5) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
        """Seconds."""


class Unavailable(ConductorError):
    """A dependency is away; the same request may work later."""

    code = Code.STORE_UNAVAILABLE

    def __init__(self, message: str, *, code: Code | None = None, retry_after: int = 2) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
        """Seconds."""


class Fenced(ConductorError):
    """A run that is no longer the session's current one, or whose session has ended, tried to write."""

    code = Code.FENCED


class ModelFailure(ConductorError):
    """A model call failed."""

    code = Code.MODEL_UNAVAILABLE

    def __init__(
        self, message: str, *, code: Code, retryable: bool, retry_after: float | None = None, kind: str = ""
    ) -> None:
        super().__init__(message, code=code)
        self.retryable = retryable
        self.retry_after = retry_after
        """Seconds that the provider asks to wait, if it does."""
        self.kind = kind
        """The provider's own word for the error, from a closed set, for logs and `retry`."""


class ToolUnavailable(ConductorError):
    """The infrastructure that a tool needs is away: worth another attempt, no fault of the call."""

    code = Code.TOOL_UNAVAILABLE


class ConfigurationError(ConductorError):
    """The settings cannot work."""

    code = Code.CONFIGURATION
