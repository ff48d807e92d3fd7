"""The REST client: what it sends, and what it makes of answers."""

from collections.abc import AsyncIterator

import pytest

from conductor_ai.cli.rest import Refused, Rest
from conductor_ai.contracts.status import Status
from conductor_ai.errors import (
    Code,
    ConductorError,
    ConfigurationError,
    Conflict,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from tests.fixtures_cli import KEY, SESSION, FakeConductor, Reply, approval, problem, serving, session

PATH = f"/v1/agents/{SESSION}"


@pytest.fixture
async def fake() -> AsyncIterator[FakeConductor]:
    """A server with one running session."""
    with serving(FakeConductor(session(1), session(2))) as server:
        yield server


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", InvalidRequest),
        (422, "unknown_model", InvalidRequest),
        (413, "body_too_large", InvalidRequest),
        (401, "unauthenticated", Refused),
        (403, "forbidden", Refused),
        (404, "not_found", NotFound),
        (409, "already_decided", Conflict),
        (412, "digest_mismatch", Conflict),
        (429, "a_code_of_tomorrow", Unavailable),
        (500, "internal", Unavailable),
        (503, "engine_unavailable", Unavailable),
    ],
)
async def test_a_problem_becomes_an_exception_with_the_servers_sentence(
    fake: FakeConductor, status: int, code: str, kind: type[ConductorError]
) -> None:
    """Every kind of refusal keeps its sentence, its fields at fault and, if it is known here, its stable code."""
    fake.replies.append((PATH, problem(status, code, "It cannot be.", [{"pointer": "/model", "message": "No such."}])))
    async with Rest(fake.url, KEY) as rest:
        with pytest.raises(kind) as caught:
            await rest.session(SESSION)
    assert caught.value.message == "It cannot be. /model: No such."
    if code in [known.value for known in Code]:
        assert caught.value.code == code


async def test_a_sentence_is_not_said_twice(fake: FakeConductor) -> None:
    """A field at fault whose message is the detail adds nothing."""
    fake.replies.append(
        (PATH, problem(422, "unknown_model", "No such.", [{"pointer": "/model", "message": "No such."}]))
    )
    async with Rest(fake.url, KEY) as rest:
        with pytest.raises(InvalidRequest, match=r"^No such\.$"):
            await rest.session(SESSION)


async def test_what_hides_in_a_sentence_is_made_visible(fake: FakeConductor) -> None:
    """An answer from outside cannot steer the terminal."""
    fake.replies.append((PATH, problem(404, "not_found", "gone\x1b[2J")))
    async with Rest(fake.url, KEY) as rest:
        with pytest.raises(NotFound, match="gone⟨U\\+001B⟩"):
            await rest.session(SESSION)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(502, b"<html>Bad gateway</html>"),
        Reply(302, b"", {"Location": "http://127.0.0.1:1/"}),
        Reply(404, b"[]"),
        Reply(200, b"<html>Welcome</html>"),
        Reply(200, {"status": "unheard of"}),
    ],
)
async def test_another_server_is_told_as_such(fake: FakeConductor, reply: Reply) -> None:
    """What is not Conductor's API is one sentence about the address, and no redirect takes the key elsewhere."""
    fake.replies.append((PATH, reply))
    async with Rest(fake.url, KEY) as rest:
        with pytest.raises(Unavailable, match="CONDUCTOR_API_URL"):
            await rest.session(SESSION)


async def test_nobody_there_is_told_with_what_to_do() -> None:
    """A refused connection names the address and the command that starts a server."""
    async with Rest("http://127.0.0.1:9", KEY) as rest:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9.*conductor dev"):
            await rest.session(SESSION)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://127.0.0.1", "http://", ""])
def test_an_address_that_is_none_is_a_matter_of_settings(url: str) -> None:
    """A wrong CONDUCTOR_API_URL is told before anything is sent."""
    with pytest.raises(ConfigurationError, match="CONDUCTOR_API_URL"):
        Rest(url, None)


def test_a_key_that_is_none_is_not_repeated() -> None:
    """A key with a line end would break the header; the message does not show it."""
    with pytest.raises(ConfigurationError, match="CONDUCTOR_API_KEY") as caught:
        Rest("http://127.0.0.1:9", "ck_secret\n")
    assert "ck_secret" not in caught.value.message


async def test_a_start_is_repeated_under_one_key(fake: FakeConductor) -> None:
    """A server that cannot start now gets the same request again, with the same Idempotency-Key: one session starts."""
    fake.replies.append(("/v1/agents/run", problem(503, "engine_unavailable", "Temporal is away.")))
    async with Rest(fake.url, KEY) as rest:
        started = await rest.start({"messages": []})
    first, second = fake.asked("POST", "/v1/agents/run")
    assert started.session_id == SESSION
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.body == second.body == {"messages": []}


async def test_patience_ends(fake: FakeConductor) -> None:
    """Without patience the first 503 is the answer, in the server's words."""
    fake.replies.append(("/v1/agents/run", problem(503, "engine_unavailable", "Temporal is away.")))
    async with Rest(fake.url, KEY) as rest:
        with pytest.raises(Unavailable, match="Temporal is away"):
            await rest.start({"messages": []}, patience=0)


async def test_a_newer_server_may_say_more(fake: FakeConductor) -> None:
    """Fields that this version does not know are passed over, also deep inside."""
    document = session(1, pending=[approval()]).model_dump(mode="json")
    document["news"] = 1
    document["pending_approvals"][0]["news"] = 2
    fake.replies.append((PATH, Reply(200, document)))
    async with Rest(fake.url, None) as rest:
        view = await rest.session(SESSION)
    assert view is not None
    assert view.pending_approvals[0].tool == "sql_query"
    assert "authorization" not in fake.requests[0].headers


async def test_a_long_poll_asks_for_what_is_new(fake: FakeConductor) -> None:
    """`since` becomes a long poll for a newer version and for later steps only; 304 is None."""
    async with Rest(fake.url, KEY) as rest:
        view = await rest.session(SESSION, since=1, steps_after=3)
        fake.replies.append((PATH, Reply(304)))
        unchanged = await rest.session(SESSION, since=2)
    assert view is not None
    assert view.version == 2
    assert unchanged is None
    assert fake.requests[0].query == {"wait": "30", "since_version": "1", "steps_after": "3"}


async def test_a_decision_names_what_was_seen(fake: FakeConductor) -> None:
    """The digest of the shown approval goes along, and 202 is told apart from 200."""
    seen = approval()
    path = f"/v1/approvals/{seen.id}/decision"
    fake.replies.append((path, Reply(202, {})))
    async with Rest(fake.url, KEY) as rest:
        assert await rest.decide(seen, "deny", "not today") == "on_its_way"
        assert await rest.decide(seen, "approve", None) == "decided"
    first, second = fake.asked("POST", path)
    assert first.body == {"decision": "deny", "arguments_sha256": "a" * 64, "comment": "not today"}
    assert second.body == {"decision": "approve", "arguments_sha256": "a" * 64}


async def test_ids_cannot_leave_their_place_in_the_path(fake: FakeConductor) -> None:
    """An id from the command line with a slash or dots stays one segment."""
    async with Rest(fake.url, KEY) as rest:
        with pytest.raises(NotFound):
            await rest.cancel("../api-keys?x=", None)
    assert fake.requests[0].path == "/v1/agents/..%2Fapi-keys%3Fx%3D/cancel"


async def test_lists_carry_their_filters(fake: FakeConductor) -> None:
    """Status, limit and cursor become the query."""
    async with Rest(fake.url, KEY) as rest:
        page = await rest.sessions(status=Status.RUNNING, limit=5, cursor="c")
        await rest.approvals(status=None)
    assert page.data[0].session_id == SESSION
    assert fake.requests[0].query == {"limit": "5", "status": "running", "cursor": "c"}
    assert fake.requests[1].query == {"limit": "50"}
