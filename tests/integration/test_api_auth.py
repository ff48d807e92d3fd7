"""Who may talk to the API, and what happens to who may not."""

from typing import Any

import pytest

from conductor_ai.stores.access import Keys, Role
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.temporal import Engine
from tests.fixtures_api import HELLO, Api, is_problem, routes, serving


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer ck_" + "x" * 43},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic Y2s6eA=="},
        {"Authorization": "ck_" + "x" * 43},
        {"X-API-Key": "sk-nonsense"},
        {"X-API-Key": "ck_" + "x" * 10_000},
        {"X-API-Key": "ck_\xff\xfe"},
    ],
)
async def test_no_key(api: Api, headers: dict[str, str]) -> None:
    """Every route under /v1 refuses who shows no valid key, before it looks at the body or the id."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    for method, url in await routes(api):
        answer = await api.http.request(method, url, headers=raw, content=b"{not json")
        body = is_problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "xxx" not in str(body)


async def test_both_headers(api: Api) -> None:
    """A key may come in either header, or the same in both; two different ones are refused."""
    secret = api.secrets[Role.VIEWER]
    for headers in (
        {"Authorization": f"Bearer {secret}"},
        {"Authorization": f"bearer {secret}"},
        {"X-API-Key": secret},
        {"X-API-Key": secret, "Authorization": f"Bearer {secret}"},
    ):
        assert (await api.http.get("/v1/tools", headers=headers)).is_success
    two = {"X-API-Key": secret, "Authorization": f"Bearer {api.secrets[Role.ADMIN]}"}
    is_problem(await api.http.get("/v1/tools", headers=two), 401, "unauthenticated")


async def test_the_organisation_comes_from_the_key_alone(api: Api) -> None:
    """`X-Org-ID` means nothing to a server with keys."""
    session_id = await api.start()
    other = await api.other()
    is_problem(await other.get(f"/v1/agents/{session_id}", headers={"X-Org-ID": api.org}), 404, "not_found")


async def test_a_revoked_key(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revoked key stops at the latest when it is looked up again; one just made works at once."""
    key, secret = await Keys(api.deps.database).create(api.org, "short-lived", Role.VIEWER)
    assert (await api.http.get("/v1/tools", headers={"X-API-Key": secret})).is_success
    async with api.deps.database.connection() as connection:
        await connection.execute("UPDATE conductor.api_keys SET revoked_at = now() WHERE id = $1", key.id)
    now = api.deps.keys._clock()
    monkeypatch.setattr(api.deps.keys, "_clock", lambda: now + 61)
    is_problem(await api.http.get("/v1/tools", headers={"X-API-Key": secret}), 401, "unauthenticated")


@pytest.mark.parametrize("url", ["/livez", "/health", "/openapi.json", "/docs", "/readyz"])
async def test_open_to_all(api: Api, url: str) -> None:
    """Health and documentation need no key."""
    assert (await api.http.get(url)).is_success


async def test_auth_off(database: Database, standing_in: Engine, hot: Hot) -> None:
    """Without keys everybody on this machine is an admin of the organisation that `X-Org-ID` names, else `default`."""
    async with serving(database, standing_in, hot, auth="off", with_keys=False) as local:
        for headers, org in (({}, "default"), ({"X-Org-ID": "acme"}, "acme")):
            answer = await local.http.post("/v1/agents/run", json={**HELLO, "tools": []}, headers=headers)
            assert answer.status_code == 202
            session_id = answer.json()["session_id"]
            async with database.connection() as connection:
                stored = await connection.fetchval("SELECT org_id FROM conductor.sessions WHERE id = $1", session_id)
            assert stored == org
            assert (await local.http.get(f"/v1/agents/{session_id}", headers=headers)).is_success
            is_problem(
                await local.http.get(f"/v1/agents/{session_id}", headers={"X-Org-ID": "nobody"}), 404, "not_found"
            )
        is_problem(await local.http.get("/v1/agents", headers={"X-Org-ID": "a:b"}), 422, "invalid_request")
        is_problem(await local.http.get("/v1/agents", headers={"X-Org-ID": ""}), 422, "invalid_request")


@pytest.mark.parametrize(
    ("headers", "welcome"),
    [
        ({}, True),
        ({"Host": "localhost:8080"}, True),
        ({"Host": "[::1]:8080"}, True),
        ({"Host": "127.0.0.1", "Origin": "http://127.0.0.1:8080"}, True),
        ({"Host": "evil.example"}, False),
        ({"Host": "localhost.evil.example"}, False),
        ({"Host": "[bad"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
async def test_auth_off_is_not_for_other_sites(
    database: Database, standing_in: Engine, hot: Hot, headers: dict[str, Any], welcome: bool
) -> None:
    """A web page that a person has open must not be able to use a server without keys, by rebinding or across origins."""
    async with serving(database, standing_in, hot, auth="off", with_keys=False) as local:
        answer = await local.http.get("/v1/agents", headers=headers)
        if welcome:
            assert answer.status_code == 200
        else:
            is_problem(answer, 403, "forbidden")
