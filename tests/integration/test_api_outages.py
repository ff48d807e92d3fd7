"""Dependencies that are dead, frozen or gone for a while: 503 within 5 s, reads from copies, and never a 500."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from conductor_ai.embedded.children import Child
from conductor_ai.names import new_id
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.tools import Tools
from conductor_ai.temporal import Engine
from tests.fixtures_api import HELLO, PUBLISHED, Api, is_problem, nowhere, serving
from tests.fixtures_servers import migrated_database, postgres_in, redis_in, temporal_in, wait_until

LIMIT_SECONDS = 5.0


@contextmanager
def frozen(child: Child | None) -> Iterator[None]:
    """A server that holds its connections and answers nothing."""
    assert child is not None
    members = _family(child.pid)
    for pid in members:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in members:
            os.kill(pid, signal.SIGCONT)


def _family(pid: int) -> list[int]:
    """A process and all that descend from it, the eldest first."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


@asynccontextmanager
async def quickly() -> AsyncIterator[None]:
    """What is inside takes no longer than a caller may have to wait."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < LIMIT_SECONDS


async def _all_routes(api: Api, session_id: str) -> list[Any]:
    """One request of each kind that needs Postgres and has no copy to fall back on."""
    decision = {"decision": "approve", "arguments_sha256": "0" * 64}
    requests = (
        api.get("/v1/agents"),
        api.get(f"/v1/agents/{new_id('sess')}"),
        api.get("/v1/tools"),
        api.get("/v1/approvals"),
        api.get(f"/v1/approvals/{new_id('appr')}"),
        api.post("/v1/agents/run", HELLO),
        api.post(f"/v1/agents/{session_id}/cancel"),
        api.post(f"/v1/approvals/{new_id('appr')}/decision", decision),
    )
    return await asyncio.gather(*(asyncio.wait_for(request, LIMIT_SECONDS) for request in requests))


@pytest.mark.parametrize("how", ["dead", "frozen"])
@pytest.mark.timeout(240)
async def test_postgres_away(how: str, standing_in: Engine, redis_url: str, tmp_path: Path) -> None:
    """Reads come from copies, marked, unless the caller has seen newer; all else is 503; afterwards all is as before."""
    hot = Hot(redis_url)
    async with postgres_in(tmp_path) as server:
        database = Database(await migrated_database(server), size=4)
        await Tools(database).publish("main", PUBLISHED)
        async with serving(database, standing_in, hot) as api:
            session_id = await api.start()
            approval = await api.hand.ask(session_id)
            version = (await api.get(f"/v1/agents/{session_id}")).json()["version"]
            other = await api.other()
            await other.get("/v1/tools")  # its key is remembered, too

            async def copied() -> bool:
                copy = await hot.get(api.org, session_id)
                return copy is not None and copy.version == version

            await wait_until(copied, "the copy")
            if how == "dead":  # a throwaway server that is stopped takes its data with it, so it does not come back
                await server.stop()
                await _without_postgres(api, other, session_id, version)
            else:
                with frozen(server.child):
                    await _without_postgres(api, other, session_id, version)

                async def back() -> bool:
                    answer = await api.get(f"/v1/agents/{session_id}")
                    return answer.status_code == 200 and not answer.json()["degraded"]

                await wait_until(back, "the database to be back")
                assert (await api.decide(approval)).status_code == 200
        await database.close()
    await hot.close()


async def _without_postgres(api: Api, other: Api, session_id: str, version: int) -> None:
    url = f"/v1/agents/{session_id}"
    async with quickly():
        answer = await api.get(url)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["degraded"], body["version"], body["phase"]) == (True, version, "awaiting_approval")
    assert "etag" not in answer.headers
    same = await api.get(url, headers={"If-None-Match": f'"{version}"'})
    assert (same.status_code, same.json()["degraded"]) == (200, True)
    async with quickly():
        waited = await api.get(f"{url}?wait=30&since_version={version}")
    assert waited.json()["degraded"] is True
    async with quickly():
        answers = await asyncio.gather(
            api.get(f"{url}?since_version={version + 1}"),
            api.get(url, headers={"If-None-Match": f'"{version + 1}"'}),
            other.get(url),
        )
    for answer in answers:
        is_problem(answer, 503, "store_unavailable")
    for answer in await _all_routes(api, session_id):
        assert answer.json()["code"] in ("store_unavailable", "engine_unavailable")
        is_problem(answer, 503, answer.json()["code"])
        assert int(answer.headers["retry-after"]) > 0
    async with quickly():
        is_problem(await api.http.get("/readyz"), 503, "store_unavailable")
    assert (await api.http.get("/health")).json()["status"] == "healthy"
    assert (await api.http.get("/livez")).status_code == 200
    async with quickly():  # a key that nobody remembers cannot be looked up
        unknown = await api.http.get("/v1/tools", headers={"X-API-Key": "ck_" + "u" * 43})
    is_problem(unknown, 503, "store_unavailable")


@pytest.mark.parametrize("how", ["dead", "frozen"])
async def test_redis_away(how: str, database: Database, standing_in: Engine, tmp_path: Path) -> None:
    """Everything works, only slower; waits end by looking; when Redis is back, copies and rings are."""
    await Tools(database).publish("main", PUBLISHED)
    async with redis_in(tmp_path) as redis:
        hot = Hot(redis.url)
        async with serving(database, standing_in, hot) as api:
            session_id = await api.start()
            await api.get(f"/v1/agents/{session_id}")
            if how == "dead":
                await redis.stop()
                await _without_redis(api, session_id)
                await redis.start()
            else:
                with frozen(redis.child):
                    await _without_redis(api, session_id)

            async def rings() -> bool:
                version: int = (await api.get(f"/v1/agents/{session_id}")).json()["version"]
                with api.deps.rings.listening(session_id) as bell:
                    await api.hand.step(session_id, text="Hm.")
                    try:
                        async with asyncio.timeout(0.5):
                            await bell._rung.wait()
                    except TimeoutError:
                        return False
                now: int = (await api.get(f"/v1/agents/{session_id}")).json()["version"]
                return now > version

            await wait_until(rings, "the rings to be back", 15)
        await hot.close()


async def _without_redis(api: Api, session_id: str) -> None:
    async with quickly():
        body = (await api.get(f"/v1/agents/{session_id}")).json()
    assert body["degraded"] is False
    async with quickly():
        assert (await api.http.get("/readyz")).json()["status"] == "degraded"
    async with quickly():
        assert (await api.post("/v1/agents/run", HELLO)).status_code == 202
    waiting = asyncio.create_task(api.get(f"/v1/agents/{session_id}?wait=30&since_version={body['version']}"))
    await asyncio.sleep(0)
    await api.hand.step(session_id, text="Hm.")
    began = time.monotonic()
    assert (await waiting).json()["version"] > body["version"]
    assert time.monotonic() - began < LIMIT_SECONDS


@pytest.mark.parametrize("how", ["dead", "frozen"])
async def test_temporal_away(how: str, database: Database, hot: Hot, tmp_path: Path) -> None:
    """Reads work; a start is 503 and starts nothing until it is sent again; a cancel is kept; a decision is 503."""
    await Tools(database).publish("main", PUBLISHED)
    async with temporal_in(tmp_path) as server:
        client = await Client.connect(server.address, data_converter=pydantic_data_converter)
        async with serving(database, Engine(client, new_id("queue")), hot) as api:
            session_id, second = await api.start(), await api.start()
            approval = await api.hand.ask(session_id)
            if how == "dead":
                await server.stop()
                await _without_temporal(api, session_id, second, approval)
            else:
                with frozen(server.child):
                    await _without_temporal(api, session_id, second, approval)
                again = await api.post("/v1/agents/run", HELLO, headers={"Idempotency-Key": "away"})
                assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
                assert await api.deps.engine.current_run(again.json()["session_id"])


async def _without_temporal(api: Api, session_id: str, second: str, approval: dict[str, Any]) -> None:
    for url in (f"/v1/agents/{session_id}", "/v1/agents", "/v1/approvals", "/v1/tools", "/v1/models"):
        async with quickly():
            assert (await api.get(url)).status_code == 200
    async with quickly():
        started = await api.post("/v1/agents/run", HELLO, headers={"Idempotency-Key": "away"})
    is_problem(started, 503, "engine_unavailable")
    assert int(started.headers["retry-after"]) > 0
    async with quickly():
        cancelled = await api.post(f"/v1/agents/{second}/cancel")
    is_problem(cancelled, 503, "engine_unavailable")
    assert (await api.get(f"/v1/agents/{second}")).json()["phase"] == "cancelling"
    async with quickly():
        decided = await api.decide(approval)
    is_problem(decided, 503, "engine_unavailable")
    assert (await api.get(f"/v1/approvals/{approval['id']}")).json()["status"] == "pending"
    async with quickly():
        is_problem(await api.http.get("/readyz"), 503, "engine_unavailable")


async def test_an_api_starts_without_temporal(database: Database, hot: Hot) -> None:
    """Nothing has to be there for the process to start and to serve what it can."""
    await Tools(database).publish("main", PUBLISHED)
    async with serving(database, await nowhere(), hot) as api:
        assert (await api.get("/v1/tools")).status_code == 200
        is_problem(await api.post("/v1/agents/run", HELLO), 503, "engine_unavailable")


async def test_a_copy_that_is_older_is_not_believed(api: Api) -> None:
    """Redis holds an older version than Postgres: the answer comes from the rows, and fills the copy."""
    session_id = await api.start()
    old = await api.deps.snapshots.build(api.org, session_id)
    assert old is not None
    await api.hand.step(session_id, text="Hm.")
    await api.deps.copies.close()
    await api.deps.hot._redis.delete(f"conductor:{api.org}:snapshot:{session_id}")
    await api.deps.hot.put(api.org, old)
    body = (await api.get(f"/v1/agents/{session_id}")).json()
    assert body["version"] > old.version
    assert len(body["steps"]) == 1

    async def filled() -> bool:
        copy = await api.deps.hot.get(api.org, session_id)
        return copy is not None and copy.version == body["version"]

    await wait_until(filled, "the copy")


async def test_a_copy_that_is_not_older_is_used(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a good copy only the version is asked of Postgres; the rows are not read."""
    session_id = await api.start()
    first = (await api.get(f"/v1/agents/{session_id}")).json()

    async def copied() -> bool:
        return await api.deps.hot.get(api.org, session_id) is not None

    await wait_until(copied, "the copy")

    async def never(*_: object) -> None:
        raise AssertionError("the rows were read")

    monkeypatch.setattr(api.deps.snapshots, "build", never)
    assert (await api.get(f"/v1/agents/{session_id}")).json() == first
