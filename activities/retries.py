"""The one table of provider errors: retry, wait and retry, or fail with which code. SDKs and HTTP clients never retry.

Temporal is the only authority that repeats a model call. Providers turn whatever they meet into a `Kind`; this module
says what a kind means. Nothing of the provider's own text reaches the message: it may carry parts of the conversation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from math import isfinite

from conductor_ai.errors import Code, ModelFailure

FIRST_DELAY = 1.0
"""Seconds before the second attempt; doubled for each further one."""
LONGEST_DELAY = 60.0
LONGEST_RETRY_AFTER = 300.0
"""A provider may ask for more, but a session should not sleep longer than this without looking again."""


class Kind(StrEnum):
    """Every way in which a model call can fail. The closed set behind `ModelFailure.kind`."""

    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    TIMED_OUT = "timed_out"
    CONFLICT = "conflict"
    NETWORK = "network"
    BROKEN_STREAM = "broken_stream"
    BAD_REQUEST = "bad_request"
    CONTEXT_EXCEEDED = "context_exceeded"
    UNKNOWN_MODEL = "unknown_model"
    NO_KEY = "no_key"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    PAYMENT = "payment"


@dataclass(frozen=True)
class Row:
    """What follows from one kind of error."""

    retry: bool
    code: Code
    """The code of the session when this error ends it: at once, or after the last attempt."""
    meaning: str
    """What happened and what to do; `{provider}` is filled in."""


TABLE: Mapping[Kind, Row] = {
    Kind.RATE_LIMITED: Row(
        True, Code.MODEL_UNAVAILABLE, "{provider} limits the rate of requests; the call is tried again later."
    ),
    Kind.OVERLOADED: Row(True, Code.MODEL_UNAVAILABLE, "{provider} is overloaded; the call is tried again later."),
    Kind.SERVER_ERROR: Row(
        True, Code.MODEL_UNAVAILABLE, "{provider} had an internal error; the call is tried again later."
    ),
    Kind.TIMED_OUT: Row(
        True, Code.MODEL_UNAVAILABLE, "{provider} did not answer in time; the call is tried again later."
    ),
    Kind.CONFLICT: Row(
        True, Code.MODEL_UNAVAILABLE, "{provider} reported a conflict with another request; the call is tried again."
    ),
    Kind.NETWORK: Row(
        True,
        Code.MODEL_UNAVAILABLE,
        "{provider} could not be reached. Check the network and the address of the endpoint; the call is tried again.",
    ),
    Kind.BROKEN_STREAM: Row(
        True, Code.MODEL_UNAVAILABLE, "The answer of {provider} broke off half way; the call is tried again."
    ),
    Kind.BAD_REQUEST: Row(
        False,
        Code.MODEL_REJECTED_REQUEST,
        "{provider} rejected the request as invalid. Repeating it cannot help; check the model and its tools.",
    ),
    Kind.CONTEXT_EXCEEDED: Row(
        False,
        Code.CONTEXT_EXCEEDED,
        "The conversation does not fit the model's context window any more. Start a new session, or use a model with "
        "a larger window.",
    ),
    Kind.UNKNOWN_MODEL: Row(
        False,
        Code.MODEL_REJECTED_REQUEST,
        "{provider} does not serve this model, or not at this address. Choose another model.",
    ),
    Kind.NO_KEY: Row(
        False,
        Code.MODEL_AUTHENTICATION,
        "There is no API key for {provider}. Set it in the environment of the worker, or choose another model.",
    ),
    Kind.AUTHENTICATION: Row(
        False, Code.MODEL_AUTHENTICATION, "{provider} did not accept the API key. Check the key in the settings."
    ),
    Kind.PERMISSION: Row(
        False,
        Code.MODEL_AUTHENTICATION,
        "{provider} does not allow this request with this API key. Check the rights of the key for this model.",
    ),
    Kind.PAYMENT: Row(
        False,
        Code.MODEL_PAYMENT,
        "The account at {provider} has no credit left. Add credit, then run the session again.",
    ),
}

_BY_STATUS: Mapping[int, Kind] = {
    401: Kind.AUTHENTICATION,
    402: Kind.PAYMENT,
    403: Kind.PERMISSION,
    404: Kind.UNKNOWN_MODEL,
    408: Kind.TIMED_OUT,
    409: Kind.CONFLICT,
    413: Kind.CONTEXT_EXCEEDED,
    429: Kind.RATE_LIMITED,
    503: Kind.OVERLOADED,
    504: Kind.TIMED_OUT,
    529: Kind.OVERLOADED,
}

_BY_TYPE: Mapping[str, Kind] = {
    "invalid_request_error": Kind.BAD_REQUEST,
    "authentication_error": Kind.AUTHENTICATION,
    "billing_error": Kind.PAYMENT,
    "insufficient_quota": Kind.PAYMENT,
    "permission_error": Kind.PERMISSION,
    "not_found_error": Kind.UNKNOWN_MODEL,
    "request_too_large": Kind.CONTEXT_EXCEEDED,
    "rate_limit_error": Kind.RATE_LIMITED,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    "timeout_error": Kind.TIMED_OUT,
    "overloaded_error": Kind.OVERLOADED,
    "conflict_error": Kind.CONFLICT,
    "api_error": Kind.SERVER_ERROR,
    "server_error": Kind.SERVER_ERROR,
    "context_length_exceeded": Kind.CONTEXT_EXCEEDED,
    "model_not_found": Kind.UNKNOWN_MODEL,
}

KNOWN_TYPES = frozenset(_BY_TYPE)
"""The words that `sort` understands."""

_GENERIC = (Kind.BAD_REQUEST, Kind.SERVER_ERROR)
"""Some servers write `invalid_request_error` whatever it is: then the status is finer than the word."""

_TOO_LONG = (
    "prompt is too long",
    "maximum context length",
    "context length exceeded",
    "context window",
    "exceed context limit",
)
"""What providers write in a 400 where their error type says no more than `invalid request`."""


def sort(status: int | None, type_: str | None = None, message: str = "") -> Kind:
    """The kind of an error that a provider answered with.

    Args:
        status: HTTP status; 200 or None for an error inside a stream that had begun well.
        type_: the provider's own word. It is mostly finer than the status, and all there is in mid-stream.
        message: read for one purpose: to tell a conversation that is too long from any other bad request.
    """
    kind = _BY_TYPE.get(type_ or "")
    if kind is None or (kind in _GENERIC and status is not None and status >= 400):
        kind = _by_status(status)
    if kind is Kind.BAD_REQUEST and any(words in message.lower() for words in _TOO_LONG):
        return Kind.CONTEXT_EXCEEDED
    return kind


def _by_status(status: int | None) -> Kind:
    if status is None or status < 400:
        return Kind.SERVER_ERROR
    kind = _BY_STATUS.get(status)
    if kind is not None:
        return kind
    return Kind.BAD_REQUEST if status < 500 else Kind.SERVER_ERROR


def failure(kind: Kind, provider: str, headers: Mapping[str, str] | None = None) -> ModelFailure:
    """The failure to raise for an error.

    Args:
        provider: how a person calls the provider, for the message.
        headers: of the response, if there was one, with lower-case names: `retry-after-ms`, `retry-after` and
            `x-should-retry` are heard. A lack of credit with a time to wait is a budget in use, not an empty account.
    """
    row = TABLE[kind]
    wait = retry_after(headers or {}, datetime.now(UTC))
    retry = row.retry or (kind is Kind.PAYMENT and wait is not None)
    match (headers or {}).get("x-should-retry"):
        case "true":
            retry = True
        case "false":
            retry = False
        case _:
            pass
    return ModelFailure(
        row.meaning.format(provider=provider),
        code=row.code,
        retryable=retry,
        retry_after=wait if retry else None,
        kind=kind.value,
    )


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a response asks to wait (a number, or an HTTP date); None if it says nothing that makes sense."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                at = parsedate_to_datetime(value)
            except ValueError:
                continue
            seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
        if isfinite(seconds):
            return max(0.0, seconds)
    return None


def delay_before(attempt: int, failed: ModelFailure) -> float:
    """Seconds to wait before attempt number `attempt` (2 is the first repetition), after `failed` ended the one before.

    What the provider asks for wins; otherwise 1 s, doubled each time, at most a minute.
    """
    if failed.retry_after is not None:
        return min(failed.retry_after, LONGEST_RETRY_AFTER)
    doublings = min(max(0, attempt - 2), 16)
    return min(FIRST_DELAY * 2.0**doublings, LONGEST_DELAY)
