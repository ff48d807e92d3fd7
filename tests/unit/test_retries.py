"""The one table of provider errors, a test for each row, and how long to wait."""

from datetime import UTC, datetime

import pytest

from activities.retries import TABLE, Kind, delay_before, failure, retry_after, sort
from conductor_ai.errors import Code, ModelFailure

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

ROWS = [
    (429, None, Kind.RATE_LIMITED, True, Code.MODEL_UNAVAILABLE),
    (529, None, Kind.OVERLOADED, True, Code.MODEL_UNAVAILABLE),
    (503, None, Kind.OVERLOADED, True, Code.MODEL_UNAVAILABLE),
    (500, None, Kind.SERVER_ERROR, True, Code.MODEL_UNAVAILABLE),
    (502, None, Kind.SERVER_ERROR, True, Code.MODEL_UNAVAILABLE),
    (599, None, Kind.SERVER_ERROR, True, Code.MODEL_UNAVAILABLE),
    (408, None, Kind.TIMED_OUT, True, Code.MODEL_UNAVAILABLE),
    (504, None, Kind.TIMED_OUT, True, Code.MODEL_UNAVAILABLE),
    (409, None, Kind.CONFLICT, True, Code.MODEL_UNAVAILABLE),
    (400, None, Kind.BAD_REQUEST, False, Code.MODEL_REJECTED_REQUEST),
    (422, None, Kind.BAD_REQUEST, False, Code.MODEL_REJECTED_REQUEST),
    (404, None, Kind.UNKNOWN_MODEL, False, Code.MODEL_REJECTED_REQUEST),
    (413, None, Kind.CONTEXT_EXCEEDED, False, Code.CONTEXT_EXCEEDED),
    (401, None, Kind.AUTHENTICATION, False, Code.MODEL_AUTHENTICATION),
    (403, None, Kind.PERMISSION, False, Code.MODEL_AUTHENTICATION),
    (402, None, Kind.PAYMENT, False, Code.MODEL_PAYMENT),
    # In mid-stream the status is 200 and only the type tells.
    (200, "overloaded_error", Kind.OVERLOADED, True, Code.MODEL_UNAVAILABLE),
    (200, "rate_limit_error", Kind.RATE_LIMITED, True, Code.MODEL_UNAVAILABLE),
    (200, "api_error", Kind.SERVER_ERROR, True, Code.MODEL_UNAVAILABLE),
    (200, "timeout_error", Kind.TIMED_OUT, True, Code.MODEL_UNAVAILABLE),
    (200, "invalid_request_error", Kind.BAD_REQUEST, False, Code.MODEL_REJECTED_REQUEST),
    (200, "never_heard_of", Kind.SERVER_ERROR, True, Code.MODEL_UNAVAILABLE),
    (None, None, Kind.SERVER_ERROR, True, Code.MODEL_UNAVAILABLE),
    # The type is finer than the status.
    (400, "billing_error", Kind.PAYMENT, False, Code.MODEL_PAYMENT),
    (429, "insufficient_quota", Kind.PAYMENT, False, Code.MODEL_PAYMENT),
    (400, "context_length_exceeded", Kind.CONTEXT_EXCEEDED, False, Code.CONTEXT_EXCEEDED),
]


@pytest.mark.parametrize(("status", "type_", "kind", "retried", "code"), ROWS)
def test_what_an_answer_means(status: int | None, type_: str | None, kind: Kind, retried: bool, code: Code) -> None:
    """Status and type lead to one kind, and the kind says whether to try again and how the session ends if not."""
    found = sort(status, type_)
    raised = failure(found, "The provider")
    assert (found, raised.retryable, raised.code, raised.kind) == (kind, retried, code, kind.value)


@pytest.mark.parametrize("kind", [Kind.NETWORK, Kind.BROKEN_STREAM])
def test_what_has_no_answer_is_tried_again(kind: Kind) -> None:
    """A connection that never was, or that broke, is nobody's verdict."""
    assert failure(kind, "The provider").retryable


def test_every_kind_has_a_row_and_a_sentence() -> None:
    """The table is total, and each message names the provider or the conversation in a whole sentence."""
    assert set(TABLE) == set(Kind)
    for kind in Kind:
        message = failure(kind, "Claude's API").message
        assert message.endswith(".")
        assert "{" not in message


@pytest.mark.parametrize(
    "message",
    ["prompt is too long: 210000 tokens > 200000 maximum", "This model's maximum context length is 32768 tokens"],
)
def test_a_conversation_that_is_too_long_is_told_from_a_bad_request(message: str) -> None:
    """Providers say it only in the text of a 400."""
    assert sort(400, "invalid_request_error", message) is Kind.CONTEXT_EXCEEDED
    assert sort(401, "authentication_error", message) is Kind.AUTHENTICATION


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "soon", "retry-after": "4"}, 4.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_the_time_to_wait_is_read(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and HTTP dates are understood; nonsense is no time."""
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("kind", "word", "retried"),
    [
        (Kind.RATE_LIMITED, "false", False),
        (Kind.BAD_REQUEST, "true", True),
        (Kind.RATE_LIMITED, "maybe", True),
        (Kind.BAD_REQUEST, "maybe", False),
    ],
)
def test_the_provider_may_overrule_the_table(kind: Kind, word: str, retried: bool) -> None:
    """`x-should-retry` is the provider's own verdict on this very answer."""
    assert failure(kind, "The provider", {"x-should-retry": word}).retryable is retried


def test_a_payment_error_with_a_time_is_a_budget_in_use() -> None:
    """OpenRouter answers 402 with a time to wait while other requests hold the budget; without one it is empty."""
    waiting = failure(Kind.PAYMENT, "OpenRouter", {"retry-after": "3"})
    assert (waiting.retryable, waiting.retry_after) == (True, 3.0)
    assert not failure(Kind.PAYMENT, "OpenRouter").retryable


def _failed(seconds: float | None) -> ModelFailure:
    return ModelFailure("It failed.", code=Code.MODEL_UNAVAILABLE, retryable=True, retry_after=seconds)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1), (2, 1), (3, 2), (4, 4), (5, 8), (6, 16), (7, 32), (8, 60), (9, 60), (10**9, 60)]
)
def test_delays_double_up_to_a_minute(attempt: int, seconds: float) -> None:
    """1 s before the second attempt, doubled for each further one, at most 60 s, for any number."""
    assert delay_before(attempt, _failed(None)) == seconds


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 0.0), (7.5, 7.5), (120.0, 120.0), (300.0, 300.0), (9999.0, 300.0)])
def test_what_the_provider_asks_for_wins(asked: float, waited: float) -> None:
    """Retry-After is neither shortened nor mixed with our own delay, but capped at five minutes."""
    assert delay_before(6, _failed(asked)) == waited
