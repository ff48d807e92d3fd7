"""What a client raises.

    ClientError                          something that the caller can react to; `message` is a sentence
    ├── ConnectionFailed                 no answer came: refused, timed out, broke off
    ├── UnexpectedAnswer                 an answer came, but not one of Conductor's, or of a version that is not understood
    ├── WaitTimeout                      the session is not there yet; it goes on all the same
    └── ApiError                         the server refused: code, status, fields at fault, request id
        ├── InvalidRequest               invalid_request: what was sent cannot be done as it is
        │   ├── NotSupported             not_supported
        │   ├── UnknownModel             unknown_model
        │   ├── ModelRetired             model_retired
        │   ├── UnknownTool              unknown_tool
        │   ├── MethodNotAllowed         method_not_allowed
        │   ├── BodyTooLarge             body_too_large
        │   ├── UnsupportedMediaType     unsupported_media_type
        │   └── IdempotencyMismatch      idempotency_mismatch
        ├── Unauthenticated              unauthenticated
        ├── Forbidden                    forbidden
        ├── NotFound                     not_found
        ├── Conflict                     the state does not allow it
        │   ├── SessionEnded             session_ended
        │   ├── SessionOpen              session_open
        │   ├── AlreadyDecided           already_decided
        │   ├── ApprovalExpired          approval_expired
        │   ├── ApprovalClosed           approval_closed
        │   ├── DigestMismatch           digest_mismatch
        │   ├── Ambiguous                ambiguous
        │   ├── SessionBusy              session_busy
        │   ├── BudgetUsedUp             session_paused
        │   ├── TooManyMessages          too_many_messages
        │   └── IdempotencyInFlight      idempotency_in_flight
        ├── RateLimited                  429: too much at once
        │   ├── TooManyRequests          rate_limited
        │   ├── TooManySessions          too_many_sessions
        │   └── TooManyStreams           too_many_streams
        └── ServerError                  the server cannot, whatever is sent
            ├── InternalError            internal
            ├── StoreUnavailable         store_unavailable
            └── EngineUnavailable        engine_unavailable

An error of a code that this version does not know is the class above it, found by its status: catching `Conflict` also catches
the conflicts of tomorrow. Nothing here ever holds the API key.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from conductor_ai.contracts.base import JsonObject
from conductor_ai.contracts.views import SessionView


@dataclass(frozen=True)
class FieldError:
    """One field at fault."""

    pointer: str
    """JSON pointer into the body; `/query/NAME`, `/path/NAME` and `/header/NAME` for what is not in the body."""
    message: str


@dataclass(frozen=True)
class Problem:
    """The server's refusal, as it came (RFC 9457)."""

    status: int
    """Of HTTP."""
    code: str
    """Stable, documented; may be one that this version does not know."""
    detail: str
    """A sentence for people."""
    errors: tuple[FieldError, ...] = ()
    request_id: str | None = None
    """The server's log has the request under it."""
    retry_after: float | None = None
    """Seconds after which the same request may work."""
    members: JsonObject | None = None
    """All that the server said, further members of some codes included."""


class ClientError(Exception):
    """Something that the caller can react to."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConnectionFailed(ClientError):
    """No answer came. Whether the request arrived is not known; a POST is safe to repeat under its key."""


class UnexpectedAnswer(ClientError):
    """An answer came, but not one of Conductor's API, or one of a version that this client does not understand."""


class WaitTimeout(ClientError):
    """The session has not come to where it was waited for. It goes on; `session` is how it was seen last."""

    def __init__(self, message: str, session: SessionView) -> None:
        super().__init__(message)
        self.session = session


class ApiError(ClientError):
    """The server refused."""

    code_of_class: ClassVar[str | None] = None
    """The code that this class stands for, if it stands for one."""

    def __init__(self, problem: Problem) -> None:
        pointed = [f"{error.pointer}: {error.message}" for error in problem.errors if error.message != problem.detail]
        super().__init__(" ".join([problem.detail, *pointed[:5]]))
        self.problem = problem

    def __str__(self) -> str:
        request = "" if self.request_id is None else f", request {self.request_id}"
        return f"{self.message} ({self.problem.status} {self.code}{request})"

    @property
    def code(self) -> str:
        """The stable code."""
        return self.problem.code

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self.problem.status

    @property
    def request_id(self) -> str | None:
        """The `X-Request-ID` of the answer."""
        return self.problem.request_id


class InvalidRequest(ApiError):
    """What was sent cannot be done as it is."""

    code_of_class = "invalid_request"


class NotSupported(InvalidRequest):
    """A field or value that has a meaning but cannot be used yet."""

    code_of_class = "not_supported"


class UnknownModel(InvalidRequest):
    """There is no such model."""

    code_of_class = "unknown_model"


class ModelRetired(InvalidRequest):
    """The provider no longer serves the model; the message names its replacement."""

    code_of_class = "model_retired"


class UnknownTool(InvalidRequest):
    """There is no such tool, or it is not available at present."""

    code_of_class = "unknown_tool"


class MethodNotAllowed(InvalidRequest):
    """The address does not take this method: the server is older than this client."""

    code_of_class = "method_not_allowed"


class BodyTooLarge(InvalidRequest):
    """The request is larger than the server takes."""

    code_of_class = "body_too_large"


class UnsupportedMediaType(InvalidRequest):
    """The body is not declared as JSON: something between client and server changed it."""

    code_of_class = "unsupported_media_type"


class IdempotencyMismatch(InvalidRequest):
    """The `idempotency_key` came with another request before."""

    code_of_class = "idempotency_mismatch"


class Unauthenticated(ApiError):
    """No key, or not a valid one."""

    code_of_class = "unauthenticated"


class Forbidden(ApiError):
    """The key's role does not allow it."""

    code_of_class = "forbidden"


class NotFound(ApiError):
    """Nothing with this id, or it belongs to another organisation: the two look alike."""

    code_of_class = "not_found"


class Conflict(ApiError):
    """The state does not allow it."""


class SessionEnded(Conflict):
    """The session has completed or failed; what was asked is possible only before."""

    code_of_class = "session_ended"


class SessionOpen(Conflict):
    """The session has not ended yet; what was asked is possible only afterwards."""

    code_of_class = "session_open"


class AlreadyDecided(Conflict):
    """Somebody decided otherwise before; `problem.members["decided"]` says who and when."""

    code_of_class = "already_decided"


class ApprovalExpired(Conflict):
    """Nobody decided in time."""

    code_of_class = "approval_expired"


class ApprovalClosed(Conflict):
    """The session no longer waits for this decision."""

    code_of_class = "approval_closed"


class DigestMismatch(Conflict):
    """The call has other arguments than those that were seen. Look at the approval again."""

    code_of_class = "digest_mismatch"


class Ambiguous(Conflict):
    """More than one thing is meant; name it by its id."""

    code_of_class = "ambiguous"


class SessionBusy(Conflict):
    """The session is at work, and the message was for an idle one."""

    code_of_class = "session_busy"


class BudgetUsedUp(Conflict):
    """The session's budget is used up: raise it, and it goes on."""

    code_of_class = "session_paused"


class TooManyMessages(Conflict):
    """Too many messages wait to be read, or the session has as many as it may."""

    code_of_class = "too_many_messages"


class IdempotencyInFlight(Conflict):
    """The same request is being carried out right now, and still was when patience ended."""

    code_of_class = "idempotency_in_flight"


class RateLimited(ApiError):
    """Too much at once, and still when patience ended."""


class TooManyRequests(RateLimited):
    """The key has made as many requests as it may for now."""

    code_of_class = "rate_limited"


class TooManySessions(RateLimited):
    """The organisation has as many sessions under way as it may."""

    code_of_class = "too_many_sessions"


class TooManyStreams(RateLimited):
    """The organisation follows as many sessions as it may."""

    code_of_class = "too_many_streams"


class ServerError(ApiError):
    """The server cannot, whatever is sent."""


class InternalError(ServerError):
    """A fault of the server; its log has it under `request_id`."""

    code_of_class = "internal"


class StoreUnavailable(ServerError):
    """The server's database is away, and still was when patience ended."""

    code_of_class = "store_unavailable"


class EngineUnavailable(ServerError):
    """The server's Temporal is away, and still was when patience ended."""

    code_of_class = "engine_unavailable"


def _below(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from _below(sub)


CLASSES: Mapping[str, type[ApiError]] = {
    kind.code_of_class: kind for kind in _below(ApiError) if kind.code_of_class is not None
}
"""The class of every code that this version knows."""


def of_problem(problem: Problem) -> ApiError:
    """The exception that tells of a refusal: by its code, else by its status."""
    return CLASSES.get(problem.code, _of_status(problem.status))(problem)


def _of_status(status: int) -> type[ApiError]:
    match status:
        case 401:
            return Unauthenticated
        case 403:
            return Forbidden
        case 404:
            return NotFound
        case 409 | 410 | 412:
            return Conflict
        case 429:
            return RateLimited
        case _:
            return ServerError if status >= 500 else InvalidRequest
