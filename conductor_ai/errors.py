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
    NOT_SUPPORTED = "not_supported"
    UNKNOWN_MODEL = "unknown_model"
    MODEL_RETIRED = "model_retired"
    UNKNOWN_TOOL = "unknown_tool"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    SESSION_ENDED = "session_ended"
    ALREADY_DECIDED = "already_decided"
    APPROVAL_EXPIRED = "approval_expired"
    APPROVAL_CLOSED = "approval_closed"
    DIGEST_MISMATCH = "digest_mismatch"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    IDEMPOTENCY_IN_FLIGHT = "idempotency_in_flight"
    STORE_UNAVAILABLE = "store_unavailable"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    INTERNAL = "internal"
    # A session's own failure, in its `error.code`.
    MODEL_REJECTED_REQUEST = "model_rejected_request"
    MODEL_AUTHENTICATION = "model_authentication"
    MODEL_PAYMENT = "model_payment"
    MODEL_UNAVAILABLE = "model_unavailable"
    MODEL_REFUSAL = "model_refusal"
    MODEL_OUTPUT_LIMIT = "model_output_limit"
    MODEL_MALFORMED = "model_malformed"
    CONTEXT_EXCEEDED = "context_exceeded"
    MAX_STEPS = "max_steps"
    DEADLINE = "deadline"
    TERMINATED = "terminated"
    ABANDONED = "abandoned"
    FENCED = "fenced"
    TOOL_UNAVAILABLE = "tool_unavailable"
    CONFIGURATION = "configuration"


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
