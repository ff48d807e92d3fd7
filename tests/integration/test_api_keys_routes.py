"""Keys over HTTP: made, listed, revoked; what each role may do; and nobody's things to anybody else."""

import re
from typing import Any

import pytest
import redis.asyncio
from fastapi import APIRouter

from api import gate, health
from api.app import ROUTERS
from conductor_ai.errors import Conflict, Unavailable
from conductor_ai.names import new_id
from conductor_ai.stores.access import Role
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.idempotency import Answers, Claimed, KeyedRequest, Lease
from conductor_ai.stores.postgres import Database
from conductor_ai.temporal import Engine
from tests.fixtures_api import Api, is_problem, routes, serving

KEYS = "/v1/api-keys"


async def made(api: Api, **more: Any) -> dict[str, Any]:
    """A key that an admin made."""
    answer = await api.post(KEYS, {"name": "nightly", **more})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_key_works_at_once_and_its_secret_is_shown_once(api: Api) -> None:
    """The secret comes with the answer that makes it and never again; it opens this organisation with this role alone."""
    key = await made(api, role="viewer")
    assert key["secret"].startswith("ck_")
    shown = {"X-API-Key": key["secret"]}
    assert (await api.http.get("/v1/agents", headers=shown)).status_code == 200
    is_problem(await api.http.get(KEYS, headers=shown), 403, "forbidden")
    listed = (await api.get(KEYS)).json()
    assert listed["data"][0] == {name: value for name, value in key.items() if name != "secret"}
    assert "ck_" not in str(listed)
    assert {item["id"] for item in (await (await api.other()).get(KEYS)).json()["data"]}.isdisjoint({key["id"]})
    async with api.deps.database.connection() as connection:
        rows = await connection.fetch("SELECT to_jsonb(k)::text AS row FROM conductor.api_keys k")
        kept = await connection.fetch(
            "SELECT convert_from(body, 'UTF8') AS row FROM conductor.idempotency WHERE body IS NOT NULL"
        )
    assert not [row for row in (*rows, *kept) if key["secret"] in row["row"]]


async def test_a_repeated_request_makes_no_second_key(api: Api) -> None:
    """The same Idempotency-Key answers with the same key, without its secret, which nobody kept."""
    headers = {"Idempotency-Key": new_id("twice")}
    first = await api.post(KEYS, {"name": "once"}, headers=headers)
    again = await api.post(KEYS, {"name": "once"}, headers=headers)
    assert (first.status_code, again.status_code, again.headers["idempotency-replayed"]) == (201, 201, "true")
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["secret"] not in again.text


async def test_an_answer_that_was_lost_with_its_process(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt shows a secret of the same key, and that one works; the secret that nobody saw does not."""
    headers, create = {"Idempotency-Key": new_id("crash")}, api.deps.keys.store.create
    unseen: list[str] = []

    async def die(*given: Any) -> Any:
        unseen.append((await create(*given))[1])
        raise Unavailable("As if the process ended here.")

    monkeypatch.setattr(api.deps.keys.store, "create", die)
    is_problem(await api.post(KEYS, {"name": "once"}, headers=headers), 503, "store_unavailable")
    monkeypatch.setattr(api.deps.keys.store, "create", create)
    again = await api.post(KEYS, {"name": "once"}, headers=headers)
    assert again.status_code == 201
    assert [key["id"] for key in (await api.get(KEYS)).json()["data"] if key["name"] == "once"] == [again.json()["id"]]
    shown = [{"X-API-Key": secret} for secret in (again.json()["secret"], *unseen)]
    assert [(await api.http.get("/v1/agents", headers=each)).status_code for each in shown] == [200, 401]
    assert (await api.post(KEYS, {"name": "once"}, headers=headers)).headers["idempotency-replayed"] == "true"


async def test_a_key_that_nobody_saw_and_somebody_revoked(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays revoked: the next attempt makes another one, which works."""
    headers, create = {"Idempotency-Key": new_id("crash")}, api.deps.keys.store.create
    unseen: list[str] = []

    async def die(*given: Any) -> Any:
        unseen.append((await create(*given))[0].id)
        raise Unavailable("As if the process ended here.")

    monkeypatch.setattr(api.deps.keys.store, "create", die)
    is_problem(await api.post(KEYS, {"name": "once"}, headers=headers), 503, "store_unavailable")
    monkeypatch.setattr(api.deps.keys.store, "create", create)
    await api.deps.keys.store.revoke(api.org, unseen[0])
    again = (await api.post(KEYS, {"name": "once"}, headers=headers)).json()
    assert again["id"] != unseen[0]
    assert (await api.http.get("/v1/agents", headers={"X-API-Key": again["secret"]})).status_code == 200


async def test_a_late_attempt_does_not_replace_a_secret(api: Api, database: Database) -> None:
    """An attempt that lost its lease makes nothing any more: the secret that its successor showed goes on to work."""
    answers, request = Answers(database), KeyedRequest(api.org, f"POST {KEYS}", new_id("late"), "")
    late = await answers.claim(request)
    assert isinstance(late, Claimed)
    await answers.give_up(request, late)
    next_one = await answers.claim(request)
    assert isinstance(next_one, Claimed)
    keys = api.deps.keys.store
    _, secret = await keys.create(api.org, "late", Role.VIEWER, Lease(request, next_one))
    with pytest.raises(Conflict):
        await keys.create(api.org, "late", Role.VIEWER, Lease(request, late))
    assert (await api.http.get("/v1/agents", headers={"X-API-Key": secret})).status_code == 200


async def test_pages_of_keys(api: Api) -> None:
    """Newest first, a page at a time."""
    for number in range(3):
        await made(api, name=f"key {number}")
    first = (await api.get(KEYS, params={"limit": 2})).json()
    second = (await api.get(KEYS, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    names = [item["name"] for item in (*first["data"], *second["data"])]
    assert names[:3] == ["key 2", "key 1", "key 0"]
    assert first["has_more"]


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "x" * 101}, {"name": "x", "role": "god"}, {"name": 5}, {"name": "x", "org": "y"}],
)
async def test_odd_keys(api: Api, body: dict[str, Any]) -> None:
    """A key needs a name and a role that there is; an organisation cannot be chosen."""
    is_problem(await api.post(KEYS, body), 422, "invalid_request")


async def test_revoked_here_at_once_and_elsewhere_within_a_minute(
    api: Api, database: Database, standing_in: Engine, hot: Hot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that revokes refuses the key at once; another one that has seen it, when its memory of it is over, and that
    is before 60 s have passed."""
    key = await made(api)
    shown = {"X-API-Key": key["secret"]}
    async with serving(database, standing_in, hot) as elsewhere:
        for process in (api, elsewhere):
            assert (await process.http.get("/v1/agents", headers=shown)).status_code == 200
        assert (await api.http.delete(f"{KEYS}/{key['id']}", headers=api.as_(Role.ADMIN))).status_code == 204
        is_problem(await api.http.get("/v1/agents", headers=shown), 401, "unauthenticated")
        now = elsewhere.deps.keys._clock()
        monkeypatch.setattr(elsewhere.deps.keys, "_clock", lambda: now + 50)
        is_problem(await elsewhere.http.get("/v1/agents", headers=shown), 401, "unauthenticated")
    again = await api.http.delete(f"{KEYS}/{key['id']}", headers=api.as_(Role.ADMIN))
    assert again.status_code == 204
    assert (await api.get(KEYS)).json()["data"][0]["revoked_at"] is not None


EVERYBODY = frozenset(Role)
MAY: dict[tuple[str, str], frozenset[Role]] = {
    ("POST", "/v1/agents/run"): frozenset({Role.OPERATOR, Role.ADMIN}),
    ("POST", "/v1/agents/{session_id}/cancel"): frozenset({Role.OPERATOR, Role.ADMIN}),
    ("POST", "/v1/agents/{session_id}/messages"): frozenset({Role.OPERATOR, Role.ADMIN}),
    ("POST", "/v1/agents/{session_id}/pause"): frozenset({Role.OPERATOR, Role.ADMIN}),
    ("POST", "/v1/agents/{session_id}/resume"): frozenset({Role.OPERATOR, Role.ADMIN}),
    ("PATCH", "/v1/agents/{session_id}/budget"): frozenset({Role.OPERATOR, Role.ADMIN}),
    ("DELETE", "/v1/agents/{session_id}"): frozenset({Role.ADMIN}),
    ("POST", "/v1/agents/{session_id}/approve/{step_id}"): frozenset({Role.APPROVER, Role.ADMIN}),
    ("POST", "/v1/approvals/{approval_id}/decision"): frozenset({Role.APPROVER, Role.ADMIN}),
    ("POST", "/v1/approvals/decisions"): frozenset({Role.APPROVER, Role.ADMIN}),
    ("DELETE", "/v1/grants/{grant_id}"): frozenset({Role.APPROVER, Role.ADMIN}),
    ("GET", KEYS): frozenset({Role.ADMIN}),
    ("POST", KEYS): frozenset({Role.ADMIN}),
    ("DELETE", KEYS + "/{key_id}"): frozenset({Role.ADMIN}),
}
"""Who may what, where it is not everybody: a new route that changes something has to be entered."""


async def test_roles_on_every_route(api: Api) -> None:
    """Each route refuses the roles that it is not for, of this very organisation, and lets the others pass to what comes next."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    key = await made(api)
    ids = {"session_id": session_id, "approval_id": approval["id"], "key_id": key["id"], "step_id": "1", "name": "x"}
    for method, path in await routes(api):
        if path.endswith("/stream") or "{grant_id}" in path:
            continue
        assert method == "GET" or (method, path) in MAY, f"who may {method} {path}?"
        url = re.sub(r"{(\w+)}", lambda found: ids.get(found[1], "x"), path)
        for role in Role:
            if role is Role.ADMIN and method != "GET":
                continue  # It would do it.
            answer = await api.http.request(method, url, headers=api.as_(role))
            refused = answer.status_code == 403
            assert refused == (role not in MAY.get((method, path), EVERYBODY)), (method, path, role, answer.text)


async def test_a_foreign_key_on_every_route(api: Api, redis_url: str) -> None:
    """Each route of the document, each method, a foreign admin's key: the 404 of an id that never was, word for word; with warm
    copies and memories, and with Redis emptied."""
    session_id = await api.start(title="canary")
    approval = await api.hand.ask(session_id)
    key = await made(api)
    ids = {"session_id": session_id, "approval_id": approval["id"], "key_id": key["id"]}
    never = {name: new_id(value.partition("_")[0]) for name, value in ids.items()}
    other = await api.other()
    for url in (f"/v1/agents/{session_id}", f"/v1/approvals/{approval['id']}"):
        assert (await api.get(url)).status_code == 200
    tried = 0
    for _ in range(2):
        for method, path in await routes(api):
            named = [name for name in ids if f"{{{name}}}" in path]
            if not named:
                continue
            found = []
            for chosen in (ids, never):
                url = re.sub(r"{(\w+)}", lambda m, chosen=chosen: chosen.get(m[1], "1"), path)  # type: ignore[misc]
                found.append(await other.http.request(method, url, headers=other.as_(Role.ADMIN)))
            for answer in found:
                is_problem(answer, 404, "not_found")
                assert "canary" not in answer.text
            bodies = [
                {k: v for k, v in answer.json().items() if k not in ("instance", "request_id")} for answer in found
            ]
            assert bodies[0] == bodies[1], (method, path)
            assert found[0].headers.keys() == found[1].headers.keys()
            tried += 1
        async with redis.asyncio.Redis.from_url(redis_url) as copies:
            await copies.flushall()
    assert tried >= 2 * 10
    assert (await api.get(f"/v1/agents/{session_id}")).json()["status"] in ("pending", "running")
    assert (await api.get(KEYS)).json()["data"][0]["revoked_at"] is None


def test_no_address_is_forgotten() -> None:
    """All routers but the one for health stand behind the gate, and an address whose parameter nobody knows does not start."""
    for module in ROUTERS:
        gate.check(module.router)
    assert [route.path for route in health.router.routes if route.path.startswith("/v1")] == []  # type: ignore[attr-defined]
    for path in ("/v1/things/{thing_id}", "/v1/steps/{step_id}"):
        router = APIRouter()
        router.add_api_route(path, lambda: None)
        with pytest.raises(RuntimeError, match=r"say in api/gate\.py"):
            gate.check(router)
