"""Problem documents: stable codes, our sentences, nothing of the caller's and nothing of an exception."""

import json
from typing import Any

import pytest

from api.problems import STATUSES, FieldError, Refused, documented, problem
from conductor_ai.errors import (
    Code,
    ConductorError,
    ConfigurationError,
    Conflict,
    Fenced,
    InvalidRequest,
    NotFound,
    ToolUnavailable,
    Unavailable,
)


def _told(error: ConductorError) -> tuple[int, dict[str, Any], dict[str, str]]:
    response = problem(error, "req_1")
    return response.status_code, json.loads(bytes(response.body)), dict(response.headers)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidRequest("m"), 422, "invalid_request"),
        (InvalidRequest("m", code=Code.MODEL_RETIRED), 422, "model_retired"),
        (NotFound("m"), 404, "not_found"),
        (Conflict("m"), 409, "session_ended"),
        (Conflict("m", code=Code.ALREADY_DECIDED), 409, "already_decided"),
        (Unavailable("m"), 503, "store_unavailable"),
        (Unavailable("m", code=Code.ENGINE_UNAVAILABLE), 503, "engine_unavailable"),
        (Refused("m", code=Code.DIGEST_MISMATCH), 412, "digest_mismatch"),
        (Refused("m", code=Code.INVALID_REQUEST, status=400), 400, "invalid_request"),
    ],
)
def test_statuses(error: ConductorError, status: int, code: str) -> None:
    """Each error of ours has one status, and its sentence is the detail."""
    found, body, headers = _told(error)
    assert (found, body["status"], body["code"]) == (status, status, code)
    assert body["title"]
    assert body["type"] == f"/docs#{code}"
    assert body["instance"] == "urn:conductor:request:req_1"
    assert body["request_id"] == "req_1"
    assert headers["content-type"] == "application/problem+json"
    if code != "not_found":
        assert body["detail"] == "m"


@pytest.mark.parametrize(
    "error", [Fenced("secret"), ConfigurationError("secret"), ToolUnavailable("secret"), ConductorError("secret")]
)
def test_what_is_not_for_callers(error: ConductorError) -> None:
    """Errors without a status are internal, and their text stays inside."""
    status, body, _ = _told(error)
    assert (status, body["code"]) == (500, "internal")
    assert "secret" not in json.dumps(body)


def test_all_that_is_not_found_looks_alike() -> None:
    """What was not found is not said."""
    assert _told(NotFound("There is no such session."))[1] == _told(NotFound("There is no such approval."))[1]


def test_retry_after() -> None:
    """What is away for now says when to come back, in whole seconds."""
    assert _told(Unavailable("m", retry_after=7))[2]["retry-after"] == "7"


def test_fields() -> None:
    """Errors point at fields, whether one is at fault or many; extra members and headers are kept."""
    assert _told(InvalidRequest("m", pointer="/model"))[1]["errors"] == [{"pointer": "/model", "message": "m"}]
    error = Refused(
        "m",
        code=Code.INVALID_REQUEST,
        errors=[FieldError("/a", "x"), FieldError("/b/0", "y")],
        headers={"Allow": "GET"},
        extra={"more": 1},
    )
    _, body, headers = _told(error)
    assert [item["pointer"] for item in body["errors"]] == ["/a", "/b/0"]
    assert (body["more"], headers["allow"]) == (1, "GET")


def test_documentation() -> None:
    """Codes of the same status stand together, each with its example; what every route may answer is always there."""
    found = documented(Code.SESSION_ENDED, Code.APPROVAL_CLOSED)
    examples = found[409]["content"]["application/problem+json"]["examples"]
    assert set(examples) == {"session_ended", "approval_closed"}
    assert {401, 422, 500, 503} <= found.keys()


def test_every_code_for_callers_has_a_status() -> None:
    """Codes of the HTTP interface are in the table; those of a session's own failure are not."""
    inner = {code for code in Code if code not in STATUSES}
    assert {Code.MODEL_UNAVAILABLE, Code.MAX_STEPS, Code.FENCED, Code.CONFIGURATION} <= inner
    assert inner.isdisjoint({Code.INVALID_REQUEST, Code.NOT_FOUND, Code.INTERNAL})
