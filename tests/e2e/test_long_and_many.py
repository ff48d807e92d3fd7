"""Long sessions, many sessions, short patience: on one stack with settings of its own."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from tests.fixtures_dev import Dev, dev_in, reachable_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
async def small() -> AsyncIterator[Dev]:
    """A stack that continues as new every 25 steps."""
    with reachable_folder() as folder:
        async with dev_in(folder / "data", CONDUCTOR_CONTINUE_AS_NEW_STEPS="25") as dev:
            yield dev


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder for a stack of the test's own."""
    with reachable_folder() as folder:
        yield folder


def call(tool: str, arguments: dict[str, Any]) -> str:
    """A directive of the demo model."""
    return f"demo: call {tool} {json.dumps(arguments)}"


async def history_bytes(client: Client, session_id: str) -> tuple[int, int]:
    """Bytes of all runs of a session's workflow, and how many runs there are."""
    total, runs = 0, 0
    async for run in client.list_workflows(f"WorkflowId = '{session_id}'"):
        described = await client.get_workflow_handle(session_id, run_id=run.run_id).describe()
        total += described.raw_description.workflow_execution_info.history_size_bytes
        runs += 1
    return total, runs


async def test_sixty_steps_with_large_results(small: Dev) -> None:
    """60 steps with 50 KB results, continued as new every 25: history under 3 KB a step, nothing lost at the seams."""
    steps = [call("code_run", {"code": f"print({i}); print('x' * 50000)", "language": "python"}) for i in range(1, 60)]
    session_id = await small.run(*steps, "demo: say The end.", max_steps=100)
    session = await small.ended(session_id, seconds=240)
    assert session["status"] == "completed", session["error"]
    assert [s["step_number"] for s in session["steps"]] == list(range(1, 61))
    assert all(s["observation"].startswith(f"{i}\n") for i, s in enumerate(session["steps"][:59], 1))
    assert all(len(s["observation"]) > 50_000 for s in session["steps"][:59])
    client = await Client.connect(small.runtime.temporal_address)

    async with asyncio.timeout(10):  # visibility follows by a moment
        while (found := await history_bytes(client, session_id))[1] < 3:
            await asyncio.sleep(0.1)
    total, runs = found
    assert runs == 3
    assert total / 60 < 3 * 1024, total
    short = await small.http.get(f"/v1/agents/{session_id}?steps=last")
    assert len(short.json()["steps"]) == 1


async def test_five_hundred_wait_and_one_more_answers(small: Dev) -> None:
    """500 sessions wait for approval on one worker; one more still answers at once, and one of the 500 wakes at once."""
    at_once = asyncio.Semaphore(20)

    async def start() -> str:
        async with at_once:
            return await small.run(call("sql_query", {"query": "SELECT 1"}), "demo: say ok")

    ids = await asyncio.gather(*(start() for _ in range(500)))

    async def all_wait() -> None:
        while True:
            listed = await small.http.get("/v1/approvals?status=pending&limit=200")
            page, count = listed.json(), len(listed.json()["data"])
            while page["has_more"]:
                page = (
                    await small.http.get(f"/v1/approvals?status=pending&limit=200&cursor={page['next_cursor']}")
                ).json()
                count += len(page["data"])
            if count >= 500:
                return
            await asyncio.sleep(0.5)

    await asyncio.wait_for(all_wait(), 240)
    before = time.monotonic()
    one_more = await small.http.post(
        "/v1/agents/run?wait=20", json={"model": "demo", "messages": [{"role": "user", "content": "demo: say quick"}]}
    )
    assert one_more.json()["final_answer"] == "[demo model] quick"
    answered = time.monotonic() - before
    approval = await small.pending(ids[0])
    before = time.monotonic()
    assert (await small.decide(approval, "approve")).status_code == 200
    assert (await small.ended(ids[0]))["status"] == "completed"
    woke = time.monotonic() - before
    assert answered < 5, f"{answered:.2f} s"
    assert woke < 5, f"{woke:.2f} s"


async def test_late_is_expired(reachable: Path) -> None:
    """A decision after the expiry is 409 `approval_expired`; the model is told that nobody decided, not that it was denied."""
    async with dev_in(reachable / "data", CONDUCTOR_APPROVAL_TTL_SECONDS="1") as dev:
        session_id = await dev.run(call("sql_query", {"query": "SELECT 1"}), "demo: say ok")
        approval = await dev.pending(session_id)
        session = await dev.ended(session_id)
        late = await dev.decide(approval, "approve")
    assert (late.status_code, late.json()["code"]) == (409, "approval_expired")
    assert session["status"] == "completed"
    assert session["steps"][0]["actions"][0]["status"] == "expired"
    assert "not a denial" in session["steps"][0]["observation"]
