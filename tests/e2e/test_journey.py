"""The main journey over HTTP against `conductor dev`: start, poll, approve, deny, cancel, look."""

import asyncio
import json
import re
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from tests.fixtures_dev import Dev

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

UPDATE = {
    "query": "UPDATE products SET stock = stock + 1 WHERE sku = $1",
    "params": ["COF-004"],
}


def call(tool: str, arguments: dict[str, Any]) -> str:
    """A directive of the demo model."""
    return f"demo: call {tool} {json.dumps(arguments)}"


async def stock(dev: Dev, sku: str = "COF-004") -> int:
    """What the shop has of a product."""
    connection = await asyncpg.connect(dev.runtime.sql_url)
    try:
        return int(await connection.fetchval("SELECT stock FROM products WHERE sku = $1", sku))
    finally:
        await connection.close()


async def test_all_three_tools(dev: Dev) -> None:
    """Page, code and SQL in one session; the write that is approved happens once, what was shown is what happened."""
    before = await stock(dev)
    session_id = await dev.run(
        call("web_fetch", {"url": dev.runtime.page_url}),
        call("code_run", {"code": "print(6 * 7)", "language": "python"}),
        call("sql_query", UPDATE),
        "demo: say All done.",
    )
    approval = await dev.pending(session_id)
    assert approval["execution"]["state"] == "not_started"
    assert any("1 updated" in line["value"] for line in approval["evidence"]), approval["evidence"]
    assert await stock(dev) == before, "the trial run for the person who decides was rolled back"
    answered = await dev.decide(approval, "approve", comment="go on")
    assert answered.status_code == 200, answered.text
    session = await dev.ended(session_id)
    assert session["status"] == "completed", session["error"]
    assert [s["actions"][0]["status"] for s in session["steps"][:3]] == ["succeeded"] * 3
    assert "price note" in session["steps"][0]["observation"]
    assert session["steps"][1]["observation"].strip() == "42"
    assert await stock(dev) == before + 1
    again = await dev.decide(approval, "approve")
    assert again.status_code == 200
    contrary = await dev.decide(approval, "deny")
    assert (contrary.status_code, contrary.json()["code"]) == (409, "already_decided")


async def test_a_wrong_digest_decides_nothing(dev: Dev) -> None:
    """A decision that names other arguments than those shown is 412; a denied write never happens."""
    before = await stock(dev)
    session_id = await dev.run(call("sql_query", UPDATE), "demo: say No.")
    approval = await dev.pending(session_id)
    wrong = await dev.decide({**approval, "arguments_sha256": "0" * 64}, "approve")
    assert (wrong.status_code, wrong.json()["code"]) == (412, "digest_mismatch")
    assert (await dev.decide(approval, "deny", comment="not today")).status_code == 200
    session = await dev.ended(session_id)
    assert "not today" in session["steps"][0]["observation"]
    assert await stock(dev) == before


async def test_decide_by_the_command_line_and_by_temporal(dev: Dev) -> None:
    """`conductor approvals approve` and `temporal workflow signal` decide too; the latter is recorded as unverified."""
    session_id = await dev.run(
        call("sql_query", {"query": "SELECT 1"}), call("sql_query", {"query": "SELECT 2"}), "demo: say ok"
    )
    first = await dev.pending(session_id)
    code, output = await dev.conductor("approvals", "approve", first["id"])
    assert code == 0, output
    second = (
        await dev.until(session_id, lambda s: any(a["id"] != first["id"] for a in s["pending_approvals"]), "the second")
    )["pending_approvals"][0]
    body = {"call_id": second["call_id"], "decision": "approve", "arguments_sha256": second["arguments_sha256"]}
    temporal = await asyncio.create_subprocess_exec(
        *(_temporal(), "workflow", "signal", "--address", dev.runtime.temporal_address),
        *("--workflow-id", session_id, "--name", "decide", "--input", json.dumps(body)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await temporal.wait() == 0
    assert (await dev.ended(session_id))["status"] == "completed"
    decided = (await dev.http.get(f"/v1/approvals/{second['id']}")).json()["decisions"]
    assert [(d["by"], d["verified"]) for d in decided] == [("temporal-access", False)]


def _temporal() -> str:
    from conductor_ai.embedded.temporal import program

    return str(program())


async def test_temporals_ui_shows_how_to_decide(dev: Dev) -> None:
    """The current details hold the SQL, and a signal input that, pasted as it is, approves the call."""
    from temporalio.api.sdk.v1 import WorkflowMetadata
    from temporalio.client import Client

    session_id = await dev.run("Look at the shop", call("sql_query", {"query": "SELECT 41 + 1"}), "demo: say ok")
    await dev.pending(session_id)
    client = await Client.connect(dev.runtime.temporal_address)
    handle = client.get_workflow_handle(session_id)
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    shown = metadata.current_details
    assert "SELECT 41 + 1" in shown
    pasted = next(
        json.loads(block) for block in re.findall(r"```\n(\{.*?\})\n```", shown, re.DOTALL) if "approve" in block
    )
    described = await handle.describe()
    assert described.static_summary is not None
    assert await described.static_summary() == "Look at the shop"
    assert {k: v[0] for k, v in described.search_attributes.items() if k.startswith("Conductor")} == {
        "ConductorOrg": "default",
        "ConductorStatus": "running",
        "ConductorModel": "demo",
        "ConductorNeedsApproval": True,
        "ConductorCostUsd": 0.0,
    }
    await handle.signal("decide", pasted)
    assert (await dev.ended(session_id))["status"] == "completed"


async def test_reads_survive_redis(dev: Dev) -> None:
    """`GET` answers the same after FLUSHALL, and every key in Redis has a time to live."""
    session_id = await dev.run("demo: say hello")
    before = await dev.ended(session_id)
    client = redis.asyncio.Redis.from_url(dev.runtime.redis_url)
    try:
        keys = [key async for key in client.scan_iter("*")]
        assert keys
        assert [key for key in keys if await client.ttl(key) < 0] == []
        await client.flushall()
        assert await dev.get(session_id) == before
    finally:
        await client.aclose()


async def test_cancel_in_every_state(dev: Dev) -> None:
    """Cancel during a model call, a sandbox, a query and a wait: cancelled, soon, and it never says completed."""
    sleeping = {"code": "import time; time.sleep(50)", "language": "python", "timeout": 55}
    scripts: dict[str, list[str]] = {
        "thinking": ["demo: slow 30", "demo: say too late"],
        "calling_tool": [call("code_run", sleeping), "demo: say too late"],
        "awaiting_approval": [call("sql_query", {"query": "SELECT 1"}), "demo: say too late"],
    }
    for phase, lines in scripts.items():
        session_id = await dev.run(*lines)
        await dev.until(session_id, lambda s, p=phase: s["phase"] == p, phase)  # type: ignore[misc]
        response = await dev.http.post(f"/v1/agents/{session_id}/cancel", json={"reason": "test"})
        assert response.status_code == 200, (phase, response.text)
        session = await dev.get(session_id)
        assert (session["status"], session["stop_reason"], session["final_answer"]) == ("cancelled", "cancelled", None)
        assert (await dev.http.post(f"/v1/agents/{session_id}/cancel")).status_code == 200


async def test_cancel_ends_the_query_on_the_server(dev: Dev) -> None:
    """Cancelling during an approved query takes it out of pg_stat_activity."""
    slow = {"query": "SELECT count(*) FROM generate_series(1, 4000000000) AS g WHERE g % 7 = 3"}
    session_id = await dev.run(call("sql_query", slow), "demo: say too late")
    await dev.decide(await dev.pending(session_id), "approve")
    connection = await asyncpg.connect(dev.runtime.sql_url)
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 4000000000)%' AND pid <> pg_backend_pid() AND state = 'active'"
    try:
        async with asyncio.timeout(20):
            while await connection.fetchval(running) == 0:
                await asyncio.sleep(0.05)
        response = await dev.http.post(f"/v1/agents/{session_id}/cancel")
        assert response.status_code == 200, response.text
        assert await connection.fetchval(running) == 0
    finally:
        await connection.close()
    assert (await dev.get(session_id))["status"] == "cancelled"


async def test_waiting_for_a_session_in_one_request(dev: Dev) -> None:
    """`?wait` on run answers with the ended session; a long poll answers as soon as something changed."""
    body = {"model": "demo", "messages": [{"role": "user", "content": "demo: say quick"}]}
    response = await dev.http.post("/v1/agents/run?wait=20", json=body)
    assert (response.status_code, response.json()["final_answer"]) == (200, "[demo model] quick")
    session_id = await dev.run(call("sql_query", {"query": "SELECT 1"}), "demo: say ok")
    approval = await dev.pending(session_id)
    version = (await dev.get(session_id))["version"]
    polling = asyncio.create_task(dev.http.get(f"/v1/agents/{session_id}?wait=30&since_version={version}"))
    await dev.decide(approval, "approve")
    answered = await asyncio.wait_for(polling, 10)
    assert answered.json()["version"] > version
    await dev.ended(session_id)
