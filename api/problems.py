"""Errors as callers see them: RFC 9457 problem documents, made from stable codes and sentences of ours alone.

Nothing that was sent, and no text of an exception that is not ours, ever gets into one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse

from conductor_ai.errors import Code, ConductorError, InvalidRequest, LimitReached, Unavailable

MEDIA_TYPE = "application/problem+json"

STATUSES: Mapping[Code, tuple[int, str]] = {
    Code.INVALID_REQUEST: (422, "The request is not valid"),
    Code.NOT_SUPPORTED: (422, "Not supported yet"),
    Code.UNKNOWN_MODEL: (422, "Unknown model"),
    Code.MODEL_RETIRED: (422, "The model is retired"),
    Code.UNKNOWN_TOOL: (422, "Unknown tool"),
    Code.IDEMPOTENCY_MISMATCH: (422, "The idempotency key stands for another request"),
    Code.IDEMPOTENCY_IN_FLIGHT: (409, "The same request is being carried out"),
    Code.UNAUTHENTICATED: (401, "No valid API key"),
    Code.FORBIDDEN: (403, "Not allowed"),
    Code.NOT_FOUND: (404, "Not found"),
    Code.METHOD_NOT_ALLOWED: (405, "Method not allowed"),
    Code.SESSION_ENDED: (409, "The session has ended"),
    Code.ALREADY_DECIDED: (409, "Already decided"),
    Code.APPROVAL_EXPIRED: (409, "The approval has expired"),
    Code.APPROVAL_CLOSED: (409, "The approval is closed"),
    Code.DIGEST_MISMATCH: (412, "These are not the arguments that were shown"),
    Code.AMBIGUOUS: (409, "More than one is meant"),
    Code.SESSION_BUSY: (409, "The session is at work"),
    Code.SESSION_PAUSED: (409, "The budget is used up"),
    Code.TOO_MANY_MESSAGES: (409, "Too many messages"),
    Code.BODY_TOO_LARGE: (413, "The body is too large"),
    Code.UNSUPPORTED_MEDIA_TYPE: (415, "Unsupported media type"),
    Code.SESSION_OPEN: (409, "The session has not ended"),
    Code.RATE_LIMITED: (429, "Too many requests"),
    Code.TOO_MANY_SESSIONS: (429, "Too many open sessions"),
    Code.TOO_MANY_STREAMS: (429, "Too many open streams"),
    Code.INTERNAL: (500, "Something went wrong in the server"),
    Code.STORE_UNAVAILABLE: (503, "The database is away"),
    Code.ENGINE_UNAVAILABLE: (503, "Temporal is away"),
}
"""The one table of HTTP statuses and titles. A code that is not in it never leaves the server: it becomes `internal`."""

NOT_FOUND = "There is nothing with this address or id that this caller may see."
"""The same for every 404, so that another organisation's id cannot be told from one that never was."""

INTERNAL = "An unexpected error occurred. It is in the server's log under the request id of this response."


@dataclass(frozen=True)
class FieldError:
    """One field at fault."""

    pointer: str
    """JSON pointer into the body; `/query/NAME`, `/path/NAME` and `/header/NAME` for what is not in the body."""
    message: str


class Refused(ConductorError):
    """A refusal that only the API knows: its code gives the HTTP status."""

    def __init__(
        self,
        message: str,
        *,
        code: Code,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.status = status
        """Another HTTP status than the code's, where one code has two (400 for a body that is no JSON at all)."""
        self.extra = dict(extra or {})
        """Further members of the problem document."""


class FieldProblem(BaseModel):
    """One field at fault."""

    pointer: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457). Programs look at `code`, which is stable; people read `detail`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: Code
    request_id: str
    errors: list[FieldProblem] = []


def problem(error: ConductorError, request_id: str) -> JSONResponse:
    """The response that tells a caller of `error`."""
    code = error.code if error.code in STATUSES else Code.INTERNAL
    status, title = STATUSES[code]
    headers: dict[str, str] = {}
    errors: tuple[FieldError, ...] = ()
    extra: dict[str, Any] = {}
    match error:
        case Refused():
            status, headers, errors, extra = error.status or status, error.headers, error.errors, error.extra
        case Unavailable() | LimitReached():
            headers = {"Retry-After": str(error.retry_after)}
        case InvalidRequest(pointer=str(pointer)):
            errors = (FieldError(pointer, error.message),)
    details = {Code.INTERNAL: INTERNAL, Code.NOT_FOUND: NOT_FOUND}
    document = Problem(
        type=f"/docs#{code.value}",
        title=title,
        status=status,
        detail=details.get(code, error.message),
        instance=f"urn:conductor:request:{request_id}",
        code=code,
        request_id=request_id,
        errors=[FieldProblem(pointer=item.pointer, message=item.message) for item in errors],
        **extra,
    )
    return JSONResponse(document.model_dump(mode="json"), status, headers=headers, media_type=MEDIA_TYPE)


def example(code: Code) -> dict[str, Any]:
    """What such a problem looks like, for the documentation."""
    status, title = STATUSES[code]
    request_id = "req_0123456789abcdef0123456789abcdef"
    return Problem(
        type=f"/docs#{code.value}",
        title=title,
        status=status,
        detail=f"{title}.",
        instance=f"urn:conductor:request:{request_id}",
        code=code,
        request_id=request_id,
    ).model_dump(mode="json")


def documented(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """Error responses of a route for its OpenAPI, one for each status; what any route may answer is added."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in (
        *codes,
        Code.INVALID_REQUEST,
        Code.UNAUTHENTICATED,
        Code.RATE_LIMITED,
        Code.STORE_UNAVAILABLE,
        Code.INTERNAL,
    ):
        status, title = STATUSES[code]
        entry = by_status.setdefault(status, {"description": title, "content": {MEDIA_TYPE: {"examples": {}}}})
        content = entry["content"][MEDIA_TYPE]
        content["schema"] = {"$ref": "#/components/schemas/Problem"}
        content["examples"][code.value] = {"value": example(code)}
    return by_status
