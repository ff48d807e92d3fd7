"""Deleting a session: everywhere or nowhere, once, and only what has ended."""

import asyncio
from typing import Any

import httpx
import pytest
import redis.asyncio

from conductor_ai.names import new_id
from conductor_ai.stores.access import Role
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.idempotency import Answer, Claimed, KeyedRequest
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.tools import Tools
from conductor_ai.temporal import Engine
from tests.fixtures_api import PUBLISHED, Api, is_problem, serving
from tests.fixtures_servers import wait_until

CANARY = "canary-5f1c"


async def deleted(api: Api, session_id: str, role: Role = Role.ADMIN) -> httpx.Response:
    """Ask to delete a session."""
    return await api.http.delete(f"/v1/agents/{session_id}", headers=api.as_(role))


async def eventful(api: Api) -> tuple[str, str]:
    """A session that has left something in every table, ended; and its approval's id."""
    session_id = await api.start(title=CANARY, metadata={"who": CANARY}, messages=[{"role": "user", "content": CANARY}])
    approval = await api.hand.ask(session_id)
    await api.decide(approval, "deny", comment=CANARY, headers={"Idempotency-Key": new_id("x")})
    await api.deps.hot.delta(api.org, session_id, 1, 1, CANARY)
    await api.hand.step(session_id, text=CANARY)
    await api.hand.finish(session_id)
    assert CANARY in (await api.get(f"/v1/agents/{session_id}")).text
    return session_id, approval["id"]


async def everything(database: Database) -> dict[str, str]:
    """All rows of the schema, as text."""
    async with database.connection() as connection:
        tables = [
            row["name"]
            for row in await connection.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'conductor'")
        ]
        found: dict[str, str] = {}
        for table in tables:
            rows: Any = await connection.fetch(f"SELECT to_jsonb(t)::text AS row FROM conductor.{table} t")
            found[table] = "\n".join(row["row"] for row in rows)
    return found


async def test_nothing_is_left(api: Api, database: Database, redis_url: str) -> None:
    """No row of any table and no key of Redis has anything of it, but the audit has its tombstone; its ids are 404s."""
    session_id, approval_id = await eventful(api)
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        await api.deps.copies.close()
        assert (await deleted(api, session_id)).status_code == 204
        left = await everything(database)
        tombstone = left.pop("audit")
        assert session_id in tombstone
        assert "admin of " in tombstone
        assert CANARY not in tombstone
        for text in (CANARY, CANARY.encode().hex(), session_id, approval_id):
            assert [table for table, rows in left.items() if text in rows] == []
        for key in [key async for key in client.scan_iter(f"conductor:{api.org}:*")]:
            if await client.type(key) == "hash":
                assert CANARY not in str(await client.hgetall(key))
            else:
                assert CANARY not in str(await client.xrange(key))
    for url in ("", "/events", "/steps", "/stream", "/explain"):
        is_problem(await api.get(f"/v1/agents/{session_id}{url}"), 404, "not_found")
    is_problem(await api.get(f"/v1/approvals/{approval_id}"), 404, "not_found")
    is_problem(await api.post(f"/v1/agents/{session_id}/cancel"), 404, "not_found")
    assert (await api.get("/v1/agents")).json()["data"] == []


async def test_the_process_forgets_it_too(api: Api) -> None:
    """What was kept to answer the next poll is gone with the session."""
    session_id, _ = await eventful(api)
    kept = api.deps.reader._documents._kept
    assert CANARY.encode() in kept[api.org, session_id][1].json
    assert (await deleted(api, session_id)).status_code == 204
    assert (api.org, session_id) not in kept


async def test_again_and_by_others(api: Api) -> None:
    """The same request again is 204 and changes nothing; another organisation's is the 404 of an id that never was, before
    and after; other roles may not."""
    session_id, _ = await eventful(api)
    other = await api.other()
    for role in (Role.VIEWER, Role.OPERATOR, Role.APPROVER):
        is_problem(await deleted(api, session_id, role), 403, "forbidden")
    is_problem(await deleted(other, session_id), 404, "not_found")
    assert [(await deleted(api, session_id)).status_code for _ in range(3)] == [204, 204, 204]
    is_problem(await deleted(other, session_id), 404, "not_found")
    is_problem(await deleted(api, new_id("sess")), 404, "not_found")
    async with api.deps.database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM conductor.audit WHERE subject = $1", session_id) == 1


async def test_only_what_has_ended(api: Api) -> None:
    """A session that goes on is 409, and goes on."""
    session_id = await api.start()
    is_problem(await deleted(api, session_id), 409, "session_open")
    assert (await api.get(f"/v1/agents/{session_id}")).status_code == 200


async def test_a_reader_cannot_put_it_back(api: Api, hot: Hot) -> None:
    """Who built the session just before it was deleted leaves no copy behind."""
    session_id, _ = await eventful(api)
    view = await api.deps.snapshots.build(api.org, session_id)
    assert view is not None
    assert (await deleted(api, session_id)).status_code == 204
    await hot.put(api.org, view)
    assert await hot.get(api.org, session_id) is None


async def test_redis_away(database: Database, standing_in: Engine) -> None:
    """What Redis may still have is not told to be deleted: 503, and all of it is still there. Without any Redis it goes."""
    await Tools(database).publish("main", PUBLISHED)
    async with serving(database, standing_in, Hot(None)) as api:
        session_id = await api.start()
        await api.hand.step(session_id, text="Done.")
        await api.hand.finish(session_id)
        away = Hot("redis://127.0.0.1:9")
        async with serving(database, standing_in, away) as half:
            half.secrets, half.org = api.secrets, api.org
            is_problem(await deleted(half, session_id), 503, "store_unavailable")
        await away.close()
        assert (await api.get(f"/v1/agents/{session_id}/events")).json()["data"]
        assert (await deleted(api, session_id)).status_code == 204


async def test_kept_answers_of_batches_go_too(api: Api, database: Database) -> None:
    """The answer that is kept for a repeated batch shows calls of whichever sessions it was about: it goes with any of them."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    item = {"approval_id": approval["id"], "decision": "deny", "arguments_sha256": approval["arguments_sha256"]}
    headers = {"Idempotency-Key": new_id("x")}
    answer = await api.post("/v1/approvals/decisions", {"decisions": [{**item, "comment": CANARY}]}, headers=headers)
    assert CANARY in answer.text
    await api.hand.finish(session_id)
    assert (await deleted(api, session_id)).status_code == 204
    kept = (await everything(database))["idempotency"]
    assert [text for text in ("said here", session_id, approval["id"]) if text.encode().hex() in kept] == []


def deleted_meanwhile(api: Api, session_id: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the session deleted just before an answer is kept. Returns what keeps answers otherwise."""
    keep = api.deps.answers.keep

    async def keep_late(*given: Any) -> None:
        await api.hand.finish(session_id)
        assert (await deleted(api, session_id)).status_code == 204
        await keep(*given)

    monkeypatch.setattr(api.deps.answers, "keep", keep_late)
    return keep


async def test_an_answer_under_way_is_not_kept(api: Api, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that has its answer when a session of it is deleted keeps nothing of it; a repeat is carried out again."""
    session_id, other = await api.start(), await api.start()
    approvals = [await api.hand.ask(each) for each in (session_id, other)]
    items = [
        {"approval_id": each["id"], "decision": "deny", "arguments_sha256": each["arguments_sha256"], "comment": "why"}
        for each in approvals
    ]
    headers = {"Idempotency-Key": new_id("x")}
    keep = deleted_meanwhile(api, session_id, monkeypatch)
    first = await api.post("/v1/approvals/decisions", {"decisions": items}, headers=headers)
    monkeypatch.setattr(api.deps.answers, "keep", keep)
    assert [each["status"] for each in first.json()["results"]] == [200, 200]
    kept = (await everything(database))["idempotency"]
    assert [text for text in (session_id, approvals[0]["id"], "why") if text.encode().hex() in kept] == []

    again = await api.post("/v1/approvals/decisions", {"decisions": items}, headers=headers)
    assert "idempotency-replayed" not in again.headers
    assert [each["status"] for each in again.json()["results"]] == [404, 200]
    replayed = await api.post("/v1/approvals/decisions", {"decisions": items}, headers=headers)
    assert (replayed.headers["idempotency-replayed"], replayed.content) == ("true", again.content)


async def test_a_refused_decision_under_way_is_not_kept(
    api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused item of a batch says who had decided, and does not name its session, which is deleted meanwhile: nothing of it is
    kept. What a repeat then keeps is the id that it was sent, and that there is nothing of that id."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    await api.decide(approval)
    item = {"approval_id": approval["id"], "decision": "deny", "arguments_sha256": approval["arguments_sha256"]}
    headers = {"Idempotency-Key": new_id("x")}
    keep = deleted_meanwhile(api, session_id, monkeypatch)
    first = await api.post("/v1/approvals/decisions", {"decisions": [item]}, headers=headers)
    monkeypatch.setattr(api.deps.answers, "keep", keep)
    [refused] = first.json()["results"]
    assert (refused["code"], "approved by" in refused["detail"], session_id in first.text) == (
        "already_decided",
        True,
        False,
    )
    assert approval["id"].encode().hex() not in (await everything(database))["idempotency"]
    again = await api.post("/v1/approvals/decisions", {"decisions": [item]}, headers=headers)
    [gone] = again.json()["results"]
    assert (gone["code"], gone["detail"]) == ("not_found", "There is no such approval.")


async def test_an_answer_waits_for_a_deletion(api: Api, database: Database) -> None:
    """What is to be kept while a session of it is being deleted waits for that, and is then not kept."""
    session_id = await api.start()
    await api.hand.finish(session_id)
    request = KeyedRequest(api.org, "POST /v1/approvals/decisions", new_id("x"), "")
    claimed = await api.deps.answers.claim(request)
    assert isinstance(claimed, Claimed)
    keeping: list[asyncio.Task[None]] = []

    async def keep_meanwhile() -> bool:
        answer = Answer(200, {}, f"about {session_id}".encode())
        keeping.append(asyncio.create_task(api.deps.answers.keep(request, claimed, answer)))

        async def waits_or_done() -> bool:
            async with database.connection() as connection:
                waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
                return keeping[0].done() or bool(await connection.fetchval(waits))

        await wait_until(waits_or_done, "the answer to be kept, or to wait")
        return True

    await api.deps.erasing.erase(api.org, session_id, by="a test", copies=keep_meanwhile)
    await keeping[0]
    assert session_id.encode().hex() not in (await everything(database))["idempotency"]


async def test_the_organisations_grants_outlive_it(api: Api, database: Database) -> None:
    """What was granted for every session holds on, listed and revocable, with what it fixes and without what it leaves free;
    what was granted for this session alone is gone."""
    session_id = await api.start()
    remembered = {
        "SELECT $1": {"match": "template", "free": ["params"], "scope": "org"},
        "SELECT $1::text": {"scope": "session"},
    }
    for query, remember in remembered.items():
        approval = await api.hand.ask(session_id, arguments={"query": query, "params": ["said here"]})
        assert (await api.decide(approval, remember=remember)).status_code == 200
    await api.hand.finish(session_id)
    before = {grant["scope"]: grant for grant in (await api.get("/v1/grants")).json()["data"]}
    assert set(before) == {"org", "session"}
    assert (await deleted(api, session_id)).status_code == 204

    [grant] = (await api.get("/v1/grants")).json()["data"]
    assert grant == before["org"] | {"approval_id": None, "arguments": {"query": "SELECT $1"}}
    left = await everything(database)
    assert [text for text in (CANARY, session_id, before["org"]["approval_id"]) if text in left["grants"]] == []
    like_it = await api.hand.ask(await api.start(), arguments={"query": "SELECT $1", "params": ["another"]})
    assert (await api.get(f"/v1/approvals/{like_it['id']}")).json()["status"] == "approved"
    revoked = await api.http.delete(f"/v1/grants/{grant['id']}", headers=api.as_(Role.ADMIN))
    assert revoked.json()["revoked_at"] is not None
    is_problem(await api.get(f"/v1/grants/{before['session']['id']}"), 404, "not_found")
