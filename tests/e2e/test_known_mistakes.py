"""Mistakes that agent servers make, each by name, over HTTP against the whole stack. None of them is made here."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from conductor_ai.testing import Reply
from conductor_ai.testing.fake_anthropic import FakeAnthropic
from conductor_ai.testing.fake_openai import FakeOpenAI
from tests.fixtures_dev import Dev, dev_in, reachable_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

READ = {"query": "SELECT 1 AS one"}
CODE = {"code": "print('ran')", "language": "python"}


def call(tool: str, arguments: dict[str, Any]) -> str:
    """A directive of the demo model."""
    return f"demo: call {tool} {json.dumps(arguments)}"


@pytest.fixture(scope="module")
async def models(dev: Dev) -> AsyncIterator[tuple[Dev, FakeAnthropic, FakeOpenAI]]:
    """A stack with fakes of both kinds of provider."""
    with reachable_folder() as folder:
        async with FakeAnthropic() as claude, FakeOpenAI() as budget:
            settings = {
                "ANTHROPIC_API_KEY": "k",
                "ANTHROPIC_BASE_URL": claude.url,
                "CONDUCTOR_OPENAI_BASE_URL": budget.url + "/v1",
                "CONDUCTOR_OPENAI_API_KEY": "k",
            }
            async with dev_in(folder / "data", **settings) as stack:
                yield stack, claude, budget


async def test_tool_results_that_are_objects_kill_the_session(dev: Dev) -> None:
    """A result with structured data is stored and shown, and the session goes on."""
    session = await dev.ended(await dev.run(call("code_run", CODE), "demo: say ok"))
    action = session["steps"][0]["actions"][0]
    assert isinstance(action["data"], dict)
    assert isinstance(session["steps"][0]["observation"], str)
    assert session["status"] == "completed"


async def test_approval_advertised_and_not_enforced(dev: Dev) -> None:
    """Every tool that says it needs approval waits for it, and a call waits even when the workflow is told otherwise."""
    tools = {tool["name"]: tool for tool in (await dev.http.get("/v1/tools")).json()["tools"]}
    assert {name for name, tool in tools.items() if tool["requires_approval"]} == {"sql_query"}
    session_id = await dev.run(call("sql_query", READ), "demo: say ok")
    approval = await dev.pending(session_id)
    assert approval["execution"]["state"] == "not_started"
    await dev.decide(approval, "deny")
    assert (await dev.ended(session_id))["steps"][0]["actions"][0]["status"] == "denied"


async def test_a_tool_outside_of_the_allow_list_runs(dev: Dev) -> None:
    """A call to a tool that the session was not given is told to the model and never runs."""
    session = await dev.ended(await dev.run(call("code_run", CODE), "demo: say ok", tools=["web_fetch"]))
    action = session["steps"][0]["actions"][0]
    assert (action["status"], action["error"]["code"]) == ("invalid", "unknown_tool")
    assert "ran" not in action["observation"].split()


async def test_an_empty_list_of_tools_means_all(dev: Dev) -> None:
    """`tools: []` means none, and null means all."""
    none = await dev.ended(await dev.run(call("code_run", CODE), "demo: say ok", tools=[]))
    assert none["tools"] == []
    assert none["steps"][0]["actions"][0]["status"] == "invalid"
    everything = await dev.ended(await dev.run("demo: say ok", tools=None))
    assert sorted(everything["tools"]) == ["code_run", "sql_query", "web_fetch"]


async def test_the_returned_id_is_not_the_one_that_runs(dev: Dev) -> None:
    """The id of the answer is the id of the session and of its workflow."""
    from temporalio.client import Client

    session_id = await dev.run("demo: say ok")
    assert (await dev.ended(session_id))["session_id"] == session_id
    client = await Client.connect(dev.runtime.temporal_address)
    result = await client.get_workflow_handle(session_id).result()
    assert result["session_id"] == session_id


async def test_parameter_names_never_reach_the_model(models: tuple[Dev, FakeAnthropic, FakeOpenAI]) -> None:
    """The JSON Schema of every tool reaches Claude, OpenAI-compatible models, and models that are prompted for ReAct."""
    dev, claude, budget = models
    before = len(claude.received), len(budget.received)
    claude.script.add(Reply(text="ok"))
    budget.script.add(Reply(text="ok"), Reply(text='{"thought": "t", "is_final": true, "final_answer": "ok"}'))
    for model in ("claude-sonnet-5-5", "openai:anything", "qwen/qwen-2.5-72b-instruct"):
        session = await dev.ended(await dev.run("hello", model=model))
        assert session["status"] == "completed", (model, session["error"])
        assert session["final_answer"] == "ok"
    sent = [request.json for request in (*claude.received[before[0] :], *budget.received[before[1] :])]
    assert len(sent) == 3
    for body in sent:
        text = json.dumps(body)
        assert all(name in text for name in ("max_rows", "language", "headers")), body["model"]


async def test_fenced_json_or_an_unknown_tool_fails_the_run(models: tuple[Dev, FakeAnthropic, FakeOpenAI]) -> None:
    """JSON in a code fence is read; a tool that does not exist is an observation; the run goes on."""
    dev, _, budget = models
    action = {"thought": "t", "action": {"tool_name": "no_such", "arguments": {}}, "is_final": False}
    final = {"thought": "t", "is_final": True, "final_answer": "done"}
    budget.script.add(
        Reply(text=f"Here you are:\n```json\n{json.dumps(action)}\n```"), Reply(text=f"```\n{json.dumps(final)}\n```")
    )
    session = await dev.ended(await dev.run("hello", model="qwen/qwen-2.5-72b-instruct"))
    assert (session["status"], session["final_answer"]) == ("completed", "done")
    assert session["steps"][0]["actions"][0]["error"]["code"] == "unknown_tool"


async def test_exhausted_steps_called_completed(dev: Dev) -> None:
    """A session that used all its steps is failed, with the reason."""
    lines = [call("code_run", CODE)] * 3
    session = await dev.ended(await dev.run(*lines, "demo: say ok", max_steps=2))
    assert (session["status"], session["stop_reason"], session["error"]["code"]) == ("failed", "max_steps", "max_steps")


async def test_errors_swallowed(dev: Dev) -> None:
    """A failing tool is told as failed with its reason; a failing model ends the session with code and sentence."""
    bad = await dev.ended(await dev.run(call("code_run", {**CODE, "code": "raise SystemExit(3)"}), "demo: say ok"))
    assert bad["steps"][0]["actions"][0]["error"]["code"] == "nonzero_exit"
    failed = await dev.ended(await dev.run("demo: fail authentication"))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "model_authentication")
    assert failed["error"]["message"]


async def test_opus_billed_as_sonnet(models: tuple[Dev, FakeAnthropic, FakeOpenAI]) -> None:
    """Each model is billed at its own price, by the catalog's figures."""
    dev, claude, _ = models
    for model in ("claude-opus-4-5-20251101", "claude-sonnet-5-5"):
        claude.script.add(Reply(text="ok", input_tokens=1_000_000, output_tokens=1_000_000))
        session = await dev.ended(await dev.run("hello", model=model))
        price = (await dev.http.get(f"/v1/models/{model}")).json()
        rates = price["price"]["rates"]
        assert session["total_cost_usd"] == pytest.approx(float(rates["input"]) + float(rates["output"])), model


async def test_no_tools_registered(dev: Dev) -> None:
    """All three tools are there as soon as the stack is."""
    names = [tool["name"] for tool in (await dev.http.get("/v1/tools")).json()["tools"]]
    assert names == ["code_run", "sql_query", "web_fetch"]


async def test_no_tenancy_on_reads(dev: Dev) -> None:
    """Another org's key sees neither session nor approval, warm or cold, and the answer is that of an unknown id."""
    session_id = await dev.run(call("sql_query", READ), "demo: say ok")
    approval = await dev.pending(session_id)
    await dev.get(session_id)
    code, output = await dev.conductor("keys", "create", "--name", "other", "--role", "admin", "--org", "other")
    assert code == 0, output
    other = {"Authorization": f"Bearer {output.split()[-1]}"}
    for path in (f"/v1/agents/{session_id}", f"/v1/approvals/{approval['id']}"):
        unknown = path[:-8] + "0" * 8
        seen = await dev.http.get(path, headers=other)
        missing = await dev.http.get(unknown, headers=other)
        assert seen.status_code == missing.status_code == 404
        assert {**seen.json(), "instance": "", "request_id": ""} == {**missing.json(), "instance": "", "request_id": ""}
    assert (await dev.http.post(f"/v1/agents/{session_id}/cancel", headers=other)).status_code == 404
    body = {"decision": "approve", "arguments_sha256": approval["arguments_sha256"]}
    assert (
        await dev.http.post(f"/v1/approvals/{approval['id']}/decision", json=body, headers=other)
    ).status_code == 404
    assert (await dev.http.get("/v1/approvals", headers=other)).json()["data"] == []
    assert (await dev.http.get("/v1/agents", headers=other)).json()["data"] == []
    await dev.decide(approval, "deny")


async def test_a_live_session_expires_with_its_cache_entry(dev: Dev) -> None:
    """A session that waits is there after Redis has forgotten everything, and can be decided."""
    session_id = await dev.run(call("sql_query", READ), "demo: say ok")
    approval = await dev.pending(session_id)
    client = redis.asyncio.Redis.from_url(dev.runtime.redis_url)
    try:
        await client.flushall()
    finally:
        await client.aclose()
    assert (await dev.get(session_id))["status"] == "running"
    await dev.decide(approval, "approve")
    assert (await dev.ended(session_id))["status"] == "completed"


async def test_a_finished_run_turned_to_failed_by_a_store_error(dev: Dev) -> None:
    """Killing Postgres and Redis around the end delays it; it does not change it."""
    session_id = await dev.run("demo: slow 1", "demo: say ok")
    pids = {name: dev.kill(name) for name in ("postgres", "redis")}
    for name, pid in pids.items():
        await dev.replaced(name, pid, seconds=60)

    async def back() -> bool:
        return (await dev.http.get(f"/v1/agents/{session_id}")).status_code == 200

    from tests.fixtures_servers import wait_until

    await wait_until(back, "the API to read again", 60)
    session = await dev.ended(session_id, seconds=60)
    assert (session["status"], session["final_answer"]) == ("completed", "[demo model] ok")


async def test_a_cancel_overwritten_by_completion(dev: Dev) -> None:
    """A cancel that was accepted is what the session ends with, however near its end it came; else it is a 409."""
    outcomes = set()
    for pause in ("0.0", "0.1", "0.2", "0.3", "0.4"):
        session_id = await dev.run(f"demo: slow {pause}", "demo: say ok")
        response = await dev.http.post(f"/v1/agents/{session_id}/cancel")
        session = await dev.ended(session_id)
        outcomes.add(session["status"])
        assert (response.status_code, session["status"]) in ((200, "cancelled"), (202, "cancelled"), (409, "completed"))
    assert "cancelled" in outcomes


async def test_system_messages_rejected(models: tuple[Dev, FakeAnthropic, FakeOpenAI]) -> None:
    """A `system` message is taken and reaches the model as its system prompt, beside `system_prompt`."""
    dev, claude, _ = models
    claude.script.add(Reply(text="ok"))
    body = {
        "model": "claude-sonnet-5-5",
        "system_prompt": "Be brief.",
        "messages": [{"role": "system", "content": "Speak Dutch."}, {"role": "user", "content": "hello"}],
    }
    response = await dev.http.post("/v1/agents/run?wait=20", json=body)
    assert response.json()["status"] == "completed"
    system = json.dumps(claude.received[-1].json["system"])
    assert "Be brief." in system
    assert "Speak Dutch." in system


async def test_what_was_approved_is_what_happens(dev: Dev) -> None:
    """An approved UPDATE that meets another number of rows than the person saw is rolled back, and asked again."""
    connection = await asyncpg.connect(dev.runtime.sql_url)
    try:
        count = "SELECT count(*) FROM products WHERE category = 'kitchen' AND stock = 7777"
        update = {"query": "UPDATE products SET stock = 7777 WHERE category = 'kitchen' AND name LIKE 'Hand grinder%'"}
        session_id = await dev.run(call("sql_query", update), "demo: say ok")
        approval = await dev.pending(session_id)
        await connection.execute(
            "INSERT INTO products (sku, name, category, price_eur, stock, updated_at) "
            "VALUES ('KIT-999', 'Hand grinder new', 'kitchen', 1, 1, now())"
        )
        await dev.decide(approval, "approve")
        waits = await dev.until(
            session_id,
            lambda now: [each["round"] for each in now["pending_approvals"]] == [2],
            "the second question",
        )
        assert await connection.fetchval(count) == 0
        await dev.decide(waits["pending_approvals"][0], "deny")
        session = await dev.ended(session_id)
        assert session["steps"][0]["actions"][0]["status"] == "denied"
        assert "people were asked again" in session["steps"][0]["observation"]
        assert await connection.fetchval(count) == 0
    finally:
        await connection.execute("DELETE FROM products WHERE sku = 'KIT-999'")
        await connection.close()
