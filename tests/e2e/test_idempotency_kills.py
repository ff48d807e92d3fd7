"""A hundred identical requests at once, while the API that takes them is killed: one effect and one body."""

import asyncio
import json
from typing import Any

import asyncpg
import httpx
import pytest
from temporalio.client import Client

from conductor_ai.names import new_id
from tests.fixtures_dev import Dev
from tests.fixtures_servers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

MANY = 100


async def until_answered(http: httpx.AsyncClient, url: str, body: Any, key: str, answers: list[httpx.Response]) -> None:
    """Send a request again and again, as a client does, until it is answered."""
    while True:
        try:
            answer = await http.post(url, json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if answer.status_code in (409, 429, 503) and "retry-after" in answer.headers:
            await asyncio.sleep(float(answer.headers["retry-after"]) / 4)
            continue
        answers.append(answer)
        return


async def hammer(dev: Dev, url: str, body: Any, *, kill_after: int) -> list[httpx.Response]:
    """The same request a hundred times at once; the API is killed when so many have been answered."""
    answers: list[httpx.Response] = []
    key = new_id("key")
    limits = httpx.Limits(max_connections=MANY)
    async with httpx.AsyncClient(
        base_url=dev.runtime.api_url, headers=dict(dev.http.headers), timeout=30, limits=limits, trust_env=False
    ) as http:
        sending = [asyncio.create_task(until_answered(http, url, body, key, answers)) for _ in range(MANY)]

        async def time_to_kill() -> bool:
            return len(answers) >= kill_after

        await wait_until(time_to_kill, f"{kill_after} answers", 30)
        assert kill_after == 0 or len(answers) < MANY, "so that the kill hits requests that are under way"
        pid = dev.kill("api")
        async with asyncio.timeout(60):
            await asyncio.gather(*sending)
        await dev.replaced("api", pid)
    assert len(answers) == MANY
    return answers


async def rows(dev: Dev, sql: str, *values: Any) -> list[asyncpg.Record]:
    """What the store says."""
    connection = await asyncpg.connect(dev.runtime.database_url)
    try:
        return list(await connection.fetch(sql, *values))
    finally:
        await connection.close()


@pytest.mark.parametrize("kill_after", [0, 1, 30])
async def test_a_hundred_starts(dev: Dev, kill_after: int) -> None:
    """One session, one workflow, one body, whenever the process dies."""
    title = f"many starts, killed after {kill_after}"
    body = {"model": "demo", "messages": [{"role": "user", "content": "demo: say ok"}], "title": title}
    answers = await hammer(dev, "/v1/agents/run", body, kill_after=kill_after)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    session_id = answers[0].json()["session_id"]
    assert [row["id"] for row in await rows(dev, "SELECT id FROM conductor.sessions WHERE title = $1", title)] == [
        session_id
    ]
    ended = await dev.ended(session_id)
    assert (ended["status"], ended["step_count"]) == ("completed", 1)
    client = await Client.connect(dev.runtime.temporal_address)
    history = await client.get_workflow_handle(session_id).fetch_history()
    assert sum(event.HasField("workflow_execution_started_event_attributes") for event in history.events) == 1
    known = {row["id"] for row in await rows(dev, "SELECT id FROM conductor.sessions")}
    assert {workflow.id async for workflow in client.list_workflows()} <= known, "no workflow without a session"


@pytest.mark.parametrize("kill_after", [0, 1, 30])
async def test_a_hundred_decisions(dev: Dev, kill_after: int) -> None:
    """One decision and one body: an answer is kept before anybody sees it, so no two can differ."""
    call = f"demo: call sql_query {json.dumps({'query': 'SELECT 1'})}"
    approval = await dev.pending(await dev.run(call, "demo: say ok"))
    body = {"decision": "approve", "arguments_sha256": approval["arguments_sha256"]}
    answers = await hammer(dev, f"/v1/approvals/{approval['id']}/decision", body, kill_after=kill_after)
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.content for answer in answers}) == 1
    decided = await rows(dev, "SELECT * FROM conductor.decisions WHERE call_id = $1", approval["call_id"])
    assert [row["counted"] for row in decided] == [True]
    assert (await dev.ended(approval["session_id"]))["status"] == "completed"
