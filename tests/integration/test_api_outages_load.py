"""Each dependency stopped in turn while many callers go on: every documented route answers as it promises, and in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from conductor_ai.embedded.children import Child
from conductor_ai.names import new_id
from conductor_ai.stores.access import Role
from conductor_ai.stores.hot import Hot
from conductor_ai.stores.postgres import Database
from conductor_ai.stores.tools import Tools
from conductor_ai.temporal import Engine
from tests.fixtures_api import PUBLISHED, Api, StandIn, example_body, routes, serving
from tests.fixtures_servers import migrated_database, postgres_in, redis_in, temporal_in, wait_until
from tests.integration.test_api_outages import LIMIT_SECONDS, frozen

CALLERS = 6
SLACK_SECONDS = 1.5
"""What this machine adds, which runs callers, server and stores on the same few cores."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Said:
    """One answer."""

    method: str
    path: str
    status: int
    retry_after: str | None
    seconds: float
    text: str


@asynccontextmanager
async def whole(folder: Path) -> AsyncIterator[tuple[Api, dict[str, Child | None]]]:
    """The API with servers of its own, so that they can be stopped."""
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(postgres_in(folder))
        redis = await stack.enter_async_context(redis_in(folder))
        temporal = await stack.enter_async_context(temporal_in(folder))
        client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
        queue = new_id("queue")
        worker = Worker(client, task_queue=queue, workflows=[StandIn], workflow_runner=UnsandboxedWorkflowRunner())
        await stack.enter_async_context(worker)
        database = Database(await migrated_database(postgres), size=8)
        await Tools(database).publish("main", PUBLISHED)
        hot = Hot(redis.url)
        stack.push_async_callback(hot.close)
        api = await stack.enter_async_context(serving(database, Engine(client, queue), hot, rate_limit=0))
        yield api, {"postgres": postgres.child, "redis": redis.child, "temporal": temporal.child}


async def one(api: Api, method: str, url: str, path: str, body: str) -> Said:
    """Ask once."""
    headers = {**api.as_(Role.ADMIN), "Content-Type": "application/json"}
    began = time.monotonic()
    answer: httpx.Response = await api.http.request(method, url, content=body, headers=headers)
    waited = time.monotonic() - began
    return Said(method, path, answer.status_code, answer.headers.get("retry-after"), waited, answer.text[:300])


async def everything(api: Api) -> list[Said]:
    """Every documented route but the stream, by several callers at once, each from another place of the list on."""
    session_id, ended = await api.start(), await api.start()
    approval = await api.hand.ask(session_id)
    ids = {
        "session_id": session_id,
        "approval_id": approval["id"],
        "step_id": "1",
        "grant_id": new_id("grant"),
        "key_id": new_id("key"),
        "name": "web_fetch",
        "model_id": "demo",
    }
    wanted = [
        (method, path.format(**(ids | ({"session_id": ended} if method == "DELETE" or "cancel" in path else {}))), path)
        for method, path in await routes(api)
        if not path.endswith("/stream")
    ]
    bodies = {(method, path): await example_body(api, method, path) for method, _, path in wanted}

    async def caller(number: int) -> list[Said]:
        turned = wanted[number * 5 % len(wanted) :] + wanted[: number * 5 % len(wanted)]
        return [await one(api, method, url, path, bodies[method, path]) for method, url, path in turned]

    async def go() -> list[Said]:
        return [said for found in await asyncio.gather(*(caller(n) for n in range(CALLERS))) for said in found]

    return await go()


@pytest.mark.parametrize("away", ["postgres", "redis", "temporal"])
async def test_every_route_while_one_is_away(away: str, tmp_path: Path) -> None:
    """Never a 5xx but 503, with when to try again, and never a wait over 5 s. Redis is never needed; reads need no Temporal."""
    async with whole(tmp_path) as (api, servers):
        session_id = await api.start()
        calls = asyncio.create_task(_under(api, servers[away]))
        found = await calls

        async def back() -> bool:
            answer = await api.get(f"/v1/agents/{session_id}")
            return answer.status_code == 200 and not answer.json()["degraded"]

        await wait_until(back, f"{away} to be back", 30)
        started = await api.http.post(
            "/v1/agents/run", json={"messages": [{"role": "user", "content": "x"}]}, headers=api.as_(Role.ADMIN)
        )
    faults = [said for said in found if said.status >= 500 and (said.status != 503 or said.retry_after is None)]
    assert faults == []
    slow = [said for said in found if said.seconds > LIMIT_SECONDS + SLACK_SECONDS]
    assert slow == []
    refused = {(said.method, said.path) for said in found if said.status == 503}
    match away:
        case "redis":
            assert refused == set()
        case "temporal":
            assert ("POST", "/v1/agents/run") in refused
            assert not {path for method, path in refused if method == "GET"}
        case "postgres":
            assert ("GET", "/v1/agents") in refused
    assert started.status_code == 202


async def _under(api: Api, child: Child | None) -> list[Said]:
    """Begin with everything there, then go on without one of them."""
    prepared = asyncio.Event()
    asked = api.hand.ask

    async def ask(session_id: str, **more: object) -> dict[str, object]:
        made = await asked(session_id, **more)  # type: ignore[arg-type]
        prepared.set()
        return made

    api.hand.ask = ask  # type: ignore[method-assign]
    running = asyncio.create_task(everything(api))
    await prepared.wait()
    api.hand.ask = asked  # type: ignore[method-assign]
    with frozen(child):
        return await running
