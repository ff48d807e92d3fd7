"""Idempotency-Key on every POST and PATCH: repeated, with another body, in flight, after a crash, and what is kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.app import ROUTERS, create_app
from api.auth import AnyRole
from api.idempotency import HEADER, METHODS, id_of, install, takes_key
from conductor_ai.names import new_id
from conductor_ai.stores.access import Role
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.idempotency import Answer, Answers, Claimed, InFlight, KeyedRequest
from conductor_ai.stores.postgres import Database
from infra.docs.routes_page import operations
from tests.fixtures_api import HELLO, Api, is_problem, nowhere, serving
from tests.fixtures_servers import wait_until


def keyed(name: str) -> dict[str, Any]:
    """The options of a request under that key."""
    return {"headers": {HEADER: name}}


async def cancelled(api: Api, session_id: str, name: str, **body: Any) -> httpx.Response:
    """Cancel under a key."""
    return await api.post(f"/v1/agents/{session_id}/cancel", body, **keyed(name))


async def kept(api: Api) -> list[Any]:
    """The rows of this organisation."""
    async with api.deps.database.connection() as connection:
        return list(await connection.fetch("SELECT * FROM conductor.idempotency WHERE org_id = $1", api.org))


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.agents_cancel.WAIT_SECONDS", 0.05)


async def test_no_route_forgets_it(api: Api) -> None:
    """Every POST and PATCH of the OpenAPI document takes the key, says so, and says how it refuses one."""
    document = (await api.get("/openapi.json")).json()
    found = [(method, path, item) for method, path, item in operations(document) if method in METHODS]
    assert len(found) >= 3
    for method, path, item in found:
        place = f"{method} {path}"
        assert HEADER in [parameter["name"] for parameter in item.get("parameters", [])], place
        for status, code in (("409", "idempotency_in_flight"), ("422", "idempotency_mismatch")):
            examples = item["responses"][status]["content"]["application/problem+json"]["examples"]
            assert code in examples, place
    routes = [route for module in ROUTERS for route in module.router.routes]
    changing: list[Any] = [route for route in routes if METHODS & (getattr(route, "methods", None) or set())]
    assert len(changing) == len(found)
    assert [route.path for route in changing if not takes_key(route.endpoint)] == []


async def test_a_repeated_decision_is_answered_and_not_made_again(api: Api) -> None:
    """The same key and body give the same answer byte for byte, also in another notation and all at once."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    first = await api.decide(approval, comment="fine", **keyed("d-1"))
    assert first.status_code == 200
    assert "idempotency-replayed" not in first.headers
    again = await asyncio.gather(*(api.decide(approval, comment="fine", **keyed("d-1")) for _ in range(5)))
    for answer in again:
        assert (answer.status_code, answer.content) == (200, first.content)
        assert answer.headers["idempotency-replayed"] == "true"
        assert answer.headers["content-type"] == first.headers["content-type"]
        assert answer.headers["x-request-id"] != first.headers["x-request-id"]
    raw = f'{{ "comment": "fine", "arguments_sha256": "{approval["arguments_sha256"]}", "decision": "approve" }}'
    headers = {HEADER: "d-1", "Content-Type": "application/json"}
    spelled = await api.post(f"/v1/approvals/{approval['id']}/decision", content=raw, headers=headers)
    assert spelled.content == first.content


async def test_another_body_under_the_same_key_is_refused(api: Api) -> None:
    """Nobody gets the answer to a question that they did not ask, and the second question is not carried out."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    await api.decide(approval, **keyed("d-2"))
    is_problem(await api.decide(approval, "deny", **keyed("d-2")), 422, "idempotency_mismatch")
    assert (await api.get(f"/v1/approvals/{approval['id']}")).json()["status"] == "approved"


async def test_the_first_answer_is_repeated_although_the_world_went_on(api: Api) -> None:
    """A cancel that was accepted says so again, after the session has ended; without the key the news is told."""
    session_id = await api.start()
    first = await cancelled(api, session_id, "c-1")
    assert (first.status_code, first.json()["phase"]) == (202, "cancelling")
    await api.hand.finish(session_id)
    again = await cancelled(api, session_id, "c-1")
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert (await api.post(f"/v1/agents/{session_id}/cancel", {})).json()["phase"] == "done"


async def test_a_key_is_scoped_by_organisation_and_address(api: Api) -> None:
    """The same key under another path parameter, or another organisation's, is another request."""
    one, two = await api.start(), await api.start()
    assert (await cancelled(api, one, "c-2")).json()["session_id"] == one
    second = await cancelled(api, two, "c-2")
    assert second.json()["session_id"] == two
    assert "idempotency-replayed" not in second.headers
    stranger = await api.other()
    is_problem(await cancelled(stranger, one, "c-2"), 404, "not_found")


async def test_a_key_opens_nothing_that_the_role_does_not(api: Api) -> None:
    """Whoever may not cancel does not get the answer to a cancel either."""
    session_id = await api.start()
    await cancelled(api, session_id, "c-3")
    answer = await api.post(f"/v1/agents/{session_id}/cancel", {}, role=Role.VIEWER, **keyed("c-3"))
    is_problem(answer, 403, "forbidden")


async def test_in_flight(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first is being carried out the second is told to come back; then it gets the same answer."""
    session_id = await api.start()
    reached, go_on = asyncio.Event(), asyncio.Event()
    request_cancel = api.deps.sessions.request_cancel

    async def slow(*given: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await request_cancel(*given)

    monkeypatch.setattr(api.deps.sessions, "request_cancel", slow)
    first = asyncio.create_task(cancelled(api, session_id, "c-4"))
    await reached.wait()
    second = await cancelled(api, session_id, "c-4")
    is_problem(second, 409, "idempotency_in_flight")
    assert 1 <= int(second.headers["retry-after"]) <= 2
    is_problem(await cancelled(api, session_id, "c-4", reason="another"), 422, "idempotency_mismatch")
    go_on.set()
    answer = await first
    assert answer.status_code == 202
    assert (await cancelled(api, session_id, "c-4")).content == answer.content


async def test_an_attempt_that_died(api: Api) -> None:
    """Its lease keeps others waiting; then the next attempt carries the request out, under the same token."""
    session_id = await api.start()
    request = KeyedRequest(api.org, f"POST /v1/agents/{session_id}/cancel", "c-5", "")
    await cancelled(api, session_id, "c-5")
    [row] = [row for row in await kept(api) if row["key"] == "c-5"]
    async with api.deps.database.connection() as connection:  # as if it had died before it answered
        await connection.execute(
            "UPDATE conductor.idempotency SET status = NULL, leased_until = clock_timestamp() + interval '9 s' "
            "WHERE org_id = $1 AND key = 'c-5'",
            api.org,
        )
    is_problem(await cancelled(api, session_id, "c-5"), 409, "idempotency_in_flight")
    async with api.deps.database.connection() as connection:
        await connection.execute(
            "UPDATE conductor.idempotency SET leased_until = clock_timestamp() WHERE org_id = $1 AND key = 'c-5'",
            api.org,
        )
    answer = await cancelled(api, session_id, "c-5")
    assert answer.status_code == 202
    assert "idempotency-replayed" not in answer.headers
    [after] = [row for row in await kept(api) if row["key"] == "c-5"]
    assert (after["token"], after["body_sha"]) == (row["token"], row["body_sha"])
    assert after["holder"] != row["holder"]
    assert request.route == after["route"]


async def test_a_late_attempt_does_not_replace_the_answer(database: Database) -> None:
    """Whoever lost the lease keeps, renews and forgets nothing any more."""
    answers, request = Answers(database), KeyedRequest(new_id("org"), "POST /x", "k", "a")
    late = await answers.claim(request)
    assert isinstance(late, Claimed)
    assert late.first
    assert isinstance(await answers.claim(request), InFlight)
    await answers.give_up(request, late)
    second = await answers.claim(request)
    assert isinstance(second, Claimed)
    assert (second.token, second.first) == (late.token, False)
    await answers.forget(request, late)
    await answers.keep(request, late, Answer(200, {}, b"late"))
    assert isinstance(await answers.claim(request), InFlight)
    await answers.keep(request, second, Answer(201, {"a": "b"}, b"\x00second"))
    await answers.give_up(request, second)
    found = await answers.claim(request)
    assert found == Answer(201, {"a": "b"}, b"\x00second")


async def test_many_claims_at_once(database: Database) -> None:
    """Of fifty attempts at the same moment one gets the right."""
    answers, request = Answers(database), KeyedRequest(new_id("org"), "POST /x", "k", "a")
    found = await asyncio.gather(*(answers.claim(request) for _ in range(50)))
    assert sum(isinstance(item, Claimed) for item in found) == 1
    assert sum(isinstance(item, InFlight) for item in found) == 49


async def test_a_refusal_leaves_the_key_free(api: Api) -> None:
    """What was refused changed nothing: put right, the request may come again under its key."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    wrong = {**approval, "arguments_sha256": "0" * 64}
    is_problem(await api.decide(wrong, **keyed("d-3")), 412, "digest_mismatch")
    assert [row for row in await kept(api) if row["key"] == "d-3"] == []
    assert (await api.decide(approval, **keyed("d-3"))).status_code == 200


async def test_what_is_unclear_is_tried_again(api: Api, database: Database, hot: Hot) -> None:
    """After a 503 the same key goes on at once, and is not answered 503 for a day."""
    session_id = await api.start()
    async with serving(database, await nowhere(), hot) as broken:
        half = Api(broken.http, broken.deps, broken.hand, api.org, api.secrets)
        is_problem(await cancelled(half, session_id, "c-6"), 503, "engine_unavailable")
    answer = await cancelled(api, session_id, "c-6")
    assert answer.status_code == 202
    assert "idempotency-replayed" not in answer.headers


async def test_a_message_is_not_said_twice(api: Api, database: Database, hot: Hot) -> None:
    """A message whose first attempt ended in a 503, and one whose answer was lost with its process, are one message each."""
    session_id = await api.start(mode="chat")
    url, body = f"/v1/agents/{session_id}/messages", {"content": "And in euros?"}
    async with serving(database, await nowhere(), hot) as broken:
        half = Api(broken.http, broken.deps, broken.hand, api.org, api.secrets)
        is_problem(await half.post(url, body, **keyed("m-1")), 503, "engine_unavailable")
    first = await api.post(url, body, **keyed("m-1"))
    assert first.status_code == 202, first.text
    async with api.deps.database.connection() as connection:
        await connection.execute(
            "UPDATE conductor.idempotency SET status = NULL, leased_until = clock_timestamp() WHERE key = 'm-1'"
        )
    again = await api.post(url, body, **keyed("m-1"))
    assert (again.status_code, again.json()) == (202, first.json())
    said = [message["content"] for message in (await api.get(f"/v1/agents/{session_id}")).json()["messages"]]
    assert said == ["Say hello.", "And in euros?"]
    assert (await api.post(url, body, **keyed("m-2"))).json()["message_id"] != first.json()["message_id"]


async def test_keys_end_after_a_day(api: Api) -> None:
    """Then the key stands for nothing, and another body may come under it."""
    session_id = await api.start()
    await cancelled(api, session_id, "c-7")
    async with api.deps.database.connection() as connection:
        await connection.execute(
            "UPDATE conductor.idempotency SET created_at = created_at - interval '25 hours' WHERE org_id = $1", api.org
        )
    answer = await cancelled(api, session_id, "c-7", reason="another")
    assert answer.status_code == 202
    assert "idempotency-replayed" not in answer.headers
    [row] = [row for row in await kept(api) if row["key"] == "c-7"]
    is_problem(await cancelled(api, session_id, "c-7"), 422, "idempotency_mismatch")
    await api.deps.sessions.forget_keys()
    assert row["key"] in [row["key"] for row in await kept(api)]


@pytest.mark.parametrize("key", ["", "k" * 256, "with space", "ünï".encode()])
async def test_what_is_no_key(api: Api, key: str | bytes) -> None:
    """It is refused and nothing is carried out."""
    session_id = await api.start()
    answer = await api.post(f"/v1/agents/{session_id}/cancel", {}, headers={HEADER: key})
    is_problem(answer, 422, "invalid_request")
    assert (await api.get(f"/v1/agents/{session_id}")).json()["phase"] != "cancelling"


async def test_two_keys_are_none(api: Api) -> None:
    """Which of them would count is anybody's guess, so neither does."""
    session_id = await api.start()
    headers = [(HEADER, "one"), (HEADER, "two"), *api.as_(Role.ADMIN).items()]
    for url, body in ((f"/v1/agents/{session_id}/cancel", {}), ("/v1/agents/run", HELLO)):
        answer = await api.http.post(url, json=body, headers=headers)
        is_problem(answer, 400, "invalid_request")
    assert (await api.get(f"/v1/agents/{session_id}")).json()["phase"] != "cancelling"


async def test_odd_addresses_under_a_key(api: Api) -> None:
    """Addresses that no index or text of Postgres takes are a 404 like any other."""
    for part in ("x" * 5000, "%00", "a%ED%A0%80", "%F0%9F%98%80"):
        answer = await api.post(f"/v1/agents/{part}/cancel", {}, **keyed("c-8"))
        assert answer.status_code in (404, 414), answer.text
    assert [row for row in await kept(api) if row["key"] == "c-8"] == []


class Made(BaseModel):
    """An answer that is a model and no response."""

    count: int


@asynccontextmanager
async def with_routes(api: Api, router: APIRouter) -> AsyncIterator[Api]:
    """The app with further routes, as another module would bring them."""
    app = create_app(api.deps)
    install(router)
    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        yield Api(http, api.deps, api.hand, api.org, api.secrets)


async def test_a_secret_is_shown_once(api: Api) -> None:
    """What a response shows the one time that it is made is not kept: a repeat has the answer without it."""
    router = APIRouter()

    @router.post("/v1/things", status_code=201)
    async def make(_caller: AnyRole) -> Response:
        body = '{"id":"key_1","secret":"ck_' + "s3cr3t-_" * 5 + '","hook":"whsec_' + "QUJD+/8=" * 4 + '"}'
        return Response(body, 201, media_type="application/json")

    async with with_routes(api, router) as more:
        first = await more.post("/v1/things", {}, **keyed("s-1"))
        again = await more.post("/v1/things", {}, **keyed("s-1"))
    assert "s3cr3t" in first.text
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert again.json() == {"id": "key_1", "secret": "(shown once)", "hook": "(shown once)"}
    rows = await kept(api)
    assert b"key_1" in b"".join(row["body"] or b"" for row in rows)
    assert "s3cr3t" not in repr(rows)
    assert "QUJD" not in repr(rows)


async def test_any_kind_of_endpoint(api: Api) -> None:
    """A PATCH that returns a model, and reads no body, is kept like any other; a different body is noticed all the same."""
    router = APIRouter()
    done: list[int] = []

    @router.patch("/v1/things/{thing_id}")
    async def change(_caller: AnyRole, thing_id: int) -> Made:
        done.append(thing_id)
        return Made(count=len(done))

    async with with_routes(api, router) as more:

        async def patch(thing: int, content: bytes = b"") -> httpx.Response:
            headers = {**more.as_(Role.ADMIN), HEADER: "p-1"}
            return await more.http.patch(f"/v1/things/{thing}", content=content, headers=headers)

        answers = [await patch(1), await patch(1), await patch(2)]
        assert [answer.json() for answer in answers] == [{"count": 1}, {"count": 1}, {"count": 2}]
        is_problem(await patch(1, b"other"), 422, "idempotency_mismatch")
    assert done == [1, 2]


async def test_a_fault_is_tried_again(api: Api) -> None:
    """An endpoint that met a fault of its own is run again under the same key, and knows the request by its token."""
    router = APIRouter()
    tokens: list[str] = []

    @router.post("/v1/faulty")
    async def faulty(_caller: AnyRole, request: Request) -> Made:
        tokens.append(id_of(request, "x"))
        if len(tokens) == 1:
            raise RuntimeError("a fault")
        return Made(count=len(tokens))

    async with with_routes(api, router) as more:
        is_problem(await more.post("/v1/faulty", {}, **keyed("f-1")), 500, "internal")
        assert (await more.post("/v1/faulty", {}, **keyed("f-1"))).json() == {"count": 2}
    assert tokens[0] == tokens[1]


async def test_a_long_request_keeps_its_lease(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as its process lives, nobody else carries a request out, however long it takes."""
    for place in ("api.idempotency", "conductor_ai.stores.idempotency"):
        monkeypatch.setattr(f"{place}.LEASE_SECONDS", 0.3)
    router, go_on = APIRouter(), asyncio.Event()
    runs: list[int] = []

    @router.post("/v1/long")
    async def long(_caller: AnyRole) -> Made:
        runs.append(1)
        await go_on.wait()
        return Made(count=1)

    async with with_routes(api, router) as more:
        first = asyncio.create_task(more.post("/v1/long", {}, **keyed("l-1")))

        async def leased() -> Any:
            return [row["leased_until"] for row in await kept(api) if row["key"] == "l-1"]

        async def begun() -> bool:
            return bool(runs)

        await wait_until(begun, "the request to be carried out")
        before = await leased()

        async def renewed_often() -> bool:
            return bool(((await leased())[0] - before[0]).total_seconds() > 0.6)

        await wait_until(renewed_often, "the lease to be renewed past its first end")
        is_problem(await more.post("/v1/long", {}, **keyed("l-1")), 409, "idempotency_in_flight")
        go_on.set()
        assert (await first).json() == {"count": 1}
    assert runs == [1]
