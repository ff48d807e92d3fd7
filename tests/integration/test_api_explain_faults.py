"""Why does it not move, where the server itself is at fault: code that cannot run a session, a store that a worker lost."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client

from conductor_ai import names
from conductor_ai.contracts.explain import Reason
from conductor_ai.contracts.session import SessionInput, SessionResult
from conductor_ai.stores.hot import Hot
from tests.fixtures_api import Api
from tests.fixtures_line import Line
from tests.gates import Changed, Held, activity_worker, workflow_worker
from tests.integration.test_api_explain import moment, stack, start, until, why
from tests.rig import answer, calls
from tests.tools import FakeTool
from workflows.loop import End
from workflows.session import Session

QUERY = calls(("sql_query", {"text": "x"}))


@workflow.defn(name=names.WORKFLOW)
class Faulty(Session):
    """The session with a fault that every task meets."""

    @workflow.init
    def __init__(self, session: SessionInput) -> None:
        super().__init__(session)

    @workflow.run
    async def run(self, session: SessionInput) -> SessionResult:
        """As before."""
        return await super().run(session)

    async def _until_deadline(self) -> End:
        raise RuntimeError("swordfish")


async def _waiting(api: Api) -> tuple[str, dict[str, Any]]:
    """A session that waits for a decision, and its approval."""
    session_id = await start(api, "sql_query")
    await until(api, session_id, "awaiting_approval")
    [approval] = (await api.get(f"/v1/agents/{session_id}")).json()["pending_approvals"]
    return session_id, approval


@pytest.mark.parametrize("code", [Changed, Faulty], ids=["nondeterministic", "raises"])
async def test_workers_that_cannot_run_its_code(
    code: type[Session], temporal: Client, store_url: str, hot: Hot
) -> None:
    """A session meets workers whose code does not fit it, as after a careless upgrade: that is told, and how often they
    tried; the session is kept, and goes on when the right code comes back."""
    replies, tools = [QUERY, answer("Fine.")], [FakeTool("sql_query")]
    async with (
        stack(temporal, store_url, hot, run=False, replies=replies, tools=tools) as (api, r),
        activity_worker(r),
    ):
        async with workflow_worker(r):
            session_id, approval = await _waiting(api)
        async with workflow_worker(r, code):
            decided = await api.decide(approval)
            assert decided.status_code == 202, decided.text
            found = await until(api, session_id, "workflow_task_failing")
        task = found["facts"]["engine"]["workflow_task"]
        assert task["attempt"] >= 2
        assert f"this is attempt {task['attempt']}" in found["sentence"]
        assert (found["waits_for"], found["facts"]["engine"]["workflow"]) == ("operator", "running")
        assert "swordfish" not in str(found)
        async with workflow_worker(r):
            assert "completed (final_answer)" in (await until(api, session_id, "ended", 60))["sentence"]


async def test_a_worker_that_lost_the_store(temporal: Client, store_url: str, hot: Hot) -> None:
    """A decision is taken and the worker cannot write what comes of it: when it tries again, and why it did not work. Once
    it reaches the store the session goes on where it was."""
    replies, tools = [QUERY, answer("As you say.")], [FakeTool("sql_query")]
    async with (
        Line(store_url).up() as line,
        stack(temporal, store_url, hot, worker_url=line.url, replies=replies, tools=tools) as (api, _),
    ):
        session_id, approval = await _waiting(api)
        line.cut()
        denied = await api.decide(approval, "deny")
        assert denied.status_code == 200, denied.text
        found = await until(api, session_id, "store_retry")
        [pending] = found["facts"]["engine"]["activities"]
        assert (pending["activity"], pending["state"]) == ("record", "scheduled")
        assert pending["attempt"] >= 2
        assert found["until"] == pending["next_attempt_at"]
        assert moment(found["until"]) > moment(found["facts"]["at"])
        assert f"What came out could not be written down ({pending['last_failure']})" in found["sentence"]
        assert "database" in pending["last_failure"].lower()
        assert found["waits_for"] == "time"
        line.mend()
        assert "completed (final_answer)" in (await until(api, session_id, "ended", 60))["sentence"]


async def test_an_end_that_cannot_be_written(temporal: Client, store_url: str, hot: Hot) -> None:
    """The session has its answer and the store is gone: it says what it waits for, and ends when the store is back."""
    model = Held([answer()], 1)
    async with (
        Line(store_url).up() as line,
        stack(temporal, store_url, hot, worker_url=line.url, provider=model) as (api, r),
    ):
        session_id = await start(api)
        await asyncio.wait_for(model.asked.wait(), 20)
        handle = r.handle(session_id)
        line.cut()
        await handle.cancel()
        found = await until(api, session_id, "store_retry")
        assert found["facts"]["engine"]["activities"][0]["activity"] == "finish"
        line.mend()
        await until(api, session_id, "ended", 60)


async def test_nothing_holds_it_up(api: Api) -> None:
    """Its workflow runs and has nothing outstanding: that is said, with its phase and its last change."""
    session_id = await api.start()
    found = await until(api, session_id, "moving")
    assert "Nothing holds it up: it is in the phase queued" in found["sentence"]
    assert (found["waits_for"], found["also"]) == ("time", [])
    assert moment((await why(api, session_id))["facts"]["stored"]["updated_at"]) <= datetime.now(UTC)


def test_every_reason_was_made_to_happen() -> None:
    """No reason is known from a table alone: each is asked for over HTTP, in this module or the one beside it."""
    here = Path(__file__)
    text = "".join(path.read_text("utf-8") for path in (here, here.with_name("test_api_explain.py")))
    asked = set(re.findall(r'"([a-z_]+)"', text))
    assert {reason.value for reason in Reason} <= asked
