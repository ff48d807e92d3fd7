"""`kill -9` at the worst moments, on the whole stack: the session goes on within 15 s, and nothing happens twice."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from temporalio.client import Client

from conductor_ai.embedded.temporal import program
from tests.fixtures_dev import Dev, dev_in, reachable_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GOES_ON_SECONDS = 15.0


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[tuple[Dev, Path]]:
    """A stack of this module's own, whose worker can be told to die after a commit."""
    root = Path(__file__).parent.parent.parent
    with reachable_folder() as folder:
        fault = folder / "die-after-commit"
        async with dev_in(
            folder / "data",
            CONDUCTOR_TOOL_MODULES="tests.chaos.faults",
            CONDUCTOR_FAULT_FILE=str(fault),
            CONDUCTOR_RECONCILE_SECONDS="1",
            PYTHONPATH=str(root),
        ) as dev:
            yield dev, fault


def call(tool: str, arguments: dict[str, Any]) -> str:
    """A directive of the demo model."""
    return f"demo: call {tool} {json.dumps(arguments)}"


async def killed_in(dev: Dev, session_id: str, phase: str) -> float:
    """SIGKILL the worker once the session is in a phase. Returns when."""
    await dev.until(session_id, lambda s: s["phase"] == phase, phase)
    pid = dev.kill("worker")
    at = time.monotonic()
    await dev.replaced("worker", pid)
    return at


async def test_during_a_model_call(stack: tuple[Dev, Path]) -> None:
    """The call is repeated; the step before it is not."""
    dev, _ = stack
    session_id = await dev.run(
        call("code_run", {"code": "print('once')", "language": "python"}), "demo: slow 4", "demo: say The end."
    )
    await dev.until(session_id, lambda s: len(s["steps"]) == 1 and s["phase"] == "thinking", "the second model call")
    first = (await dev.get(session_id))["steps"][0]
    pid = dev.kill("worker")
    at = time.monotonic()
    await dev.replaced("worker", pid)
    session = await dev.ended(session_id)
    assert time.monotonic() - at < GOES_ON_SECONDS + 4
    assert (session["status"], session["final_answer"]) == ("completed", "[demo model] The end.")
    assert session["steps"][0] == first


async def test_during_a_sandbox_run(stack: tuple[Dev, Path]) -> None:
    """Code is run again, its predecessor is gone, and the model is told one result."""
    dev, _ = stack
    code = "import time; time.sleep(2); print('ran')"
    session_id = await dev.run(call("code_run", {"code": code, "language": "python", "timeout": 20}), "demo: say ok")
    at = await killed_in(dev, session_id, "calling_tool")
    session = await dev.ended(session_id)
    assert time.monotonic() - at < GOES_ON_SECONDS + 2
    assert session["steps"][0]["observation"].strip() == "ran"


async def test_during_a_fetch(stack: tuple[Dev, Path]) -> None:
    """A page that was being fetched is fetched again."""
    dev, _ = stack
    page = dev.runtime.pids["page"]
    os.kill(page, signal.SIGSTOP)  # the page hangs until the worker is dead
    try:
        session_id = await dev.run(call("web_fetch", {"url": dev.runtime.page_url}), "demo: say ok")
        at = await killed_in(dev, session_id, "calling_tool")
    finally:
        os.kill(page, signal.SIGCONT)
    session = await dev.ended(session_id)
    assert time.monotonic() - at < GOES_ON_SECONDS
    assert "price note" in session["steps"][0]["observation"]


async def test_during_a_query(stack: tuple[Dev, Path]) -> None:
    """An approved query that only reads is run again; nobody is asked twice."""
    dev, _ = stack
    slow = {"query": "SELECT count(*) AS n FROM generate_series(1, 20000000) AS g WHERE g % 7 = 3"}
    session_id = await dev.run(call("sql_query", slow), "demo: say ok")
    approval = await dev.pending(session_id)
    await dev.decide(approval, "approve")
    at = await killed_in(dev, session_id, "calling_tool")
    session = await dev.ended(session_id, seconds=60)
    assert time.monotonic() - at < GOES_ON_SECONDS + 10, "the query itself takes some seconds"
    assert "2857143" in session["steps"][0]["observation"]
    asked = (await dev.http.get(f"/v1/agents/{session_id}")).json()["steps"][0]["actions"]
    assert [action["approval_id"] for action in asked] == [approval["id"]]


async def test_while_waiting_for_approval(stack: tuple[Dev, Path]) -> None:
    """The wait survives; a decision taken right after the crash counts."""
    dev, _ = stack
    session_id = await dev.run(call("sql_query", {"query": "SELECT 40 + 2 AS n"}), "demo: say ok")
    approval = await dev.pending(session_id)
    dev.kill("worker")
    at = time.monotonic()
    answered = await dev.decide(approval, "approve")
    assert answered.status_code in (200, 202), answered.text
    session = await dev.ended(session_id)
    assert time.monotonic() - at < GOES_ON_SECONDS
    assert "42" in session["steps"][0]["observation"]
    decided = (await dev.http.get(f"/v1/approvals/{approval['id']}")).json()["decisions"]
    assert [d["verified"] for d in decided if d["counted"]] == [True], "who decided is known, however it travelled"


async def test_between_commit_and_report(stack: tuple[Dev, Path]) -> None:
    """The worker dies after the UPDATE has committed: it happened once, and its result is told all the same."""
    dev, fault = stack
    connection = await asyncpg.connect(dev.runtime.sql_url)
    try:
        stock = "SELECT stock FROM products WHERE sku = 'TEA-001'"
        before = await connection.fetchval(stock)
        session_id = await dev.run(
            call("sql_query", {"query": "UPDATE products SET stock = stock + 1 WHERE sku = 'TEA-001'"}), "demo: say ok"
        )
        approval = await dev.pending(session_id)
        pid = dev.runtime.pids["worker"]
        fault.touch()
        await dev.decide(approval, "approve")
        await dev.replaced("worker", pid)
        assert not fault.exists(), "the fault was injected"
        session = await dev.ended(session_id)
        assert session["status"] == "completed"
        assert session["steps"][0]["actions"][0]["status"] == "succeeded"
        assert await connection.fetchval(stock) == before + 1
    finally:
        await connection.close()


async def test_the_api_dies(stack: tuple[Dev, Path]) -> None:
    """A session does not notice that the API was killed; the API comes back and shows it."""
    dev, _ = stack
    session_id = await dev.run("demo: slow 2", "demo: say still here")
    pid = dev.kill("api")
    await dev.replaced("api", pid)

    async def ended() -> dict[str, Any]:
        while True:
            try:
                return await dev.ended(session_id)
            except OSError:
                await asyncio.sleep(0.1)
            except Exception as error:
                if "connect" not in type(error).__name__.lower():
                    raise
                await asyncio.sleep(0.1)

    assert (await ended())["status"] == "completed"


async def test_temporal_dies(stack: tuple[Dev, Path]) -> None:
    """Temporal's server is killed in mid-session: reads go on meanwhile, the session goes on after it is back."""
    dev, _ = stack
    session_id = await dev.run(
        "demo: slow 2", call("code_run", {"code": "print(1)", "language": "python"}), "demo: say ok"
    )
    pid = dev.kill("temporal")
    assert (await dev.get(session_id))["status"] in ("pending", "running")
    await dev.replaced("temporal", pid)
    session = await dev.ended(session_id, seconds=60)
    assert session["status"] == "completed"
    assert len(session["steps"]) == 2


async def test_terminated_in_temporal(stack: tuple[Dev, Path]) -> None:
    """A session whose workflow is terminated from Temporal's UI ends as failed, with the reason, within seconds."""
    dev, _ = stack
    session_id = await dev.run(call("sql_query", {"query": "SELECT 1"}), "demo: say ok")
    approval = await dev.pending(session_id)
    client = await Client.connect(dev.runtime.temporal_address)
    await client.get_workflow_handle(session_id).terminate("by hand")
    session = await dev.ended(session_id)
    assert (session["status"], session["error"]["code"]) == ("failed", "terminated")
    stored = (await dev.http.get(f"/v1/approvals/{approval['id']}")).json()
    assert stored["status"] == "cancelled"
    late = await dev.decide(approval, "approve")
    assert late.status_code == 409


async def test_reset_to_the_beginning_in_temporal(stack: tuple[Dev, Path]) -> None:
    """A session that is reset to its start by Temporal's CLI goes the same way again without doing anything twice."""
    dev, _ = stack
    connection = await asyncpg.connect(dev.runtime.sql_url)
    try:
        stock = "SELECT stock FROM products WHERE sku = 'TEA-002'"
        before = await connection.fetchval(stock)
        session_id = await dev.run(
            call("code_run", {"code": "import time; print(time.time_ns())", "language": "python"}),
            call("sql_query", {"query": "UPDATE products SET stock = stock + 1 WHERE sku = 'TEA-002'"}),
            call("sql_query", {"query": "SELECT 'still here' AS said"}),
            "demo: say ok",
        )
        await dev.decide(await dev.pending(session_id), "approve")
        waiting = await dev.until(
            session_id, lambda s: len(s["steps"]) == 3 and bool(s["pending_approvals"]), "the second approval"
        )
        printed, asked = waiting["steps"][0]["observation"], waiting["pending_approvals"][0]
        reset = await asyncio.create_subprocess_exec(
            *(str(program()), "workflow", "reset", "--address", dev.runtime.temporal_address),
            *("--workflow-id", session_id, "--type", "FirstWorkflowTask", "--reason", "a test"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await reset.wait() == 0
        again = await dev.until(
            session_id,
            lambda s: len(s["steps"]) == 3 and bool(s["pending_approvals"]) and s["version"] > waiting["version"],
            "the session to be back where it was",
        )
        assert again["pending_approvals"][0]["call_id"] == asked["call_id"]
        assert (await dev.decide(again["pending_approvals"][0], "approve")).status_code == 200
        session = await dev.ended(session_id)
        assert session["status"] == "completed"
        assert session["steps"][0]["observation"] == printed, "the code was not run again"
        assert "still here" in session["steps"][2]["observation"]
        assert await connection.fetchval(stock) == before + 1
        assert session["input_tokens"] == again["input_tokens"] + session["steps"][3]["tokens"]["input"]
    finally:
        await connection.close()
