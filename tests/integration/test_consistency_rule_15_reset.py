"""Resets from Temporal's UI in mid-session: the new run completes, what was paid or has happened is not done again."""

import asyncio

from temporalio.client import Client, WorkflowExecutionStatus

from conductor_ai.contracts.decisions import VerdictKind
from conductor_ai.contracts.status import CallState, Status
from tests.fixtures_servers import wait_until
from tests.gates import Held, assert_agrees, reset_before
from tests.rig import ORG, Rig, answer, calls, rig
from tests.tools import FakeTool

FETCH = calls(("web_fetch", {"text": "x"}))
QUERY = calls(("sql_query", {"text": "select 1"}))


async def old_run_is_terminated(r: Rig, session_id: str, run_id: str) -> None:
    """A reset leaves its old run TERMINATED: whoever describes that one believes the session dead."""
    described = await r.client.get_workflow_handle(session_id, run_id=run_id).describe()
    assert described.status is WorkflowExecutionStatus.TERMINATED
    state = await r.engine.state(session_id)
    assert state is not None
    assert state[1] is WorkflowExecutionStatus.RUNNING
    assert await r.parts.reconciler.round() == 0


async def test_during_a_model_call(temporal: Client, store_url: str, task_queue: str) -> None:
    """Reset to before the call that is under way: it is asked again by the new run; the answer of the old one is fenced."""
    tool = FakeTool()
    provider = Held([FETCH, answer("of the old run"), answer("of the new run")], at=2)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        session_id = await r.start()
        await asyncio.wait_for(provider.asked.wait(), 20)
        old = await r.engine.current_run(session_id)
        assert old is not None
        new = await reset_before(r, session_id, "call_model", index=1)
        view = await r.ended(session_id)
        provider.go_on.set()
        await assert_agrees(r, session_id)
        assert await r.engine.current_run(session_id) == new != old
    assert (view.status, view.final_answer) == (Status.COMPLETED, "of the new run")
    assert len(tool.runs) == 1
    assert [step.step_number for step in view.steps] == [1, 2]


async def test_to_the_beginning_after_a_tool_ran(temporal: Client, store_url: str, task_queue: str) -> None:
    """Everything is replayed from the start: the first answer is found by its input, paid once, and its tool not run again."""
    tool = FakeTool()
    provider = Held([FETCH, answer("lost"), answer("end")], at=2)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        session_id = await r.start()
        await asyncio.wait_for(provider.asked.wait(), 20)
        before = await r.view(session_id)
        old = await r.engine.current_run(session_id)
        await reset_before(r, session_id, "call_model", index=0)
        await old_run_is_terminated(r, session_id, old or "")
        view = await r.ended(session_id)
        provider.go_on.set()
    assert view.status is Status.COMPLETED
    assert len(tool.runs) == 1
    assert len(provider.requests) == 3  # call 1 once, call 2 by both runs
    assert provider.inputs[1] == provider.inputs[2]
    assert view.steps[0].actions[0].call_id == before.steps[0].actions[0].call_id
    assert view.steps[0].tokens.input == 100


async def test_while_a_call_waits(temporal: Client, store_url: str, task_queue: str) -> None:
    """Reset to the start: the old approval is superseded and decides nothing; the same call is asked again, and runs once."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        [old] = await r.pending(session_id)
        await reset_before(r, session_id, "call_model", index=0)

        async def asked_again() -> bool:
            pending = (await r.view(session_id)).pending_approvals
            return bool(pending) and pending[0].id != old.id

        await wait_until(asked_again, "the new approval")
        [new] = await r.pending(session_id)
        gone = await r.snapshots.approval(ORG, old.id)
        assert (new.call_id, new.arguments_sha256) == (old.call_id, old.arguments_sha256)
        assert gone is not None
        assert gone.status == "superseded"
        assert (await r.decide(new, "approve")).kind is VerdictKind.ACCEPTED
        view = await r.ended(session_id)
    assert view.status is Status.COMPLETED
    assert len(tool.runs) == 1


async def test_to_before_the_question(temporal: Client, store_url: str, task_queue: str) -> None:
    """Reset to before `prepare_call`: the model call stays, and so does the approval that people already see."""
    tool = FakeTool("sql_query")
    async with rig(temporal, store_url, task_queue, replies=[QUERY, answer()], tools=[tool]) as r:
        session_id = await r.start()
        [old] = await r.pending(session_id)
        await reset_before(r, session_id, "prepare_call")

        async def extended() -> bool:
            pending = (await r.view(session_id)).pending_approvals
            return bool(pending) and pending[0].expires_at != old.expires_at

        await wait_until(extended, "the new run to ask")
        [now] = await r.pending(session_id)
        assert now.id == old.id
        assert (await r.decide(now, "deny")).kind is VerdictKind.ACCEPTED
        view = await r.ended(session_id)
    assert (view.status, view.steps[0].actions[0].status) == (Status.COMPLETED, CallState.DENIED)
    assert tool.runs == []


async def test_after_an_approved_call_ran(temporal: Client, store_url: str, task_queue: str) -> None:
    """What was approved and done is neither asked nor done again, however far back the reset goes."""
    tool = FakeTool("sql_query")
    provider = Held([QUERY, answer("lost"), answer("end")], at=2)
    async with rig(temporal, store_url, task_queue, provider=provider, tools=[tool]) as r:
        session_id = await r.start()
        [approval] = await r.pending(session_id)
        await r.decide(approval, "approve")
        await asyncio.wait_for(provider.asked.wait(), 20)
        await reset_before(r, session_id, "call_model", index=0)
        view = await r.ended(session_id)
        provider.go_on.set()
        stored = await r.snapshots.approval(ORG, approval.id)
    assert view.status is Status.COMPLETED
    assert len(tool.runs) == 1
    assert stored is not None
    assert (stored.status, stored.execution.state) == ("approved", "succeeded")


async def test_of_a_session_that_has_ended(temporal: Client, store_url: str, task_queue: str) -> None:
    """A finished session is reset: the new run asks nobody, changes nothing and ends as the row says."""
    tool = FakeTool()
    async with rig(temporal, store_url, task_queue, replies=[FETCH, answer("end")], tools=[tool]) as r:
        session_id = await r.start()
        before = await r.ended(session_id)
        new = await reset_before(r, session_id, "call_model", index=1)

        async def over() -> bool:
            state = await r.engine.state(session_id)
            return state is not None and state[0] == new and state[1] is not WorkflowExecutionStatus.RUNNING

        await wait_until(over, "the end of the new run")
        await assert_agrees(r, session_id)
        assert await r.view(session_id) == before
