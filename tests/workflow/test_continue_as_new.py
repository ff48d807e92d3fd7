"""Continue-as-new: whatever the workflow holds crosses to the next run, and nothing waits when it happens."""

import asyncio
from functools import partial

from temporalio.client import Client, WorkflowExecutionStatus

from conductor_ai.contracts.session import Carried
from conductor_ai.contracts.status import CallState, Status
from conductor_ai.names import DECIDE, STATE
from tests.fixtures_servers import wait_until
from tests.gates import Held, activity_worker, reset_before, workflow_worker
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool
from workflows.pending import EARLY_MAX

FETCH = calls(("web_fetch", {"text": "x"}))
QUERY = calls(("sql_query", {"text": "select 1"}))


async def test_early_decisions_cross(temporal: Client, store_url: str, task_queue: str) -> None:
    """A decision about a call that has not appeared yet crosses to the next run, and counts when the call appears.

    The call's id is known beforehand because a reset of the first run leaves its answer behind, which is reused.
    """
    tool, fetch = FakeTool("sql_query"), FakeTool("web_fetch")
    replies = [FETCH, FETCH, QUERY, answer()]
    async with (
        rig(temporal, store_url, task_queue, replies=replies, tools=[tool, fetch], run=False) as r,
        activity_worker(r),
    ):
        async with workflow_worker(r):
            session_id = await r.start(continue_as_new_steps=2)
            first = await r.engine.current_run(session_id)
            [approval] = await r.pending(session_id)
        assert await r.engine.current_run(session_id) != first
        again = await reset_before(r, session_id, "call_model", run_id=first)
        await r.signal(approval, "deny")
        async with workflow_worker(r):
            view = await r.ended(session_id)
        assert await r.engine.current_run(session_id) != again
    assert view.status is Status.COMPLETED
    assert view.steps[2].actions[0].status is CallState.DENIED
    assert view.steps[2].actions[0].call_id == approval.call_id
    assert (len(fetch.runs), tool.runs) == (2, [])


async def test_everything_is_carried(temporal: Client, store_url: str, task_queue: str) -> None:
    """Decided calls, early decisions, tally, counters: the second run answers with what the first one knew."""
    tool = FakeTool("sql_query")
    provider = Held([QUERY, answer()], at=2)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        session_id = await r.start(continue_as_new_steps=1)
        [approval] = await r.pending(session_id)
        for number in range(EARLY_MAX + 20):
            body = {"call_id": f"no call {number}", "decision": "approve", "arguments_sha256": "0" * 64}
            await r.handle(session_id).signal(DECIDE, body)
        first = await r.engine.current_run(session_id)
        await r.decide(approval, "approve", by="ann")
        await asyncio.wait_for(provider.asked.wait(), 20)
        assert await r.engine.current_run(session_id) != first
        carried = Carried.model_validate(await r.handle(session_id).query(STATE))
        again = await r.decide(approval, "deny", by="bob")
        provider.go_on.set()
        view = await r.ended(session_id)
        described = await r.client.get_workflow_handle(session_id, run_id=first).describe()
    assert described.status is WorkflowExecutionStatus.CONTINUED_AS_NEW
    assert (again.kind, again.decision and again.decision.by) == ("already_decided", "ann")
    assert (carried.steps, carried.next_call_no, carried.tally.input_tokens) == (1, 3, 100)
    assert len(carried.early) == EARLY_MAX
    assert (view.status, len(tool.runs)) == (Status.COMPLETED, 1)


async def test_a_deadline_crosses(temporal: Client, store_url: str, task_queue: str) -> None:
    """The deadline is a moment and not a span: a new run does not begin it anew."""
    provider = Held([FETCH, FETCH, answer()], at=3)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[FakeTool()]) as r:
        session_id = await r.start(continue_as_new_steps=1, deadline_seconds=2.0)
        view = await r.ended(session_id)
    assert view.times.deadline_at is not None
    assert view.times.ended_at is not None
    assert view.stop_reason == "deadline"
    assert 0 <= (view.times.ended_at - view.times.deadline_at).total_seconds() < 2


async def test_nothing_is_carried_over_a_waiting_call(temporal: Client, store_url: str, task_queue: str) -> None:
    """A call that waits keeps the run: continue-as-new happens at a step's end only, with every call of it settled."""
    tool = FakeTool("sql_query")
    replies = [QUERY, QUERY, answer()]
    async with rig(temporal, store_url, task_queue, replies=replies, tools=[tool]) as r:
        session_id = await r.start(continue_as_new_steps=1)
        runs = set()
        for _ in range(2):
            [approval] = await r.pending(session_id)
            runs.add(await r.engine.current_run(session_id))
            await r.decide(approval, "approve")
            await wait_until(partial(_closed, r, approval.id), "the decision to be written")
        view = await r.ended(session_id)
    assert (view.status, len(tool.runs), len(runs)) == (Status.COMPLETED, 2, 2)


async def _closed(r: Rig, approval_id: str) -> bool:
    shown = await r.snapshots.approval(ORG, approval_id)
    return shown is not None and shown.status != "pending"
