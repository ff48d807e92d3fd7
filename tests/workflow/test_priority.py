"""Organisations share the workers fairly, and what is quick goes before models and tools: as Temporal is told, and in effect."""

import asyncio

import pytest
from temporalio.client import Client

from activities.tools.base import Call
from conductor_ai import names
from conductor_ai.contracts.session import SessionInput
from conductor_ai.contracts.tools import Queue, ToolResult
from conductor_ai.contracts.views import ApprovalView
from conductor_ai.names import new_id
from conductor_ai.stores.sessions import Message, NewSession
from conductor_ai.testing import ScriptedProvider
from tests.fixtures_servers import wait_until
from tests.gates import ends_by_finish
from tests.rig import Rig, answer, calls, rig
from tests.tools import FakeTool, Say

CODE = calls(("code_run", {"text": "x"}))


async def start(r: Rig, org_id: str, tool: str) -> str:
    """Start a session of an organisation."""
    given = {"session_id": new_id("sess"), "org_id": org_id, "model": "demo", "tools": (tool,), "max_steps": 3}
    source = SessionInput.model_validate({**given, "continue_as_new_steps": 1})
    await r.sessions.create(NewSession(source, (Message("user", "x"),), title="x"), None)
    await r.engine.start(source)
    return source.session_id


async def test_what_temporal_is_told(
    temporal: Client, store_url: str, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run of the workflow has the organisation as its fairness key, also after it continued as new; what asks people,
    records and ends is ahead; and an activity that names nothing inherits what its workflow has."""
    ends_by_finish(monkeypatch)
    asks = calls(("sql_query", {"text": "x"}))
    async with rig(temporal, store_url, task_queue, replies=[asks, answer()], tools=[FakeTool("sql_query")]) as r:
        org_id = new_id("org")
        session_id = await start(r, org_id, "sql_query")
        handle = r.client.get_workflow_handle(session_id)
        found: list[ApprovalView] = []

        async def waits() -> bool:
            view = await r.snapshots.build(org_id, session_id)
            found[:] = view.pending_approvals if view else ()
            return bool(found)

        await wait_until(waits, "the approval")
        first = await handle.describe()
        await r.signal(found[0], "deny")
        await handle.result()
        told: dict[str, tuple[int, str]] = {}
        runs = {first.run_id, await r.engine.current_run(session_id)}
        assert len(runs) == 2, "so that it has continued as new"
        for run_id in runs:
            history = await r.client.get_workflow_handle(session_id, run_id=run_id).fetch_history()
            begun = history.events[0].workflow_execution_started_event_attributes.priority
            assert (begun.priority_key, begun.fairness_key) == (3, org_id)
            for event in history.events:
                if event.HasField("activity_task_scheduled_event_attributes"):
                    scheduled = event.activity_task_scheduled_event_attributes
                    told[scheduled.activity_type.name] = (
                        scheduled.priority.priority_key,
                        scheduled.priority.fairness_key,
                    )
    assert told == {
        "call_model": (0, ""),
        "prepare_call": (2, org_id),
        "record": (2, org_id),
        "finish": (2, org_id),
    }, "0 and nothing: inherited"


async def test_one_organisation_does_not_hold_up_another(temporal: Client, store_url: str, task_queue: str) -> None:
    """Thirty calls of one organisation wait for the one place of the sandbox; the only call of another is soon served."""
    order: list[str] = []
    go_on = asyncio.Event()

    async def run(_arguments: Say, call: Call) -> ToolResult:
        order.append(call.session_id)
        await go_on.wait()
        return ToolResult(ok=True, content="ok")

    tool = FakeTool("code_run", run, queue=Queue.SANDBOX)
    provider = ScriptedProvider([CODE] * 31)
    async with rig(
        temporal,
        store_url,
        task_queue,
        provider=provider,
        tools=[tool],
        sandbox_concurrency=1,
        max_cached_workflows=100,
    ) as r:
        many = [await start(r, "org_many", "code_run") for _ in range(30)]

        async def queued(session_id: str) -> bool:
            described = await r.client.get_workflow_handle(session_id).describe()
            return [item.activity_type.name for item in described.raw_description.pending_activities] == ["run_tool"]

        for session_id in many:
            await wait_until(lambda session_id=session_id: queued(session_id), "the calls to queue", 30)  # type: ignore[misc]
        one = await start(r, "org_one", "code_run")
        await wait_until(lambda: queued(one), "the other's call to queue", 30)
        go_on.set()

        async def served() -> bool:
            return one in order

        await wait_until(served, "the other's call", 60)
        assert len(order) <= 8, order.index(one)
        for session_id in (*many, one):
            await r.client.get_workflow_handle(session_id).result()


def test_the_key_fits_temporal() -> None:
    """At most 64 bytes, whatever the organisation is called."""
    assert names.priority("o" * 200).fairness_key == "o" * 64
