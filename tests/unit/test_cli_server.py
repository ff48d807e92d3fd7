"""The command line's errors: the client's, with the server's sentence and what to do at a terminal."""

from collections.abc import AsyncIterator

import pytest

from conductor_ai.cli.find import Origin, Place
from conductor_ai.cli.server import Refused, talking
from conductor_ai.errors import (
    Code,
    ConductorError,
    ConfigurationError,
    Conflict,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from infra.docs.source import ROOT
from tests.fixtures_cli import KEY, SESSION, FakeConductor, Reply, problem, serving, session

PATH = f"/v1/agents/{SESSION}"


def at(url: str, key: str | None = KEY) -> Place:
    """A server of the settings."""
    return Place(Origin.SETTINGS, url, key, None, "default", ROOT)


@pytest.fixture
async def fake() -> AsyncIterator[FakeConductor]:
    """A server with one running session."""
    with serving(FakeConductor(session(1), session(2))) as server:
        yield server


async def look(place: Place) -> None:
    """Look at the session, without patience."""
    async with talking(place) as client:
        await client.with_options(patience=0).sessions.get(SESSION)


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
    with pytest.raises(kind) as caught:
        await look(at(fake.url))
    assert caught.value.message == "It cannot be. /model: No such."
    if code in [known.value for known in Code]:
        assert caught.value.code == code


async def test_what_hides_in_a_sentence_is_made_visible(fake: FakeConductor) -> None:
    """An answer from outside cannot steer the terminal."""
    fake.replies.append((PATH, problem(404, "not_found", "gone\x1b[2J")))
    with pytest.raises(NotFound, match="gone⟨U\\+001B⟩"):
        await look(at(fake.url))


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
    with pytest.raises(Unavailable, match="CONDUCTOR_API_URL"):
        await look(at(fake.url))


async def test_nobody_there_is_told_with_what_to_do() -> None:
    """A refused connection names the address and the command that starts a server."""
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9.*conductor dev"):
        await look(at("http://127.0.0.1:9"))


@pytest.mark.parametrize(("url", "key"), [("localhost:8080", None), ("http://127.0.0.1:9", "ck_secret\n")])
async def test_an_address_or_key_that_is_none_is_a_matter_of_settings(url: str, key: str | None) -> None:
    """It is told before anything is sent, names the variables, and does not repeat the key."""
    with pytest.raises(ConfigurationError, match="CONDUCTOR_API_URL and CONDUCTOR_API_KEY") as caught:
        await look(at(url, key))
    assert "ck_secret" not in caught.value.message


async def test_a_start_is_repeated_under_one_key(fake: FakeConductor) -> None:
    """A server that cannot start now gets the same request again, with the same Idempotency-Key: one session starts."""
    fake.replies.append(("/v1/agents/run", problem(503, "engine_unavailable", "Temporal is away.")))
    async with talking(at(fake.url)) as client:
        started = await client.sessions.run("Hello")
    first, second = fake.asked("POST", "/v1/agents/run")
    assert started.session_id == SESSION
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.body == second.body == {"messages": [{"role": "user", "content": "Hello"}]}
